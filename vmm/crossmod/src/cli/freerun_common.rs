//! The common part of the free-running commands.

use clap::ValueEnum;
use crossmod::CheckError;
use crossmod::host::emulated;
use crossmod::machine::{MachineError, catch_signals};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use super::{Failure, HARNESS, HARNESS_ERROR, INTERRUPTED, SKIPPED};

/// Forms of a result, including a page.
#[derive(Clone, Copy, PartialEq, ValueEnum)]
pub enum Format {
    Text,
    Json,
    Html,
}

/// Refuses emulated CPUs, whose results would say nothing about silicon. From now on a signal ends a run in order.
pub fn begin() -> Result<(), Failure> {
    if emulated() {
        let message = "skipped: this CPU is emulated (QEMU/TCG): what it does with stores to code says nothing about \
                       silicon, and its times mean nothing";
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

/// The exit status of a run, which may have been interrupted.
pub fn end(interrupted: bool, status: u8) -> u8 {
    if interrupted {
        eprintln!("interrupted: what is printed is what was known until then");
        return INTERRUPTED;
    }
    status
}

/// A progress bar in thousandths, on a terminal.
pub fn progress() -> ProgressBar {
    let bar = ProgressBar::new(1000);
    if let Ok(style) = ProgressStyle::with_template("{wide_bar} {msg} {elapsed}") {
        bar.set_style(style);
    }
    bar
}
