//! The patcher's transitions: stores piece by piece, broadcasts, waits, words, withdrawals. What a transition does to
//! the part that all share, and what it does to one executor, are functions of their own. Neither depends on the number
//! of executors.

use crossmod_abi::private;
use crossmod_model::checks::interior;
use crossmod_model::fetch::Order;
use crossmod_model::layout::word_offset;
use crossmod_model::plan::{Function, OpKind};
use crossmod_model::property::Violation;
use crossmod_model::state::Id;
use crossmod_model::state::ghost::Executor;

use super::interned::{ACKNOWLEDGED, OBSERVED, own_word, zero};
use super::{Global, Model, State, Transition};
use crate::error::Result;
use crate::search::system::{Applied, Guard};

impl Model<'_> {
    /// The patcher's transitions, and what they wait for. Under an order of `any` no fetch can tell in which order
    /// the pieces of a store are committed: one order is enough.
    pub(super) fn patcher_transitions(&self, global: &Global) -> (Vec<Transition>, Guard) {
        let Some(op) = self.plan.program.get(usize::from(global.pc)) else {
            return (Vec::new(), Guard::NOTHING);
        };
        let once = vec![Transition::Patcher];
        let if_word = |word, value| {
            let holds = self.interned.shared_states[global.shared_state].get(word_offset(word)) == value;
            if holds { vec![Transition::Patcher] } else { Vec::new() }
        };
        match op.kind {
            OpKind::Store { .. } => {
                let pc = usize::from(global.pc);
                let mine = self.interned.pieces.iter().enumerate().filter(|(_, piece)| piece.op == pc);
                let open = mine.enumerate().filter(|(bit, _)| global.mask & (1 << bit) == 0);
                let pieces = open.map(|(_, (index, _))| Transition::Piece(index as u8));
                let any = self.plan.fetch.stale && self.plan.fetch.order == Order::Any;
                (pieces.take(if any { 1 } else { usize::MAX }).collect(), Guard::NOTHING)
            }
            OpKind::WaitAcks { mask } => (once, Guard { executors: mask, flags: ACKNOWLEDGED }),
            OpKind::WaitWord { word, value } => (if_word(word, value), Guard::NOTHING),
            OpKind::Take(word) => (if_word(word, 0), Guard::NOTHING),
            OpKind::WaitEach { word, mask } => (once, Guard { executors: mask, flags: zero(word) }),
            OpKind::Quiesce(_) => (once, Guard { executors: self.plan.everyone(), flags: OBSERVED }),
            _ => (once, Guard::NOTHING),
        }
    }

    /// True if the patcher has done everything, and every message that programs have sent is delivered.
    pub(super) fn patcher_finished(&self, global: &Global) -> bool {
        usize::from(global.pc) == self.plan.program.len()
            && self.interned.shared_states[global.shared_state].sent == 0
    }

    /// True if the patcher's next operation changes executors, or may violate something in them.
    pub(super) fn patcher_touches(&self, global: &Global) -> bool {
        let op = self.plan.program.get(usize::from(global.pc));
        op.is_some_and(|op| {
            matches!(
                op.kind,
                OpKind::Store { .. }
                    | OpKind::Broadcast { .. }
                    | OpKind::AssumeSynchronised
                    | OpKind::SetEach { .. }
                    | OpKind::Quiesce(_)
            )
        })
    }

    /// True if the patcher's next operation neither changes what an executor's transitions depend on, nor is changed by
    /// them, apart from what it waits for.
    pub(super) fn patcher_independent(&self, global: &Global) -> bool {
        let pc = usize::from(global.pc);
        match self.plan.program.get(pc).map(|op| &op.kind) {
            Some(OpKind::WaitAcks { .. } | OpKind::Delay) => true,
            // An NMI that is sent may coalesce with one that is raised.
            Some(OpKind::Broadcast { function: Function::Nmi, .. }) => false,
            Some(OpKind::Broadcast { mask, .. }) => {
                // Otherwise receivers of an earlier one may still acknowledge that one.
                let mut open = 0;
                for op in &self.plan.program[..pc] {
                    match op.kind {
                        OpKind::Broadcast { mask, .. } => open |= mask,
                        OpKind::WaitAcks { mask } => open &= !mask,
                        _ => {}
                    }
                }
                open & mask == 0
            }
            _ => false,
        }
    }

    /// True if executors write shared memory that others read.
    pub(super) fn executors_write(&self) -> bool {
        self.plan.programs.patch() || self.future_effects.last().is_none_or(|last| last.words != 0)
    }

    /// The part that all share after a transition of the patcher, and whether memory that others read was written.
    pub(super) fn patcher_global(
        &mut self,
        global: &Global,
        transition: Transition,
    ) -> Result<(Global, bool)> {
        let mut shared_state = self.interned.shared_states[global.shared_state].clone();
        if let Transition::Piece(index) = transition {
            let op = self.interned.pieces[usize::from(index)].op;
            let first = self.interned.pieces.iter().position(|other| other.op == op).unwrap_or_default();
            let count = self.interned.pieces.iter().filter(|other| other.op == op).count();
            shared_state.commits.push(index);
            let mask = global.mask | 1 << (usize::from(index) - first);
            let (mask, pc) =
                if mask.count_ones() as usize == count { (0, global.pc + 1) } else { (mask, global.pc) };
            let shared_state = self.interned.add_shared_state(shared_state);
            self.engine.stored(&self.interned.history(shared_state).data)?;
            return Ok((Global { shared_state, mask, pc, ..*global }, true));
        }
        match &self.plan.program[usize::from(global.pc)].kind {
            OpKind::Describe(part) => shared_state.describe(self.plan, *part),
            OpKind::Armed(armed) => shared_state.set(crossmod_abi::shared::ARMED, u32::from(*armed)),
            OpKind::SetWord { word, value } => shared_state.set(word_offset(*word), *value),
            OpKind::AddWord { word, number } => {
                let offset = word_offset(*word);
                shared_state.set(offset, shared_state.get(offset).wrapping_add_signed(*number));
            }
            OpKind::Take(word) => shared_state.set(word_offset(*word), 1),
            OpKind::FreeDescriptor => shared_state.free_descriptor(),
            OpKind::FreeTarget(address) => {
                for (index, _) in self.plan.pads.iter().enumerate().filter(|(_, pad)| pad.address == *address)
                {
                    shared_state.pads_freed |= 1 << index;
                }
            }
            OpKind::Done(parts) => shared_state.done |= parts,
            OpKind::Broadcast { .. } | OpKind::AssumeSynchronised | OpKind::Store { .. } => {}
            OpKind::SetEach { .. } | OpKind::WaitEach { .. } | OpKind::Quiesce(_) | OpKind::Delay => {}
            OpKind::WaitAcks { .. } | OpKind::WaitWord { .. } => {}
        }
        let writes = shared_state.shared != self.interned.shared_states[global.shared_state].shared;
        if writes {
            self.engine.shared_stored(&shared_state.shared)?;
        }
        let shared_state = self.interned.add_shared_state(shared_state);
        Ok((Global { pc: global.pc + 1, mask: 0, shared_state, ..*global }, writes))
    }

    /// An executor after a transition of the patcher that led from `before` to `after`, and what that violates.
    pub(super) fn effect_on(
        &mut self,
        before: &Global,
        after: &Global,
        transition: Transition,
        slot: usize,
        number: Id<Executor>,
    ) -> Result<(Id<Executor>, Option<Violation>)> {
        let mut executor = self.interned.executors[number].clone();
        if let Transition::Piece(_) = transition {
            let history = self.interned.history(after.shared_state);
            let cpu = &self.interned.cpus[executor.cpu];
            let found = interior::at_commit(self.plan, history, cpu, &executor.ghost);
            return Ok((number, found));
        }
        match self.plan.program[usize::from(before.pc)].kind {
            OpKind::Broadcast { function, mask } if mask & (1 << slot) != 0 => {
                match function {
                    Function::Nmi => executor.ghost.nmi_latched = true,
                    _ => executor.ghost.pending |= function.bit(),
                }
                let cpu = &self.interned.cpus[executor.cpu];
                if let Some(before) = executor.buffer.before_mut(private::ACK) {
                    *before = 0;
                } else if cpu.acknowledged() {
                    let cleared = cpu.without_ack();
                    executor.cpu = self.interned.add_cpu(cleared);
                    self.engine.ack_cleared(slot)?;
                }
            }
            OpKind::AssumeSynchronised => {
                executor
                    .ghost
                    .serialise(self.interned.shared_states[before.shared_state].commits.len() as u8);
            }
            OpKind::SetEach { word, value } => {
                if let Some(before) = executor.buffer.before_mut(own_word(word)) {
                    *before = value;
                } else {
                    let changed = self.interned.cpus[executor.cpu].with_word(word, value);
                    executor.cpu = self.interned.add_cpu(changed);
                    self.engine.word_stored(slot, word, value)?;
                }
            }
            OpKind::Quiesce(_) => executor.ghost.observed = false,
            _ => return Ok((number, None)),
        }
        Ok((self.interned.add_executor(executor), None))
    }

    /// A transition of the patcher.
    pub(super) fn apply_patcher(&mut self, state: &State, transition: Transition) -> Result<Applied<State>> {
        let (global, writes) = self.patcher_global(&state.global, transition)?;
        let mut next = State { global, ..*state };
        let mut violations = Vec::new();
        for slot in 0..self.plan.executors.len() {
            let (executor, found) =
                self.effect_on(&state.global, &global, transition, slot, state.executors[slot])?;
            next.executors[slot] = executor;
            violations.extend(found.map(|mut found| {
                found.detail = format!("CPU {slot}: {}", found.detail);
                found
            }));
        }
        let violations = self.interned.add_violations(violations);
        Ok(Applied { next, violations, ended: false, writes })
    }
}
