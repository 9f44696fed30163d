//! Which bytes of the site somebody can have reached. AMD's rule lets a patcher store what it likes where nobody comes.

use iced_x86::FlowControl;

use crate::plan::{Action, HandlerVariant, Plan, Start};
use crate::x86::decode;

/// Bytes of the site that an instruction overlaps which some CPU may have begun, or may be about to.
///
/// It holds every byte that was reached in any version so far: who has begun something there may not have ended it.
#[derive(Debug)]
pub(super) struct Reached {
    bytes: Vec<bool>,
    entries: Vec<usize>,
    address: u64,
}

impl Reached {
    pub fn new(plan: &Plan) -> Reached {
        let (len, address) = (plan.site.len(), plan.site.address);
        let inside = |address: &u64| plan.site.contains(*address);
        let actions = plan.handler.actions.iter().flat_map(|action| match *action {
            Action::Resume(at) => [at, at],
            Action::Call { target, return_to } => [target, return_to],
        });
        let resumed = actions.filter(inside).map(|at| (at - address) as usize);
        let interior = plan.executors.iter().filter_map(|executor| match executor.start {
            Start::Interior(offset) => Some(offset),
            _ => None,
        });
        let begin = plan.site.parts.iter().map(|part| part.offset);
        // A program resumes where it likes.
        let anywhere = plan.handler.variant == HandlerVariant::Program;
        let entries = begin.chain(resumed).chain(interior).collect();
        let mut reached = Reached { bytes: vec![anywhere; len], entries, address };
        reached.in_version(&plan.site.old.bytes);
        reached
    }

    /// Follows every path through a version.
    pub fn in_version(&mut self, image: &[u8]) {
        let mut work = self.entries.clone();
        let mut followed = vec![false; image.len()];
        while let Some(offset) = work.pop() {
            if offset >= image.len() || std::mem::replace(&mut followed[offset], true) {
                continue;
            }
            let rip = self.address + offset as u64;
            let Some(instruction) = decode::decode(&image[offset..], rip) else {
                self.bytes[offset..].fill(true);
                continue;
            };
            let next = (offset + instruction.len()).min(image.len());
            self.bytes[offset..next].fill(true);
            let flow = instruction.flow_control();
            if !matches!(flow, FlowControl::UnconditionalBranch | FlowControl::Return) {
                work.push(next);
            }
            if matches!(
                flow,
                FlowControl::UnconditionalBranch | FlowControl::ConditionalBranch | FlowControl::Call
            ) {
                work.push(instruction.near_branch_target().wrapping_sub(self.address) as usize);
            }
        }
    }

    /// True if nobody can have reached any of these bytes.
    pub fn nobody(&self, offset: usize, len: usize) -> bool {
        !self.bytes[offset..offset + len].contains(&true)
    }
}
