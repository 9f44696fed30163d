//! Exit statuses, and the failures that end a command.

use std::fmt::Display;
use std::path::Path;
use std::process::ExitCode;

use crossmod::machine::MachineError;
use crossmod::results::{Report, Status};
use crossmod::{CheckError, suite::SuiteError};
use itertools::Itertools;
use thiserror::Error;

/// How a command ended; the value is the exit status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Every expectation held.
    Held = 0,
    /// An expectation did not hold.
    NotHeld = 1,
    /// The input cannot be used.
    Unusable = 2,
    /// Nothing could be run here.
    Skipped = 4,
    /// Crossmod or the host failed, or a trace was not reproduced: there is no verdict.
    Harness = 70,
    /// SIGINT or SIGTERM ended the run: 128 + SIGINT, as a shell reports it.
    Interrupted = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}

impl Exit {
    /// The exit of a run that gave these reports. An interruption is also noted on standard error.
    pub fn of(reports: &[Report]) -> Exit {
        let is = |status| move |report: &Report| report.status == status;
        if reports.iter().any(is(Status::HarnessError)) {
            Exit::Harness
        } else if reports.iter().any(Report::interrupted) {
            Exit::interrupted()
        } else if reports.iter().any(|report| !report.holds()) {
            Exit::NotHeld
        } else if !reports.is_empty() && reports.iter().all(is(Status::Skipped)) {
            Exit::Skipped
        } else {
            Exit::Held
        }
    }

    /// The exit of a run that was cut short; notes on standard error that its output is incomplete.
    pub fn interrupted() -> Exit {
        eprintln!("interrupted: the output covers only what was known until then");
        Exit::Interrupted
    }
}

/// The end of a command that has no result.
#[derive(Debug, Error)]
pub enum Failure {
    /// The input cannot be used; the message is complete.
    #[error("{0}")]
    Unusable(String),
    /// Nothing could be run here.
    #[error("skipped: {0}")]
    Skipped(String),
    /// A trace was not reproduced; the message is complete.
    #[error("{0}")]
    NotReproduced(String),
    /// Crossmod or the host failed.
    #[error("harness error: {0}")]
    Harness(String),
    /// SIGINT or SIGTERM.
    #[error("{}", MachineError::Interrupted)]
    Interrupted,
}

impl Failure {
    /// Input that cannot be used: what is wrong with it, and what to do.
    pub fn unusable(message: impl Display) -> Failure {
        Failure::Unusable(format!("error: {message}"))
    }

    /// A file that cannot be used: why, and what to do.
    pub fn file(path: &Path, why: impl Display) -> Failure {
        Failure::unusable(format_args!("{}: {why}", path.display()))
    }

    /// A failure of Crossmod or of the host.
    pub fn harness(error: impl Display) -> Failure {
        Failure::Harness(error.to_string())
    }

    /// The exit status.
    pub fn exit(&self) -> Exit {
        match self {
            Failure::Unusable(_) => Exit::Unusable,
            Failure::Skipped(_) => Exit::Skipped,
            Failure::NotReproduced(_) | Failure::Harness(_) => Exit::Harness,
            Failure::Interrupted => Exit::Interrupted,
        }
    }
}

impl From<CheckError> for Failure {
    fn from(error: CheckError) -> Failure {
        match error {
            CheckError::Scenario(error) => Failure::Unusable(format!("{:?}", miette::Report::new(error))),
            CheckError::Trace(error) => Failure::unusable(error),
            CheckError::Machine(error) => error.into(),
            CheckError::Start(error) => Failure::unusable(error),
            error @ (CheckError::Engine(_) | CheckError::Inconsistent(_)) => Failure::harness(error),
        }
    }
}

impl From<MachineError> for Failure {
    fn from(error: MachineError) -> Failure {
        match error {
            MachineError::NoKvm { .. } | MachineError::Unavailable(_) => Failure::Skipped(format!(
                "{error}\nExploring runs on KVM. On a machine without it, `crossmod list` and `crossmod show` still work."
            )),
            MachineError::NotHere(_) => Failure::Skipped(error.to_string()),
            MachineError::Interrupted => Failure::Interrupted,
            error => Failure::Harness(chain(&error)),
        }
    }
}

impl From<crossmod::scenario::ScenarioError> for Failure {
    fn from(error: crossmod::scenario::ScenarioError) -> Failure {
        CheckError::Scenario(error).into()
    }
}

impl From<SuiteError> for Failure {
    fn from(error: SuiteError) -> Failure {
        match error {
            SuiteError::Scenario(error) => error.into(),
            error => Failure::unusable(error),
        }
    }
}

/// An error with its sources.
fn chain(error: &dyn std::error::Error) -> String {
    std::iter::successors(Some(error), |error| error.source()).join(": ")
}
