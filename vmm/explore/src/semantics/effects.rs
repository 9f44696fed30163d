//! What a step of a program does beyond registers and memory: stores to the site, messages, failing checks, handlers
//! that begin elsewhere than where the CPU put their frame.

use crossmod_abi::shared;
use crossmod_model::checks::{foreign_trap, nmi_frame, unclaimed_trap};
use crossmod_model::hex;
use crossmod_model::plan::{OpKind, Send};
use crossmod_model::property::Violation;
use crossmod_model::state::Id;
use crossmod_model::state::ghost::Executor;
use crossmod_model::state::shared_state::SharedState;
use crossmod_model::x86::VendorRule;
use crossmod_model::x86::cpu::{Cpu, reg};
use iced_x86::{Instruction, Mnemonic};

use super::Model;
use crate::error::{EngineError, Result};

/// More commits than any modification needs: a program that never stops storing has no finite state space.
const MOST_COMMITS: usize = 120;

impl Model<'_> {
    /// A store to the shared page that does something.
    pub(super) fn device(
        &self,
        shared_state: &mut SharedState,
        rip: u64,
        offset: u64,
        value: u64,
    ) -> Result<()> {
        match offset {
            shared::SEND => {
                let known =
                    (value as usize).checked_sub(1).and_then(|number| self.plan.programs.sends.get(number));
                let Some(&Send { function, mask, .. }) = known else {
                    let what = format!("it sends message {value}, which the plan does not have");
                    return Err(EngineError::Contract { rip, what });
                };
                for slot in (0..self.plan.executors.len()).filter(|slot| mask >> slot & 1 == 1) {
                    shared_state.sent |= SharedState::sent_bit(slot, function.number());
                }
            }
            shared::DONE => shared_state.done |= value as u8,
            _ => {}
        }
        Ok(())
    }

    /// The shared state after the store with this number has reached the site. All its pieces are committed at once, in
    /// ascending order; a fetch may still find them apart.
    ///
    /// Under the AMD rule a CPU finds its own stores in code that it executes (APM vol. 2, 7.6.1, self-modifying code:
    /// hardware compares physical addresses). Under the Intel rule that takes a jump to the new code
    /// (SDM vol. 3, 9.1.3, option 1), and nothing is assumed here.
    pub(super) fn store_to_site(
        &mut self,
        shared_state: Id<SharedState>,
        store: usize,
        executor: &mut Executor,
    ) -> Result<Id<SharedState>> {
        let number = self.plan.program.len() + store;
        let mut changed = self.interned.shared_states[shared_state].clone();
        let pieces = self.interned.pieces.iter().enumerate().filter(|(_, piece)| piece.op == number);
        changed.commits.extend(pieces.map(|(index, _)| index as u8));
        let commits = changed.commits.len();
        if commits > MOST_COMMITS {
            let what = format!("more than {MOST_COMMITS} stores to the site: a program never stops patching");
            return Err(EngineError::Contract { rip: self.plan.programs.stores[store].0, what });
        }
        if self.plan.rule == VendorRule::Amd {
            executor.ghost.serialise(commits as u8);
        }
        Ok(self.interned.add_shared_state(changed))
    }

    /// Number of the store to the site that the instruction at `rip` is.
    pub(super) fn store_at(&self, rip: u64) -> Result<usize> {
        let stores = &self.plan.programs.stores;
        let found = stores.iter().position(|(at, _)| *at == rip);
        let what = || "a store to the site that no program declares".into();
        found.ok_or_else(|| EngineError::Contract { rip, what: what() })
    }

    /// Checks that the store that was just executed changed the master copy as the plan says.
    pub(super) fn stored_as_planned(&self, rip: u64, before: &[u8]) -> Result<()> {
        let op = &self.plan.programs.stores[self.store_at(rip)?].1;
        let mut expected = before.to_vec();
        if let OpKind::Store { offset, bytes } = &op.kind {
            expected[*offset..*offset + bytes.len()].copy_from_slice(bytes);
        }
        let mut found = vec![0; before.len()];
        self.engine.data(&mut found)?;
        if found == expected {
            return Ok(());
        }
        let what = format!(
            "the store of step `{}` left {}, not {}",
            op.step,
            hex::spaced(&found),
            hex::spaced(&expected)
        );
        Err(EngineError::Contract { rip, what })
    }

    /// What it means that a step has led to where it has.
    pub(super) fn arrive(
        &self,
        after: &mut Executor,
        instruction: &Instruction,
        landed: &Cpu,
    ) -> Option<Violation> {
        let programs = &self.plan.programs;
        let (rip, rsp) = (landed.regs.rip, landed.regs.gpr[reg::RSP]);
        let contexts = &mut after.ghost.contexts;
        if instruction.mnemonic() == Mnemonic::Iretq && !programs.own_irets.contains(&instruction.ip()) {
            let ended = contexts.pop();
            return ended.filter(|context| context.foreign).map(|_| foreign_trap::at_return());
        }
        if rip == self.labels.refusal || programs.refusals.contains(&rip) {
            return match contexts.last_mut() {
                Some(context) if context.foreign => {
                    context.foreign = false;
                    None
                }
                _ => Some(unclaimed_trap::found()),
            };
        }
        if programs.moved.contains(&instruction.ip()) {
            let taken = contexts.iter().any(|context| context.frame == rsp);
            if let Some(context) = contexts.last_mut() {
                context.frame = rsp;
            }
            return taken.then(nmi_frame::at_copy);
        }
        let check = programs.checks.iter().find(|check| check.at == rip)?;
        Some(Violation::of_check(check.property, &check.text))
    }
}
