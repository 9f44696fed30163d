//! The common part of the free-running commands.

use clap::ValueEnum;
use crossmod::host::emulated;
use crossmod::machine::{MachineError, catch_signals};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use super::{Exit, Failure};

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
        let message = "this CPU is an emulation (QEMU/TCG). What it does with stores to code says nothing \
                       about silicon, and its times mean nothing.";
        return Err(Failure::Skipped(message.into()));
    }
    catch_signals().map_err(fail)
}

/// A failure of the machine.
pub fn fail(error: MachineError) -> Failure {
    error.into()
}

/// A result as JSON.
pub fn json(result: &impl Serialize) -> Result<String, Failure> {
    serde_json::to_string_pretty(result).map_err(Failure::harness)
}

/// The status of a run, or that it was interrupted.
pub fn end(interrupted: bool, exit: Exit) -> Exit {
    if interrupted { Exit::interrupted() } else { exit }
}

/// A progress bar in thousandths, on a terminal.
pub fn progress() -> ProgressBar {
    let bar = ProgressBar::new(1000);
    if let Ok(style) = ProgressStyle::with_template("{wide_bar} {msg} {elapsed}") {
        bar.set_style(style);
    }
    bar
}
