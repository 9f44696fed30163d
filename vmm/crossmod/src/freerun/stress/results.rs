//! The results of a run, as data.

use std::io;
use std::path::PathBuf;

use serde::Serialize;
use thiserror::Error;

use super::finding::{Circumstances, StressFinding};
use super::judge::StressCounts;
use super::stressable::Refusal;
use crate::freerun::messages::Messages;
use crate::machine::MachineError;
use crate::property::Property;

/// Why there is no result.
#[derive(Debug, Error)]
pub enum StressError {
    /// The scenario cannot run at full speed.
    #[error("{}", .0.reason)]
    NotStressable(Refusal),
    /// The directory for findings cannot be created. Nothing was run.
    #[error("{}: {source}", path.display())]
    Output {
        /// The directory or file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// A finding could not be written. The run ended.
    #[error("{}: {source}", path.display())]
    Lost {
        /// The directory or file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
        /// All findings so far. Some may be on disk.
        findings: Vec<StressFinding>,
    },
    /// The machine failed.
    #[error(transparent)]
    Machine(#[from] MachineError),
}

/// The results of a run.
#[derive(Debug, Clone, Serialize)]
pub struct Stress {
    /// The circumstances of all findings.
    #[serde(flatten)]
    pub run: Circumstances,
    /// Title of the scenario.
    pub title: String,
    /// Properties that the scenario expects to be violated.
    pub expect: Vec<Property>,
    /// Properties whose violation this run could have shown.
    pub claims: Vec<Property>,
    /// Neither version has room for a number.
    pub two_valued: bool,
    /// There are more executors than CPUs besides the patcher's.
    pub overcommitted: bool,
    /// Duration in seconds.
    pub seconds: f64,
    /// Complete rounds.
    pub rounds: u64,
    /// Passes and traps.
    pub counts: StressCounts,
    /// NMIs.
    pub nmi: Messages,
    /// Device interrupts.
    pub irq: Messages,
    /// Ended by a signal.
    pub interrupted: bool,
    /// The first finding of each property.
    pub findings: Vec<StressFinding>,
}

impl Stress {
    /// True if the run showed nothing that the scenario does not expect, and nothing unexplained.
    pub fn held(&self) -> bool {
        self.unexpected().is_empty() && self.counts.ahead == 0
    }

    /// Violated properties that the scenario does not expect.
    pub fn unexpected(&self) -> Vec<Property> {
        let found = self.findings.iter().map(|finding| finding.event.property);
        found.filter(|property| !self.expect.contains(property)).collect()
    }
}
