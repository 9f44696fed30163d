//! The patcher's moves: stores piece by piece, broadcasts, waits, words, withdrawals. What a move does to the
//! part that all share, and what it does to one executor, are functions of their own: neither asks how many
//! executors there are.

use crossmod_model::fetch::Order;
use crossmod_model::layout::word_offset;
use crossmod_model::plan::{Function, OpKind};
use crossmod_model::property;
use crossmod_model::state::ghost::function_bit;

use super::interning::ExecutorSummary;
use super::model::{Applied, Model};
use super::state::{Global, State, Transition};
use crate::error::EngineError;

/// What a move of the patcher waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Guard {
    Nothing,
    /// Every executor in the mask has acknowledged.
    Acks(u32),
    /// Every executor has been observed.
    Observed,
    /// A word of every executor in the mask is 0.
    Zero(u8, u32),
}

impl Guard {
    /// True if the executor in `slot` does not stand in the way.
    pub(super) fn met(self, slot: usize, facts: &ExecutorSummary) -> bool {
        match self {
            Guard::Nothing => true,
            Guard::Acks(mask) => mask & (1 << slot) == 0 || facts.acknowledged,
            Guard::Observed => facts.observed,
            Guard::Zero(word, mask) => mask & (1 << slot) == 0 || facts.zero >> word & 1 == 1,
        }
    }
}

impl Model<'_> {
    /// The patcher's moves, and what they wait for. Under an order of `any` no fetch can tell in which order
    /// the pieces of a store are committed: one order is enough.
    pub(super) fn patcher_moves(&self, global: &Global) -> (Vec<Transition>, Guard) {
        let Some(op) = self.plan.program.get(usize::from(global.pc)) else {
            return (Vec::new(), Guard::Nothing);
        };
        match &op.kind {
            OpKind::Store { .. } => {
                let mine =
                    self.pieces.iter().enumerate().filter(|(_, piece)| piece.op == usize::from(global.pc));
                let open = mine.enumerate().filter(|(bit, _)| global.mask & (1 << bit) == 0);
                let moves = open.map(|(_, (index, _))| Transition::Piece(index as u8));
                let any = self.plan.fetch.stale && self.plan.fetch.order == Order::Any;
                (moves.take(if any { 1 } else { usize::MAX }).collect(), Guard::Nothing)
            }
            OpKind::WaitAcks { mask } => (vec![Transition::Patcher], Guard::Acks(*mask)),
            OpKind::WaitWord { word, value } => {
                let holds = self.envs.get(global.env).get(word_offset(*word)) == *value;
                (if holds { vec![Transition::Patcher] } else { Vec::new() }, Guard::Nothing)
            }
            OpKind::Take(word) => {
                let free = self.envs.get(global.env).get(word_offset(*word)) == 0;
                (if free { vec![Transition::Patcher] } else { Vec::new() }, Guard::Nothing)
            }
            OpKind::WaitEach { word, mask } => (vec![Transition::Patcher], Guard::Zero(*word, *mask)),
            OpKind::Quiesce(_) => (vec![Transition::Patcher], Guard::Observed),
            _ => (vec![Transition::Patcher], Guard::Nothing),
        }
    }

    /// True if the patcher's next operation does something to executors, or asks something of them.
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

    /// True if the patcher's next operation neither changes what an executor's moves depend on, nor is changed by
    /// them, apart from what it waits for.
    pub(super) fn patcher_alone(&self, global: &Global) -> bool {
        let pc = usize::from(global.pc);
        match self.plan.program.get(pc).map(|op| &op.kind) {
            Some(OpKind::WaitAcks { .. } | OpKind::Delay) => true,
            // An NMI that is sent may coalesce with one that is raised.
            Some(OpKind::Broadcast { function: Function::Nmi, .. }) => false,
            Some(OpKind::Broadcast { mask, .. }) => {
                // Receivers of an earlier one may otherwise still acknowledge that.
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
        self.plan.programs.patch() || self.phases.last().is_none_or(|last| last.words != 0)
    }

    /// The part that all share after a move of the patcher, and whether memory that others read was written.
    pub(super) fn patcher_global(
        &mut self,
        global: &Global,
        step: Transition,
    ) -> Result<(Global, bool), EngineError> {
        let mut env = self.envs.get(global.env).clone();
        if let Transition::Piece(index) = step {
            let piece = self.pieces[usize::from(index)].clone();
            let first = self.pieces.iter().position(|other| other.op == piece.op).unwrap_or_default();
            let count = self.pieces.iter().filter(|other| other.op == piece.op).count();
            env.commits.push(index);
            let mask = global.mask | 1 << (usize::from(index) - first);
            let (mask, pc) =
                if mask.count_ones() as usize == count { (0, global.pc + 1) } else { (mask, global.pc) };
            let env = self.intern_env(env);
            let data = self.text(env);
            self.engine.stored(&data.data)?;
            return Ok((Global { env, mask, pc, ..*global }, true));
        }
        match &self.plan.program[usize::from(global.pc)].kind {
            OpKind::Describe(part) => env.describe(self.plan, *part),
            OpKind::Armed(armed) => env.set(crossmod_abi::shared::ARMED, u32::from(*armed)),
            OpKind::SetWord { word, value } => env.set(word_offset(*word), *value),
            OpKind::AddWord { word, number } => {
                let offset = word_offset(*word);
                env.set(offset, env.get(offset).wrapping_add_signed(*number));
            }
            OpKind::Take(word) => env.set(word_offset(*word), 1),
            OpKind::FreeDescriptor => env.free_descriptor(),
            OpKind::FreeTarget(address) => {
                for (index, _) in self.plan.pads.iter().enumerate().filter(|(_, pad)| pad.address == *address)
                {
                    env.pads_freed |= 1 << index;
                }
            }
            OpKind::Done(parts) => env.done |= parts,
            OpKind::Broadcast { .. } | OpKind::AssumeSynchronised | OpKind::Store { .. } => {}
            OpKind::SetEach { .. } | OpKind::WaitEach { .. } | OpKind::Quiesce(_) | OpKind::Delay => {}
            OpKind::WaitAcks { .. } | OpKind::WaitWord { .. } => {}
        }
        let writes = env.shared != self.envs.get(global.env).shared;
        if writes {
            self.engine.shared_stored(&env.shared)?;
        }
        Ok((Global { pc: global.pc + 1, mask: 0, env: self.intern_env(env), ..*global }, writes))
    }

    /// An executor after a move of the patcher that led from `before` to `after`, and what that violates.
    pub(super) fn patcher_effect(
        &mut self,
        before: &Global,
        after: &Global,
        step: Transition,
        slot: usize,
        number: u32,
    ) -> Result<(u32, Option<property::Violation>), EngineError> {
        let mut executor = self.executors.get(number).clone();
        if let Transition::Piece(_) = step {
            let text = self.text(after.env);
            let cpu = self.cpus.get(executor.cpu);
            let found = property::interior_at_commit(self.plan, &text, cpu, &executor.ghost);
            return Ok((number, found));
        }
        match self.plan.program[usize::from(before.pc)].kind {
            OpKind::Broadcast { function, mask } if mask & (1 << slot) != 0 => {
                match function {
                    Function::Nmi => executor.ghost.nmi_latched = true,
                    _ => executor.ghost.pending |= function_bit(function),
                }
                let cpu = self.cpus.get(executor.cpu);
                if cpu.acknowledged() {
                    let cleared = cpu.without_ack();
                    executor.cpu = self.intern_cpu(cleared);
                    self.engine.ack_cleared(slot)?;
                }
            }
            OpKind::AssumeSynchronised => {
                executor.ghost.serialise(self.envs.get(before.env).commits.len() as u8);
            }
            OpKind::SetEach { word, value } => {
                let changed = self.cpus.get(executor.cpu).with_word(word, value);
                executor.cpu = self.intern_cpu(changed);
                self.engine.word_stored(slot, word, value)?;
            }
            OpKind::Quiesce(_) => executor.ghost.observed = false,
            _ => return Ok((number, None)),
        }
        Ok((self.intern_executor(executor), None))
    }

    /// A move of the patcher.
    pub(super) fn apply_patcher(&mut self, state: &State, step: Transition) -> Result<Applied, EngineError> {
        let (global, writes) = self.patcher_global(&state.global, step)?;
        let mut next = State { global, ..*state };
        let mut violations = Vec::new();
        for slot in 0..self.plan.executors.len() {
            let (executor, found) =
                self.patcher_effect(&state.global, &global, step, slot, state.executors[slot])?;
            next.executors[slot] = executor;
            violations.extend(found.map(|mut found| {
                found.detail = format!("CPU {slot}: {}", found.detail);
                found
            }));
        }
        let violations = self.intern_violations(violations);
        Ok(Applied { violations, ..Applied::quiet(next, writes) })
    }
}
