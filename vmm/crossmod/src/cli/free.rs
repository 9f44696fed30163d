//! What the commands of the free-running tier share.

use clap::ValueEnum;
use crossmod::CheckError;
use crossmod::host::emulated;
use crossmod::machine::{MachineError, catch_signals};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use super::{Failure, HARNESS, HARNESS_ERROR, INTERRUPTED, SKIPPED};

/// Forms of a result that can be a page.
#[derive(Clone, Copy, PartialEq, ValueEnum)]
pub enum Format {
    Text,
    Json,
    Html,
}

/// No claims about silicon where there is none; and from now on a signal ends a run in order.
pub fn begin() -> Result<(), Failure> {
    if emulated() {
        let message = "skipped: this CPU is an emulation (QEMU/TCG). What it does with stores to code says nothing \
                       about silicon, and its times mean nothing.";
        return Err(Failure { status: SKIPPED, message: message.into() });
    }
    catch_signals().map_err(fail)
}

/// A failure of the machine.
pub fn fail(error: MachineError) -> Failure {
    Failure::of(CheckError::Machine(error))
}

/// A result as JSON.
pub fn json(result: &impl Serialize) -> Result<String, Failure> {
    serde_json::to_string_pretty(result)
        .map_err(|error| Failure { status: HARNESS, message: format!("{HARNESS_ERROR}{error}") })
}

/// The status of a run, or that it was interrupted.
pub fn end(interrupted: bool, status: u8) -> u8 {
    if interrupted {
        eprintln!("interrupted: what is printed is what was known until then");
        return INTERRUPTED;
    }
    status
}

/// On a terminal: how far a run is, in thousandths.
pub fn progress() -> ProgressBar {
    let bar = ProgressBar::new(1000);
    if let Ok(style) = ProgressStyle::with_template("{wide_bar} {msg} {elapsed}") {
        bar.set_style(style);
    }
    bar
}
