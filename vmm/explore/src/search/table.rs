//! Successors by number: what the search looks up instead of asking the system.
//!
//! The [`System`] computes the steps of the patcher and of each executor once; they are kept by number. A search then
//! walks over products of table entries.

use std::ops::Range;

use crossmod_model::state::{Actor, Id};
use hashbrown::HashMap;
use rustc_hash::FxBuildHasher;

use super::symmetry::Symmetry;
use super::system::{
    Applied, Flags, NO_VIOLATIONS, PatcherStep, PatcherSteps, Reduction, System, ViolationSet,
};
use super::visited::Packed;
use crate::error::Result;
use crate::intern::Interner;

/// A step of the patcher: the global that it starts from, and what it does.
type PatcherNext<S> =
    (Id<<S as System>::Global>, PatcherStep<Id<<S as System>::Global>, <S as System>::Transition>);

/// The patcher's steps, among those of all globals.
type PatcherEntry = PatcherSteps<Range<usize>>;

/// What is missing to expand a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Missing {
    /// The patcher's steps, for this global.
    Patcher(u32),
    /// The steps of an executor, for this global.
    Executor(u32, u32),
    /// What a step of the patcher (by its number) does to an executor.
    Effect(u32, u32),
}

/// One transition of a packed state.
pub(super) struct Successor<'a, const N: usize> {
    /// The state it leads to, in canonical form.
    pub(super) to: &'a Packed<N>,
    /// Whose transition it is.
    pub(super) actor: Actor,
    /// The number of the executor afterwards; for the patcher, the number of its step (see
    /// [`Tables::after_patcher`]).
    pub(super) number: u32,
    /// What it violates.
    pub(super) violations: ViolationSet,
    /// A violation ended the execution.
    pub(super) ended: bool,
    /// Memory that others read was written.
    pub(super) writes: bool,
}

/// The steps of an executor.
#[derive(Debug, Clone, Copy, Default)]
struct List {
    start: u32,
    /// With [`MEETS_GUARD`].
    len: u32,
}

/// In the length of a list: the executor can do by itself what the patcher waits for.
const MEETS_GUARD: u32 = 1 << 31;

impl List {
    #[inline]
    fn range(self) -> Range<usize> {
        let start = self.start as usize;
        start..start + (self.len & !MEETS_GUARD) as usize
    }
}

type Map<V> = HashMap<u64, V, FxBuildHasher>;

/// The tables of one search.
pub(super) struct Tables<S: System> {
    symmetry: Symmetry,
    reduction: Reduction,
    /// Leave out alternatives that only stalls need (see [`Tables::persistent_set`]).
    ignore_stalls: bool,
    globals: Interner<S::Global>,
    /// By global and executor.
    lists: Map<List>,
    /// The numbers of the global and the executor afterwards.
    executor_nexts: Vec<Applied<(u32, u32)>>,
    /// By global.
    patcher: Vec<Option<PatcherEntry>>,
    patcher_nexts: Vec<PatcherNext<S>>,
    /// By step of the patcher and executor: the executor afterwards, and violations.
    effects: Map<(u32, ViolationSet)>,
    /// Facts about each executor.
    flags: Vec<Flags>,
}

/// The key of an executor's number and another one: that of a global, or of a step of the patcher.
fn key(number: u32, executor: u32) -> u64 {
    u64::from(number) << 32 | u64::from(executor)
}

impl<S: System> Tables<S> {
    /// Empty tables for a system.
    pub(super) fn new(symmetry: Symmetry, reduction: Reduction, ignore_stalls: bool) -> Tables<S> {
        Tables {
            symmetry,
            reduction,
            ignore_stalls,
            globals: Interner::default(),
            lists: Map::default(),
            executor_nexts: Vec::new(),
            patcher: Vec::new(),
            patcher_nexts: Vec::new(),
            effects: Map::default(),
            flags: Vec::new(),
        }
    }

    /// Which transitions are taken together.
    pub(super) fn reduction(&self) -> Reduction {
        self.reduction
    }

    /// Packs a state in canonical form.
    pub(super) fn pack<const N: usize>(&mut self, system: &S, state: &S::State) -> Packed<N> {
        let (global, executors) = system.parts(state);
        let mut words = [0; N];
        words[0] = self.intern(system, global).number();
        for (word, executor) in words[1..].iter_mut().zip(executors) {
            *word = executor.number();
        }
        self.symmetry.canonicalize(&mut words);
        words
    }

    fn intern(&mut self, system: &S, global: S::Global) -> Id<S::Global> {
        let id = self.globals.intern(global, |global| system.global_digest(global));
        if self.patcher.len() <= id.index() {
            self.patcher.push(None);
        }
        id
    }

    /// Calls `each` with every transition of a packed state, in a fixed order, and returns whether everything is done
    /// in it. Of executors that are interchangeable and in the same state only the first one moves.
    #[inline]
    pub(super) fn expand<const N: usize>(
        &self,
        state: &Packed<N>,
        mut each: impl FnMut(Successor<'_, N>),
    ) -> Result<bool, Missing> {
        let global = state[0];
        let Some(entry) = &self.patcher[global as usize] else { return Err(Missing::Patcher(global)) };
        let executors = &state[1..];
        let mut lists = [List::default(); N];
        for (list, &executor) in lists.iter_mut().zip(executors) {
            let Some(known) = self.lists.get(&key(global, executor)) else {
                return Err(Missing::Executor(global, executor));
            };
            *list = *known;
        }
        let ready = (0..N - 1).all(|slot| entry.guard.met(slot, self.flags[executors[slot] as usize]));
        let only = self.persistent_set(entry, ready, executors, &lists);
        if ready {
            self.expand_patcher(entry, state, &mut each)?;
        }
        for slot in 0..N - 1 {
            if only.is_some_and(|only| only != Actor::Executor(slot as u8)) {
                continue;
            }
            if self.symmetry.before(slot).any(|peer| executors[peer] == executors[slot]) {
                continue;
            }
            for next in &self.executor_nexts[lists[slot].range()] {
                let Applied { next: (global, number), violations, ended, writes } = *next;
                let mut to = *state;
                to[0] = global;
                to[1 + slot] = number;
                self.symmetry.canonicalize_slot(&mut to, slot);
                let actor = Actor::Executor(slot as u8);
                each(Successor { to: &to, actor, number, violations, ended, writes });
            }
        }
        let finished = |&executor: &u32| self.flags[executor as usize].contain(Flags::FINISHED);
        Ok(entry.finished && executors.iter().all(finished))
    }

    /// The patcher's part of [`Tables::expand`].
    #[inline]
    fn expand_patcher<const N: usize>(
        &self,
        entry: &PatcherEntry,
        state: &Packed<N>,
        each: &mut impl FnMut(Successor<'_, N>),
    ) -> Result<(), Missing> {
        let executors = &state[1..];
        let nexts = || (entry.steps.start as u32..).zip(&self.patcher_nexts[entry.steps.clone()]);
        for (number, _) in nexts().filter(|(_, (_, next))| next.touches) {
            let lacks = |&&executor: &&u32| !self.effects.contains_key(&key(number, executor));
            if let Some(&executor) = executors.iter().find(lacks) {
                return Err(Missing::Effect(number, executor));
            }
        }
        for (number, (_, next)) in nexts() {
            let mut violations = NO_VIOLATIONS;
            let mut to = *state;
            to[0] = next.global.number();
            if next.touches {
                for (word, &executor) in to[1..].iter_mut().zip(executors) {
                    let (after, found) = self.effects[&key(number, executor)];
                    *word = after;
                    violations = if violations == NO_VIOLATIONS { found } else { violations };
                }
                self.symmetry.canonicalize(&mut to);
            }
            let (actor, writes) = (Actor::Patcher, next.writes);
            each(Successor { to: &to, actor, number, violations, ended: false, writes });
        }
        Ok(())
    }

    /// The one actor whose transitions are enough in a state, if there is one: a persistent set in the sense of
    /// Godefroid (LNCS 1032), closely related to Valmari's stubborn sets.
    ///
    /// * Independent steps of the patcher commute with everything that executors do: whatever executors do before
    ///   them, they can do after them.
    /// * While the patcher waits, an executor that still has to do its part finds everything as it is until it has
    ///   done it: the patcher cannot go on, and executors that write no shared memory do not concern each other,
    ///   except for budgets of events, which allow the one what they allow the other. Every schedule can be
    ///   rearranged to begin with a transition of this executor. That it completes its part, so that the others get
    ///   their turn, is required of it alone (see [`System::meets_guard_alone`]).
    ///
    /// No outcome, violation, deadlock or livelock is lost. The number of the patcher's transitions in a window with
    /// interrupts off is lost: where stalls are measured, nothing is left out here.
    #[inline]
    fn persistent_set(
        &self,
        entry: &PatcherEntry,
        ready: bool,
        executors: &[u32],
        lists: &[List],
    ) -> Option<Actor> {
        if !self.ignore_stalls {
            return None;
        }
        if ready {
            return entry.independent.then_some(Actor::Patcher);
        }
        let alone = |&slot: &usize| {
            lists[slot].len & MEETS_GUARD != 0 && !entry.guard.met(slot, self.flags[executors[slot] as usize])
        };
        (0..executors.len()).find(alone).map(|slot| Actor::Executor(slot as u8))
    }

    /// Everything that is missing to expand a state.
    pub(super) fn missing<const N: usize>(&self, state: &Packed<N>, all: &mut Vec<Missing>) {
        let global = state[0];
        let executors = &state[1..];
        let lists = executors.iter().filter(|&&executor| !self.lists.contains_key(&key(global, executor)));
        all.extend(lists.map(|&executor| Missing::Executor(global, executor)));
        let Some(entry) = &self.patcher[global as usize] else { return all.push(Missing::Patcher(global)) };
        let nexts = (entry.steps.start as u32..).zip(&self.patcher_nexts[entry.steps.clone()]);
        for (number, _) in nexts.filter(|(_, (_, next))| next.touches) {
            let lacks = |&&executor: &&u32| !self.effects.contains_key(&key(number, executor));
            all.extend(executors.iter().filter(lacks).map(|&executor| Missing::Effect(number, executor)));
        }
    }

    /// The number of an executor after a step of the patcher.
    pub(super) fn after_patcher(&self, step: u32, executor: u32) -> u32 {
        self.effects.get(&key(step, executor)).map_or(executor, |&(after, _)| after)
    }

    /// True if the executor has interrupts off.
    pub(super) fn held(&self, executor: u32) -> bool {
        self.flags[executor as usize].contain(Flags::HELD)
    }

    /// Asks the system for what is missing.
    pub(super) fn fill(&mut self, system: &mut S, missing: Missing) -> Result<()> {
        match missing {
            Missing::Patcher(number) => {
                if self.patcher[number as usize].is_none() {
                    let entry = self.patcher_entry(system, Id::new(number))?;
                    self.patcher[number as usize] = Some(entry);
                }
            }
            Missing::Executor(number, executor) => {
                if !self.lists.contains_key(&key(number, executor)) {
                    let list = self.list(system, Id::new(number), Id::new(executor))?;
                    self.lists.insert(key(number, executor), list);
                }
            }
            Missing::Effect(number, executor) => {
                let (from, PatcherStep { transition, global, .. }) = self.patcher_nexts[number as usize];
                let (before, after) = (self.globals[from], self.globals[global]);
                let (to, violations) =
                    system.patcher_effect(&before, &after, transition, Id::new(executor))?;
                self.effects.insert(key(number, executor), (to.number(), violations));
            }
        }
        for number in self.flags.len()..system.executor_digests().len() {
            self.flags.push(system.flags(Id::new(number as u32)));
        }
        Ok(())
    }

    fn patcher_entry(&mut self, system: &mut S, from: Id<S::Global>) -> Result<PatcherEntry> {
        let PatcherSteps { steps, guard, independent, finished } = system.patcher(&{ self.globals[from] })?;
        let start = self.patcher_nexts.len();
        for PatcherStep { transition, global, touches, writes } in steps {
            let global = self.intern(system, global);
            self.patcher_nexts.push((from, PatcherStep { transition, global, touches, writes }));
        }
        Ok(PatcherEntry { steps: start..self.patcher_nexts.len(), guard, independent, finished })
    }

    fn list(&mut self, system: &mut S, global: Id<S::Global>, executor: Id<S::Executor>) -> Result<List> {
        let global = self.globals[global];
        let start = self.executor_nexts.len() as u32;
        for step in system.executor(&global, executor, self.reduction)? {
            let next = step.map(|(global, to)| (self.intern(system, global).number(), to.number()));
            self.executor_nexts.push(next);
        }
        let alone = self.ignore_stalls && system.meets_guard_alone(&global, executor, self.reduction)?;
        let len = self.executor_nexts.len() as u32 - start;
        Ok(List { start, len: len | if alone { MEETS_GUARD } else { 0 } })
    }

    /// The global with a number.
    pub(super) fn global(&self, number: u32) -> S::Global {
        self.globals[Id::new(number)]
    }

    /// Computes the steps of an executor again.
    pub(super) fn recheck(&self, system: &mut S, global: u32, executor: u32) -> Result<()> {
        system.recheck(&self.globals[Id::new(global)], Id::new(executor), self.reduction)
    }

    /// Content hash of a packed state from those of its parts: a sum, so that the order of the executors does not
    /// matter (the orbit of an executor is part of its own hash), mixed.
    #[inline]
    pub(super) fn digest<const N: usize>(&self, executors: &[u128], state: &Packed<N>) -> u128 {
        let global = self.globals.digests()[state[0] as usize];
        let sum = state[1..].iter().fold(global, |sum, &number| sum.wrapping_add(executors[number as usize]));
        const MIX: u128 = 0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835;
        let folded = (sum ^ sum >> 67).wrapping_mul(MIX);
        (folded ^ folded >> 61).wrapping_mul(MIX | 1 << 96)
    }

    /// Number of table misses.
    pub(super) fn fills(&self) -> usize {
        self.lists.len()
    }

    /// Memory in use, in bytes, roughly.
    pub(super) fn bytes(&self) -> usize {
        self.executor_nexts.capacity() * size_of::<Applied<(u32, u32)>>()
            + self.lists.capacity() * 17
            + self.effects.capacity() * 17
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn different_numbers_have_different_keys() {
        let numbers = [0, 1, 1 << 5, 1 << 27, 1 << 31, u32::MAX];
        let keys = numbers.iter().flat_map(|&one| numbers.map(|other| key(one, other)));
        assert_eq!(keys.collect::<BTreeSet<u64>>().len(), numbers.len() * numbers.len());
    }
}
