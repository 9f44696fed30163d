//! Successors by number: what the search looks up instead of asking the model.
//!
//! An executor's successors depend on its own state and on what all share, not on the other executors; the
//! patcher's on what all share, and what they do to each executor on that executor. Both are asked of the
//! model (which executes them on KVM) once and kept by number. A search then is a walk over products of
//! table entries.

use crossmod_model::property::Violation;
use hashbrown::HashMap;
use rustc_hash::FxBuildHasher;

use super::intern::{Interner, content_digest};
use super::model::Model;
use super::patcher::Guard;
use super::state::{Global, State, Transition};
use super::symmetry::groups;
use super::visited::Packed;
use crate::error::EngineError;

const ACKNOWLEDGED: u16 = 1;
const OBSERVED: u16 = 2;
const FINISHED: u16 = 4;
const HELD: u16 = 8;
/// Its word 0 is 0; the next bits are those of its other words.
const ZERO: u16 = 16;

/// A successor of an executor in an environment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Next {
    global: u32,
    executor: u32,
    violations: u32,
    ended: bool,
    writes: bool,
}

/// A successor of the patcher.
#[derive(Debug, Clone, Copy)]
struct PatcherNext {
    global: u32,
    step: Transition,
    writes: bool,
    /// It does something to executors, or asks something of them.
    touches: bool,
}

#[derive(Debug, Clone)]
struct PatcherEntry {
    /// Its move is all that needs to be taken where it can be.
    alone: bool,
    needs: Guard,
    next: Vec<PatcherNext>,
    finished: bool,
}

/// What is missing to expand a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Missing {
    /// The patcher's successors.
    Patcher(u32),
    /// An executor's successors.
    Executor(u32, u32),
    /// What a patcher's successor (by its place) does to an executor.
    Effect(u32, u32, u32),
}

/// One transition of a packed state.
pub(super) struct Successor<'a, const N: usize> {
    /// The state it leads to, in canonical form.
    pub(super) to: &'a Packed<N>,
    /// 0 = the patcher, *i* + 1 = the executor in slot *i*.
    pub(super) actor: u8,
    /// What the executor has become; for the patcher, the place of the move among its own (see
    /// [`Tables::after_patcher`]).
    pub(super) number: u32,
    /// Interned violations.
    pub(super) violations: u32,
    /// A violation ended the execution.
    pub(super) ended: bool,
    /// Memory that others read was written.
    pub(super) writes: bool,
}

/// In the length of a list: alone, the executor comes to an acknowledgement.
const ACKABLE: u32 = 1 << 31;

type Map<K> = HashMap<K, (u32, u32), FxBuildHasher>;

/// The tables of one search.
pub(super) struct Tables {
    /// Slots of each class of interchangeable executors, for each slot.
    peers: Vec<Vec<usize>>,
    globals: Interner<Global>,
    /// Alternatives that only the stalls need are left out (see [`Tables::only`]).
    far: bool,
    /// By global and executor: start in `nexts`, and length with [`ACKABLE`].
    lists: Map<u64>,
    nexts: Vec<Next>,
    patcher: Vec<Option<PatcherEntry>>,
    /// By patcher's move and executor: the executor afterwards, and violations.
    effects: Map<u64>,
    /// Facts about each executor.
    flags: Vec<u16>,
}

fn pair(global: u32, executor: u32) -> u64 {
    u64::from(global) << 32 | u64::from(executor)
}

/// Key of what the patcher's move at a place does to an executor. A store has at most as many pieces as a site
/// has bytes: 32.
fn effect(global: u32, place: u32, executor: u32) -> u64 {
    pair(global << 5 | place, executor)
}

impl Tables {
    /// Empty tables for a plan with these classes of executors.
    pub(super) fn new(classes: &[u8], symmetry: bool, far: bool) -> Tables {
        let groups = groups(classes, symmetry);
        let peers = (0..classes.len())
            .map(|slot| groups.iter().find(|group| group.contains(&slot)).cloned().unwrap_or_default())
            .collect();
        Tables {
            peers,
            far,
            globals: Interner::default(),
            lists: Map::default(),
            nexts: Vec::new(),
            patcher: Vec::new(),
            effects: Map::default(),
            flags: Vec::new(),
        }
    }

    /// Packs a state in canonical form.
    pub(super) fn pack<const N: usize>(&mut self, model: &Model<'_>, state: &State) -> Packed<N> {
        let mut words = [0; N];
        words[0] = self.intern(model, state.global);
        words[1..].copy_from_slice(&state.executors[..N - 1]);
        self.sort(&mut words);
        words
    }

    fn intern(&mut self, model: &Model<'_>, global: Global) -> u32 {
        let number = self.globals.intern(global, |global| {
            let Global { pc, nmi, irq, smi, mce, mask, env } = *global;
            content_digest(&(pc, (nmi, irq, smi, mce), mask, model.envs.digest(env)))
        });
        if self.patcher.len() <= number as usize {
            self.patcher.push(None);
        }
        number
    }

    /// Puts the executor in `slot` where its number belongs among those of its class, which are in order but
    /// for this one.
    #[inline]
    fn settle<const N: usize>(&self, words: &mut Packed<N>, slot: usize) {
        let peers = &self.peers[slot];
        if peers.len() == 1 {
            return;
        }
        let Some(mut at) = peers.iter().position(|&peer| peer == slot) else { return };
        let number = words[1 + slot];
        while at > 0 && words[1 + peers[at - 1]] > number {
            words[1 + peers[at]] = words[1 + peers[at - 1]];
            at -= 1;
        }
        while at + 1 < peers.len() && words[1 + peers[at + 1]] < number {
            words[1 + peers[at]] = words[1 + peers[at + 1]];
            at += 1;
        }
        words[1 + peers[at]] = number;
    }

    /// Puts the executors of every class in order.
    fn sort<const N: usize>(&self, words: &mut Packed<N>) {
        for (slot, peers) in self.peers.iter().enumerate() {
            // Insertion: what stands before `slot` in its class is in order.
            let before = peers.iter().take_while(|&&peer| peer < slot).count();
            let number = words[1 + slot];
            let mut at = before;
            while at > 0 && words[1 + peers[at - 1]] > number {
                words[1 + peers[at]] = words[1 + peers[at - 1]];
                at -= 1;
            }
            words[1 + peers[at]] = number;
        }
    }

    /// Calls `each` with every transition of a packed state, in a fixed order, and tells whether everything is
    /// done in it. Of executors that are interchangeable and in the same state only the first moves.
    #[inline]
    pub(super) fn expand<const N: usize>(
        &self,
        state: &Packed<N>,
        mut each: impl FnMut(Successor<'_, N>),
    ) -> Result<bool, Missing> {
        let global = state[0];
        let Some(entry) = &self.patcher[global as usize] else { return Err(Missing::Patcher(global)) };
        let executors = &state[1..];
        let mut lists = [(0, 0); N];
        for (list, &executor) in lists.iter_mut().zip(executors) {
            let Some(known) = self.lists.get(&pair(global, executor)) else {
                return Err(Missing::Executor(global, executor));
            };
            *list = *known;
        }
        let ready = (0..N - 1).all(|slot| self.met(entry.needs, slot, executors[slot]));
        let patcher = if ready { &entry.next[..] } else { &[] };
        let only = self.only(entry, ready, executors, &lists);
        for (place, _) in (0..).zip(patcher).filter(|(_, next)| next.touches) {
            let lacks = |&&executor: &&u32| !self.effects.contains_key(&effect(global, place, executor));
            if let Some(&executor) = executors.iter().find(lacks) {
                return Err(Missing::Effect(global, place, executor));
            }
        }
        for (place, next) in (0..).zip(patcher) {
            let mut violations = 0;
            let mut to = *state;
            to[0] = next.global;
            if next.touches {
                for (word, &executor) in to[1..].iter_mut().zip(executors) {
                    let (after, found) = self.effects[&effect(global, place, executor)];
                    *word = after;
                    violations = if violations == 0 { found } else { violations };
                }
                self.sort(&mut to);
            }
            each(Successor {
                to: &to,
                actor: 0,
                number: place,
                violations,
                ended: false,
                writes: next.writes,
            });
        }
        for slot in 0..N - 1 {
            if only.is_some_and(|only| only != slot) {
                continue;
            }
            let mut before = self.peers[slot].iter().take_while(|&&peer| peer < slot);
            if before.any(|&peer| executors[peer] == executors[slot]) {
                continue;
            }
            let (start, len) = lists[slot];
            for next in &self.nexts[start as usize..][..(len & !ACKABLE) as usize] {
                let mut to = *state;
                to[0] = next.global;
                to[1 + slot] = next.executor;
                self.settle(&mut to, slot);
                let Next { executor: number, violations, ended, writes, .. } = *next;
                each(Successor { to: &to, actor: slot as u8 + 1, number, violations, ended, writes });
            }
        }
        Ok(entry.finished && executors.iter().all(|&executor| self.has(executor, FINISHED)))
    }

    /// The one actor whose moves are enough in a state, if there is one: a slot, or `usize::MAX` for the patcher.
    ///
    /// * A broadcast, the end of a wait for acknowledgements, and a delay change nothing that an executor's other
    ///   moves depend on, and are changed by none of them: whatever executors do before, they can do after.
    ///   (For a broadcast this needs that every earlier one has been waited for.)
    /// * While the patcher waits for acknowledgements, an executor that has not acknowledged finds everything as
    ///   it is until it does: the patcher cannot go on, and executors that write no shared memory do not concern
    ///   each other, but for budgets of events, which allow the one what they allow the other. Every schedule
    ///   can be rearranged to begin with a move of it. That it comes to its acknowledgement, so that the others
    ///   get their turn, is asked of it alone.
    ///
    /// No outcome, violation, deadlock or livelock is lost. How many moves of the patcher fall into a window
    /// with interrupts off is: where that is measured, nothing is left out here.
    #[inline]
    fn only(
        &self,
        entry: &PatcherEntry,
        ready: bool,
        executors: &[u32],
        lists: &[(u32, u32)],
    ) -> Option<usize> {
        if !self.far {
            return None;
        }
        if ready {
            return entry.alone.then_some(usize::MAX);
        }
        (0..executors.len())
            .find(|&slot| lists[slot].1 & ACKABLE != 0 && !self.met(entry.needs, slot, executors[slot]))
    }

    /// What is missing to expand a state: all of it.
    pub(super) fn missing<const N: usize>(&self, state: &Packed<N>, all: &mut Vec<Missing>) {
        let global = state[0];
        let executors = &state[1..];
        let lists = executors.iter().filter(|&&executor| !self.lists.contains_key(&pair(global, executor)));
        all.extend(lists.map(|&executor| Missing::Executor(global, executor)));
        let Some(entry) = &self.patcher[global as usize] else { return all.push(Missing::Patcher(global)) };
        for (place, _) in (0..).zip(&entry.next).filter(|(_, next)| next.touches) {
            let lacks = |&&executor: &&u32| !self.effects.contains_key(&effect(global, place, executor));
            all.extend(
                executors.iter().filter(lacks).map(|&executor| Missing::Effect(global, place, executor)),
            );
        }
    }

    /// What an executor has become after the patcher's move at a place.
    pub(super) fn after_patcher(&self, global: u32, place: u32, executor: u32) -> u32 {
        self.effects.get(&effect(global, place, executor)).map_or(executor, |&(after, _)| after)
    }

    fn met(&self, needs: Guard, slot: usize, executor: u32) -> bool {
        match needs {
            Guard::Nothing => true,
            Guard::Acks(mask) => mask & (1 << slot) == 0 || self.has(executor, ACKNOWLEDGED),
            Guard::Observed => self.has(executor, OBSERVED),
            Guard::Zero(word, mask) => mask & (1 << slot) == 0 || self.has(executor, ZERO << word),
        }
    }

    fn has(&self, executor: u32, flag: u16) -> bool {
        self.flags[executor as usize] & flag != 0
    }

    /// True if the executor has interrupts off.
    pub(super) fn held(&self, executor: u32) -> bool {
        self.has(executor, HELD)
    }

    /// Asks the model for what is missing. The answer is the same for every slot that the executor may stand in:
    /// that is what makes a class.
    pub(super) fn fill(&mut self, model: &mut Model<'_>, missing: Missing) -> Result<(), EngineError> {
        match missing {
            Missing::Patcher(number) => {
                if self.patcher[number as usize].is_none() {
                    let entry = self.patcher_entry(model, number)?;
                    self.patcher[number as usize] = Some(entry);
                }
            }
            Missing::Executor(number, executor) => {
                if !self.lists.contains_key(&pair(number, executor)) {
                    let start = self.nexts.len();
                    let nexts = self.nexts_of(model, number, executor)?;
                    self.nexts.extend(nexts);
                    let ackable = self.far && self.ackable(model, number, executor)?;
                    let len = (self.nexts.len() - start) as u32 | if ackable { ACKABLE } else { 0 };
                    self.lists.insert(pair(number, executor), (start as u32, len));
                }
            }
            Missing::Effect(number, place, executor) => {
                let Some(entry) = &self.patcher[number as usize] else { return Ok(()) };
                let PatcherNext { global: after, step, .. } = entry.next[place as usize];
                let (before, after) = (*self.globals.get(number), *self.globals.get(after));
                let class = model.executors.get(executor).ghost.class;
                let slot = model.classes.iter().position(|&other| other == class).unwrap_or_default();
                let (to, found) = model.patcher_effect(&before, &after, step, slot, executor)?;
                let violations: Vec<Violation> = found.into_iter().collect();
                let violations = model.intern_violations(violations);
                self.effects.insert(effect(number, place, executor), (to, violations));
            }
        }
        self.note_flags(model);
        Ok(())
    }

    fn patcher_entry(&mut self, model: &mut Model<'_>, number: u32) -> Result<PatcherEntry, EngineError> {
        let global = *self.globals.get(number);
        let (moves, needs) = model.patcher_moves(&global);
        let mut next = Vec::new();
        for step in moves {
            let (after, writes) = model.patcher_global(&global, step)?;
            let touches = model.patcher_touches(&global);
            next.push(PatcherNext { global: self.intern(model, after), step, writes, touches });
        }
        let finished =
            usize::from(global.pc) == model.plan().program.len() && model.envs.get(global.env).sent == 0;
        Ok(PatcherEntry { alone: model.patcher_alone(&global), needs, next, finished })
    }

    /// True if an executor whose acknowledgement the patcher waits for comes to it by its own instructions and
    /// the IPIs that it has, as everything stands, and nobody else concerns it until then.
    fn ackable(&self, model: &mut Model<'_>, number: u32, executor: u32) -> Result<bool, EngineError> {
        const MOST: usize = 1000;
        let global = *self.globals.get(number);
        if !matches!(model.patcher_moves(&global).1, Guard::Acks(_)) || model.executors_write() {
            return Ok(false);
        }
        let mut met = vec![executor];
        let mut next = 0;
        while let Some(&executor) = met.get(next) {
            next += 1;
            if model.facts[executor as usize].acknowledged {
                return Ok(true);
            }
            for step in model.executor_moves(&global, executor)? {
                if matches!(step, Transition::Execute(..) | Transition::Ipi(..)) {
                    let (after, outcome) = model.executor_move(&global, 0, executor, step)?;
                    if !outcome.ended
                        && after == global
                        && !met.contains(&outcome.executor)
                        && met.len() < MOST
                    {
                        met.push(outcome.executor);
                    }
                }
            }
        }
        Ok(false)
    }

    fn nexts_of(
        &mut self,
        model: &mut Model<'_>,
        number: u32,
        executor: u32,
    ) -> Result<Vec<Next>, EngineError> {
        let global = *self.globals.get(number);
        let mut nexts = Vec::new();
        for step in model.executor_moves(&global, executor)? {
            let (after, outcome) = model.executor_move(&global, 0, executor, step)?;
            nexts.push(Next {
                global: self.intern(model, after),
                executor: outcome.executor,
                violations: outcome.violations,
                ended: outcome.ended,
                writes: outcome.writes,
            });
        }
        Ok(nexts)
    }

    /// Executes what is remembered of an executor's successors again.
    pub(super) fn recheck(
        &mut self,
        model: &mut Model<'_>,
        number: u32,
        executor: u32,
    ) -> Result<(), EngineError> {
        let global = *self.globals.get(number);
        model.recheck(&global, executor)
    }

    fn note_flags(&mut self, model: &Model<'_>) {
        for facts in &model.facts[self.flags.len()..] {
            let flag = |set: bool, flag: u16| if set { flag } else { 0 };
            self.flags.push(
                flag(facts.acknowledged, ACKNOWLEDGED)
                    | flag(facts.observed, OBSERVED)
                    | flag(facts.parked && facts.pending == 0, FINISHED)
                    | flag(!facts.interrupts_on, HELD)
                    | (u16::from(facts.zero) * ZERO),
            );
        }
    }

    /// Content hash of a packed state from those of its parts: a sum, so that the order of the executors does not
    /// matter (which class one belongs to is part of its own hash), mixed.
    #[inline]
    pub(super) fn digest<const N: usize>(&self, executors: &[u128], state: &Packed<N>) -> u128 {
        let global = self.globals.digest(state[0]);
        let sum = state[1..].iter().fold(global, |sum, &number| sum.wrapping_add(executors[number as usize]));
        const MIX: u128 = 0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835;
        let folded = (sum ^ sum >> 67).wrapping_mul(MIX);
        (folded ^ folded >> 61).wrapping_mul(MIX | 1 << 96)
    }

    /// How many answers the model gave.
    pub(super) fn fills(&self) -> usize {
        self.lists.len()
    }

    /// Memory in use, in bytes, roughly.
    pub(super) fn bytes(&self) -> usize {
        self.nexts.capacity() * size_of::<Next>() + self.lists.capacity() * 17 + self.effects.capacity() * 17
    }
}
