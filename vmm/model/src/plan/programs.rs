//! What vCPUs run that is not in the guest image: the programs of a scenario, compiled.

use serde::Serialize;

use super::{Function, Op};
use crate::property::Property;

/// What the programs of a scenario compile to.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Programs {
    /// The code, to be loaded at `crossmod_abi::va::PROGRAM`.
    pub code: Vec<u8>,
    /// Names and addresses of places in it. A pair `pass_call_X`, `pass_done_X` is a pass.
    pub labels: Vec<(String, u64)>,
    /// Handlers by vector, as labels of the code.
    pub gates: Vec<(u8, String)>,
    /// Instructions that store to the site, by address, as [`super::OpKind::Store`]s.
    pub stores: Vec<(u64, Op)>,
    /// Broadcasts by number.
    pub sends: Vec<Send>,
    /// Where a failing check jumps to, with the property that it violates and its text.
    pub checks: Vec<Check>,
    /// Where a handler does not claim its trap.
    pub refusals: Vec<u64>,
    /// Behind which instruction a handler's frame has moved to where RSP points.
    pub moved: Vec<u64>,
    /// IRETs to the next instruction, which end no handler.
    pub own_irets: Vec<u64>,
    /// Shared words that the code writes, one bit for each `u32` of the shared page.
    pub writes: u32,
    /// It declares modifications complete.
    pub completes: bool,
}

/// A broadcast of a program.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Send {
    /// What the receivers run.
    pub function: Function,
    /// The receivers: bit *i* = executor *i*.
    pub mask: u32,
    /// It does not wait for the sender's older stores: the message may arrive before them. So does a WRMSR to the x2APIC
    /// without a fence before it (SDM vol. 3, 11.12.3); a store to the xAPIC does not.
    pub overtakes: bool,
}

/// Where a program's check goes when it fails.
#[derive(Debug, Clone, Serialize)]
pub struct Check {
    /// Address of the place.
    pub at: u64,
    /// Label of the step that compares; none for a step that always fails.
    #[serde(skip)]
    pub step: Option<String>,
    /// What is violated.
    pub property: Property,
    /// What was checked.
    pub text: String,
}

impl Programs {
    /// True if they patch: then there is another patcher than the host.
    pub fn patch(&self) -> bool {
        !self.stores.is_empty() || !self.sends.is_empty() || self.completes
    }
}
