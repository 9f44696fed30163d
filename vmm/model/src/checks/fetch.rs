//! An instruction fetch.

use iced_x86::Instruction;

use crate::plan::{Declared, Plan};
use crate::state::ghost::GhostState;
use crate::state::shared_state::{SharedState, SiteHistory};

/// A fetch about to be executed.
pub struct Fetch<'a> {
    /// The plan.
    pub plan: &'a Plan,
    /// Shared state.
    pub shared_state: &'a SharedState,
    /// The site and its history.
    pub history: &'a SiteHistory,
    /// The executor's bookkeeping.
    pub ghost: &'a GhostState,
    /// Address of the instruction.
    pub rip: u64,
    /// The bytes seen there, to the end of the fetch window.
    pub bytes: &'a [u8],
    /// What they decode to.
    pub instruction: Option<&'a Instruction>,
    /// For fetches inside the site: which version. `None` if it is none, and away from the site.
    pub version: Option<Declared>,
}

impl Fetch<'_> {
    /// Offset from the site's first byte, for fetches inside it.
    pub fn offset(&self) -> Option<usize> {
        self.plan.site.contains(self.rip).then(|| (self.rip - self.plan.site.address) as usize)
    }
}
