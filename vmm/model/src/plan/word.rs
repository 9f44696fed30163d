//! Data beside the text.

use serde::Serialize;

/// Shared words that a patcher may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Word {
    /// Counts arrivals of held executors.
    Arrived,
    /// Lets held executors go.
    Release,
    /// Free for the scenario.
    Flag,
    /// The lock of lock-taking executors.
    Lock,
    /// The handler may claim the trap.
    Armed,
    /// Parity of the claimed traps.
    Hits,
    /// One that the scenario names: index into the plan's list.
    Named(u8),
}

/// The values that shared words may hold at the end of an execution in which everything is done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finals {
    /// The words.
    pub words: Vec<Word>,
    /// Every combination that some execution ends with, and no other, sorted.
    pub exactly: Vec<Vec<u32>>,
}

/// A word that a scenario names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Datum {
    /// Its name.
    pub name: String,
    /// What it holds at the start.
    pub value: u32,
}
