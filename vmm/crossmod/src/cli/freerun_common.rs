//! The common part of the free-running commands.

use crossmod::host::emulated;
use crossmod::machine::catch_signals;
use indicatif::ProgressBar;

use super::progress::bar;
use super::{Exit, Failure};

/// Refuses emulated CPUs, whose results would say nothing about silicon. From now on a signal ends a run in order.
pub fn begin() -> Result<(), Failure> {
    if emulated() {
        let message = "this CPU is an emulation (QEMU/TCG). What it does with stores to code says nothing \
                       about silicon, and its times mean nothing.";
        return Err(Failure::Skipped(message.into()));
    }
    Ok(catch_signals()?)
}

/// The status of a run, or that it was interrupted.
pub fn end(interrupted: bool, exit: Exit) -> Exit {
    if interrupted { Exit::interrupted() } else { exit }
}

/// A progress bar in thousandths, on a terminal.
pub fn progress() -> ProgressBar {
    bar("{wide_bar} {msg} {elapsed}", 1000)
}
