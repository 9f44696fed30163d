//! Schedulers for state spaces too large to exhaust. They choose among transitions. What they find is as real and as
//! replayable as what a search finds; what they do not find proves nothing.

mod pct;
mod random;

use std::collections::BTreeMap;
use std::time::Instant;

use crossmod_model::property::{Property, Violation};
use rustc_hash::FxHashSet;
use serde::{Deserialize, Serialize};

use crate::error::{EngineError, Result, StopToken};
use crate::search::Counterexample;
use crate::search::system::{Reduction, System};
use crate::semantics::Model;
use crate::state::Transition;

pub use pct::Pct;
pub use random::Random;

/// Chooses the transitions of one run after another.
pub trait Strategy {
    /// A new run begins.
    fn begin(&mut self);

    /// The index of the transition to take; there is at least one.
    fn choose(&mut self, transitions: &[Transition]) -> usize;

    /// The chosen transition led to a state that was already met in this run: its actor spins.
    fn spins(&mut self, transition: Transition);

    /// What the strategy promises, if anything.
    fn bound(&self) -> Option<Bound>;
}

/// The sum of many runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sampled {
    /// Runs made.
    pub runs: u64,
    /// Of these, completed.
    pub completed: u64,
    /// Of these, ended at the limit of transitions.
    pub cut: u64,
    /// Transitions taken.
    pub moves: u64,
    /// Longest run, in transitions.
    pub longest: usize,
    /// Runs that the bound does not cover: longer than it allows for, or a spinning actor was set back.
    pub uncovered: u64,
    /// What the strategy promises for the others; `None`: nothing.
    pub bound: Option<Bound>,
}

/// A promise of a strategy.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Bound {
    /// Chance that one run shows a violation of the strategy's depth, at least.
    pub chance: f64,
    /// Longest run, in transitions, that this holds for.
    pub length: usize,
}

/// Limits of sampling.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Runs.
    pub runs: u64,
    /// Transitions in one run.
    pub length: usize,
    /// No run begins after this.
    pub until: Option<Instant>,
    /// Checked before each run.
    pub stop: StopToken,
}

/// Makes runs. For each property the shortest schedule among those of the runs is kept; it need not be a shortest one.
pub fn sample(
    model: &mut Model<'_>,
    strategy: &mut dyn Strategy,
    reduction: Reduction,
    limits: Limits,
    mut progress: impl FnMut(u64, u64),
) -> Result<(Sampled, Found)> {
    let mut found = Found::new();
    let mut sum = Sampled {
        runs: 0,
        completed: 0,
        cut: 0,
        moves: 0,
        longest: 0,
        uncovered: 0,
        bound: strategy.bound(),
    };
    let mut transitions = Vec::new();
    let initial = model.initial()?;
    let late = || limits.until.is_some_and(|until| Instant::now() >= until);
    'runs: while sum.runs < limits.runs && !limits.stop.requested() && !late() {
        strategy.begin();
        let (mut state, mut schedule, mut yielded) = (initial, Vec::new(), false);
        let mut met = FxHashSet::default();
        loop {
            if model.complete(&state) {
                sum.completed += 1;
                break;
            }
            model.transitions(&state, reduction, &mut transitions)?;
            if transitions.is_empty() || schedule.len() == limits.length {
                sum.cut += u64::from(!transitions.is_empty());
                break;
            }
            let step = transitions[strategy.choose(&transitions)];
            let applied = match model.apply(&state, step, reduction) {
                Err(EngineError::Interrupted) => break 'runs,
                applied => applied?,
            };
            schedule.push(step);
            for violation in model.violations(applied.violations) {
                keep_shortest(&mut found, violation, &schedule);
            }
            if applied.ended {
                break;
            }
            state = applied.next;
            if !met.insert(model.digest(&state)) {
                strategy.spins(step);
                yielded = true;
            }
        }
        sum.runs += 1;
        sum.moves += schedule.len() as u64;
        sum.longest = sum.longest.max(schedule.len());
        let long = sum.bound.is_some_and(|bound| schedule.len() > bound.length);
        sum.uncovered += u64::from(yielded || long);
        progress(sum.runs, sum.moves);
    }
    Ok((sum, found))
}

/// What was found, by property.
pub type Found = BTreeMap<Property, Counterexample<Transition>>;

fn keep_shortest(found: &mut Found, violation: &Violation, schedule: &[Transition]) {
    let known = found.get(&violation.property);
    if known.is_none_or(|known| schedule.len() < known.schedule.len()) {
        let (violation, schedule) = (violation.clone(), schedule.to_vec());
        found.insert(violation.property, Counterexample { violation, schedule });
    }
}
