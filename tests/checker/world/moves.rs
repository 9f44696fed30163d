//! A move of a state, and how a pass ends.

use super::World;
use crate::checker::case::Run;
use crate::checker::fetch::Seen;

/// A move, for the schedule.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Label {
    Patcher(usize, usize),
    Begin(usize),
    Fetch(usize, usize, Seen),
    Advance(usize),
    /// The handler reads the descriptor, and counts if it does.
    Claim(usize),
    Ipi(usize, Run),
    Nmi(usize),
}

/// How a pass ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Outcome {
    /// It was a pass of an NMI's handler.
    pub nmi: bool,
    /// Which version it looked like; none if it looked like neither.
    pub new: Option<bool>,
    pub trapped: bool,
}

/// A move and what it leads to.
pub struct Next {
    pub label: Label,
    /// None if the violation ends the execution.
    pub world: Option<World>,
    pub violated: Vec<&'static str>,
    /// The outcome of the pass that the move ends.
    pub outcome: Option<Outcome>,
}

impl Next {
    /// A move that ends no pass.
    pub(super) fn within(label: Label, world: Option<World>, violated: Vec<&'static str>) -> Next {
        Next { label, world, violated, outcome: None }
    }

    /// Notes how a pass has ended, if one has.
    pub(super) fn ends(&mut self, end: Option<End>) {
        if let Some((outcome, violated)) = end {
            self.outcome = Some(outcome);
            self.violated.extend(violated);
        }
    }
}

/// How a pass has ended, and what that violates.
pub(super) type End = (Outcome, Option<&'static str>);
