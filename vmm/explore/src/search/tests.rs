//! The search on a system that can be counted by hand.

use crossmod_model::property::{Property, Violation};
use crossmod_model::state::Id;

use super::system::{
    Applied, ExecutorSteps, Flags, Guard, NO_VIOLATIONS, PatcherList, PatcherStep, PatcherSteps, Reduction,
    System, ViolationSet,
};
use super::{Ended, Search, SearchOptions, Stalls, explore};
use crate::error::Result;

/// Two locks, and executors that take both, one after the other, and let both go. The patcher waits until all of
/// them are done.
///
/// An executor's number is 8 times the lock that it takes first, and how far it is: 0 neither taken, 1 the first
/// taken, 2 both taken, 3 both let go. The global is a bit for each lock that is held, and 4 once the patcher is done.
struct Locks {
    first: Vec<u32>,
    orbits: Vec<u8>,
    /// Taking the second lock is a violation.
    forbidden: bool,
    torn: [Violation; 1],
    digests: Vec<u128>,
}

const DONE: Flags = Flags(Flags::OWN);
const PATCHED: u8 = 4;
/// Stands for the patcher among the actors of a transition.
const PATCHER: usize = usize::MAX;

fn locks(first: &[u32], forbidden: bool) -> Locks {
    Locks {
        first: first.to_vec(),
        orbits: first.iter().map(|&lock| u8::from(lock != first[0])).collect(),
        forbidden,
        torn: [Violation::new(Property::Torn, "both locks are held")],
        digests: (0..12).map(|number| 1 << (10 * number)).collect(),
    }
}

impl System for Locks {
    type Global = u8;
    type Executor = ();
    type State = (u8, [Id<()>; 8]);
    type Transition = usize;

    fn orbits(&self) -> &[u8] {
        &self.orbits
    }

    fn orbit_of(&self, executor: Id<()>) -> u8 {
        u8::from(executor.number() / 8 != self.first[0])
    }

    fn flags(&self, executor: Id<()>) -> Flags {
        let held = Flags::HELD.when(executor.number() % 8 == 1);
        (Flags::FINISHED | DONE).when(executor.number() % 8 == 3) | held
    }

    fn violations(&self, set: ViolationSet) -> &[Violation] {
        if set == NO_VIOLATIONS { &[] } else { &self.torn }
    }

    fn global_digest(&self, global: &u8) -> u128 {
        u128::from(*global)
    }

    fn executor_digests(&self) -> &[u128] {
        &self.digests
    }

    fn patcher(&mut self, &global: &u8) -> Result<PatcherList<Self>> {
        let finished = global & PATCHED != 0;
        let (transition, global, touches, writes) = (PATCHER, global | PATCHED, false, true);
        let step = PatcherStep { transition, global, touches, writes };
        let steps = if finished { Vec::new() } else { vec![step] };
        let guard = Guard { executors: u32::MAX, flags: DONE };
        Ok(PatcherSteps { steps, guard, independent: false, finished })
    }

    fn patcher_effect(
        &mut self,
        _: &u8,
        _: &u8,
        _: usize,
        executor: Id<()>,
    ) -> Result<(Id<()>, ViolationSet)> {
        Ok((executor, NO_VIOLATIONS))
    }

    fn executor(&mut self, &global: &u8, executor: Id<()>, _: Reduction) -> Result<ExecutorSteps<Self>> {
        let (first, at) = (executor.number() / 8, executor.number() % 8);
        let lock = match at {
            0 => 1 << first,
            1 => 1 << (1 - first),
            _ => 0,
        };
        if at == 3 || global & lock != 0 {
            return Ok(Vec::new());
        }
        let ended = at == 1 && self.forbidden;
        let global = if at == 2 { global & PATCHED } else { global | lock };
        Ok(vec![Applied {
            next: (global, Id::new(executor.number() + 1)),
            violations: if ended { Id::new(1) } else { NO_VIOLATIONS },
            ended,
            writes: true,
        }])
    }

    fn meets_guard_alone(&mut self, _: &u8, _: Id<()>, _: Reduction) -> Result<bool> {
        Ok(false)
    }

    fn recheck(&mut self, _: &u8, _: Id<()>, _: Reduction) -> Result<()> {
        Ok(())
    }

    fn initial(&mut self) -> Result<Self::State> {
        let mut executors = [Id::new(0); 8];
        for (executor, lock) in executors.iter_mut().zip(&self.first) {
            *executor = Id::new(8 * lock);
        }
        Ok((0, executors))
    }

    fn parts<'s>(&self, state: &'s Self::State) -> (u8, &'s [Id<()>]) {
        (state.0, &state.1[..self.first.len()])
    }

    fn transitions(
        &mut self,
        state: &Self::State,
        reduction: Reduction,
        transitions: &mut Vec<usize>,
    ) -> Result<()> {
        transitions.clear();
        for slot in 0..self.first.len() {
            if !self.executor(&state.0, state.1[slot], reduction)?.is_empty() {
                transitions.push(slot);
            }
        }
        let (global, executors) = self.parts(state);
        let done = executors.iter().all(|&executor| self.flags(executor).contain(DONE));
        if done && global & PATCHED == 0 {
            transitions.push(PATCHER);
        }
        Ok(())
    }

    fn apply(
        &mut self,
        state: &Self::State,
        transition: usize,
        reduction: Reduction,
    ) -> Result<Applied<Self::State>> {
        let mut next = *state;
        if transition == PATCHER {
            next.0 |= PATCHED;
            return Ok(Applied { next, violations: NO_VIOLATIONS, ended: false, writes: true });
        }
        let step = self.executor(&state.0, state.1[transition], reduction)?[0];
        Ok(step.map(|after| {
            (next.0, next.1[transition]) = after;
            next
        }))
    }

    fn describe(&self, state: &Self::State) -> String {
        format!("locks {:02b}", state.0)
    }
}

fn search(mut system: Locks, options: SearchOptions) -> Search<usize> {
    let search = explore(&mut system, super::Limits::default(), options, |_| {}).expect("a search");
    assert_eq!(search.ended, Ended::Exhausted);
    search
}

fn counts(search: &Search<usize>) -> (usize, u64, usize) {
    (search.states, search.transitions, search.depth)
}

#[test]
fn one_executor_has_one_schedule() {
    let search = search(locks(&[0], false), SearchOptions::default());
    assert_eq!((counts(&search), search.found.len()), ((5, 4, 4), 0));
}

#[test]
fn locks_taken_in_opposite_orders_deadlock() {
    // Before the deadlock at (1, 1), one executor goes from 0 to 3 and then the other one, in either order.
    for stalls in [Stalls::Keep, Stalls::No] {
        let search = search(locks(&[0, 1], false), SearchOptions { stalls, ..SearchOptions::default() });
        assert_eq!(counts(&search), (14, 15, 7));
        assert_eq!(search.found.keys().collect::<Vec<_>>(), [&Property::Deadlock]);
        let deadlock = &search.found[&Property::Deadlock];
        assert!(deadlock.violation.detail.contains("locks 11"), "{}", deadlock.violation.detail);
        assert!([vec![0, 1], vec![1, 0]].contains(&deadlock.schedule), "{:?}", deadlock.schedule);
    }
}

#[test]
fn interchangeable_executors_are_explored_once() {
    let of = |symmetry| search(locks(&[0, 0], false), SearchOptions { symmetry, ..SearchOptions::default() });
    let (all, canonical) = (of(false), of(true));
    assert_eq!((counts(&all), counts(&canonical)), ((13, 13, 7), (8, 7, 7)));
    assert_eq!((all.found.len(), canonical.found.len()), (0, 0));
    assert_eq!(canonical.stalls.len(), 2);
}

#[test]
fn a_violation_that_ends_an_execution_has_a_shortest_schedule() {
    let search = search(locks(&[1], true), SearchOptions::default());
    assert_eq!(counts(&search), (2, 2, 1));
    assert_eq!(search.found.keys().collect::<Vec<_>>(), [&Property::Torn]);
    assert_eq!(search.found[&Property::Torn].schedule, [0, 0]);
}
