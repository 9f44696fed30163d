//! What the host did for steps.

use derive_more::Sub;
use serde::{Deserialize, Serialize};

/// Counts of steps, and of those with which the host assisted, for reports.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, Sub)]
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
