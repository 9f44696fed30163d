//! The patcher's moves: stores piece by piece, broadcasts, waits, words, withdrawals.

use super::engine::Engine;
use super::env::word_offset;
use super::model::{Applied, Model};
use super::monitor::function_bit;
use super::state::{Move, State};
use crate::machine::MachineError;
use crate::plan::OpKind;
use crate::property;

impl<E: Engine> Model<'_, E> {
    pub(super) fn patcher_moves(&self, state: &State, moves: &mut Vec<Move>) {
        let Some(op) = self.plan.program.get(usize::from(state.pc)) else { return };
        let facts = |slot: usize| &self.facts[state.executors[slot] as usize];
        let slots = 0..self.plan.executors.len();
        match &op.kind {
            OpKind::Store { .. } => {
                let mine =
                    self.pieces.iter().enumerate().filter(|(_, piece)| piece.op == usize::from(state.pc));
                for (bit, (index, _)) in mine.enumerate() {
                    if state.mask & (1 << bit) == 0 {
                        moves.push(Move::Piece(index as u8));
                    }
                }
            }
            OpKind::WaitAcks { mask } => {
                if slots.into_iter().all(|slot| mask & (1 << slot) == 0 || facts(slot).acknowledged) {
                    moves.push(Move::Patcher);
                }
            }
            OpKind::WaitWord { word, value } => {
                if self.envs.get(state.env).get(word_offset(*word)) == *value {
                    moves.push(Move::Patcher);
                }
            }
            OpKind::Quiesce => {
                if state.mask == self.plan.everyone() {
                    moves.push(Move::Patcher);
                } else {
                    let unseen = slots.filter(|&slot| state.mask & (1 << slot) == 0 && facts(slot).outside);
                    moves.extend(unseen.map(|slot| Move::Observe(slot as u8)));
                }
            }
            _ => moves.push(Move::Patcher),
        }
    }

    pub(super) fn apply_piece(&mut self, state: &State, index: u8) -> Result<Applied, MachineError> {
        let piece = self.pieces[usize::from(index)].clone();
        let first = self.pieces.iter().position(|other| other.op == piece.op).unwrap_or_default();
        let count = self.pieces.iter().filter(|other| other.op == piece.op).count();
        let mut env = self.envs.get(state.env).clone();
        env.commits.push(index);
        self.engine.stored(piece.offset, &piece.bytes)?;
        let mut next = State {
            env: self.intern_env(env),
            mask: state.mask | 1 << (usize::from(index) - first),
            ..*state
        };
        if next.mask.count_ones() as usize == count {
            (next.mask, next.pc) = (0, state.pc + 1);
        }
        let text = self.text(next.env);
        let mut violations = Vec::new();
        for slot in 0..self.plan.executors.len() {
            let executor = self.executors.get(state.executors[slot]);
            let cpu = self.cpus.get(executor.cpu);
            if let Some(mut found) = property::interior_at_commit(self.plan, &text, cpu, &executor.monitor) {
                found.detail = format!("CPU {slot}: {}", found.detail);
                violations.push(found);
            }
        }
        Ok(Applied { violations: self.intern_violations(violations), ..Applied::quiet(next, true) })
    }

    pub(super) fn apply_patcher(&mut self, state: &State) -> Result<Applied, MachineError> {
        let mut next = State { pc: state.pc + 1, mask: 0, ..*state };
        let mut env = self.envs.get(state.env).clone();
        let commits = env.commits.len() as u8;
        match &self.plan.program[usize::from(state.pc)].kind {
            OpKind::Describe => env.describe(self.plan),
            OpKind::Armed(armed) => env.set(crossmod_abi::shared::ARMED, u32::from(*armed)),
            OpKind::SetWord { word, value } => env.set(word_offset(*word), *value),
            OpKind::FreeDescriptor => env.free_descriptor(),
            OpKind::FreeTarget(address) => {
                for (index, _) in self.plan.pads.iter().enumerate().filter(|(_, pad)| pad.address == *address)
                {
                    env.pads_freed |= 1 << index;
                }
            }
            OpKind::Done => env.done = true,
            OpKind::Broadcast { function, mask } => {
                for slot in (0..self.plan.executors.len()).filter(|slot| mask & (1 << slot) != 0) {
                    let mut executor = self.executors.get(state.executors[slot]).clone();
                    executor.monitor.pending |= function_bit(*function);
                    let cpu = self.cpus.get(executor.cpu);
                    if cpu.acknowledged() {
                        let cleared = cpu.without_ack();
                        executor.cpu = self.intern_cpu(cleared);
                        self.engine.ack_cleared(slot)?;
                    }
                    next.executors[slot] = self.intern_executor(executor);
                }
            }
            OpKind::AssumeSynchronised => {
                for slot in 0..self.plan.executors.len() {
                    let mut executor = self.executors.get(state.executors[slot]).clone();
                    executor.monitor.serialised = commits;
                    next.executors[slot] = self.intern_executor(executor);
                }
            }
            OpKind::Store { .. } | OpKind::WaitAcks { .. } | OpKind::WaitWord { .. } => {}
            OpKind::Quiesce | OpKind::Delay => {}
        }
        let writes = env.shared != self.envs.get(state.env).shared;
        if writes {
            self.engine.shared_stored(&env.shared)?;
        }
        next.env = self.intern_env(env);
        Ok(Applied::quiet(next, writes))
    }
}
