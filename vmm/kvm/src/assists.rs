//! What the host did for steps.

use serde::{Deserialize, Serialize};

/// Counts of steps, and of those with which the host assisted, for reports.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assists {
    /// Steps executed by KVM.
    pub steps: u64,
    /// #BP deliveries that the host completed because KVM cannot emulate INT3 at ring 0.
    pub completed_breakpoints: u64,
    /// Steps that ended at a planted doorbell.
    pub planted_stops: u64,
    /// Ring-3 steps that ended in the guest's #DB stub.
    pub user_traps: u64,
    /// SMIs that a vCPU entered and left.
    pub smis: u64,
}

impl Assists {
    /// The difference to an earlier count.
    #[must_use]
    pub fn since(self, before: Assists) -> Assists {
        Assists {
            steps: self.steps - before.steps,
            completed_breakpoints: self.completed_breakpoints - before.completed_breakpoints,
            planted_stops: self.planted_stops - before.planted_stops,
            user_traps: self.user_traps - before.user_traps,
            smis: self.smis - before.smis,
        }
    }
}
