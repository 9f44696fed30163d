//! Schedulers for state spaces too large to exhaust. They choose among moves and know nothing of KVM. What
//! they find is as real and as replayable as what a search finds; what they do not find proves nothing.

mod pct;
mod random;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::time::Instant;

use rustc_hash::FxHashSet;
use serde::{Deserialize, Serialize};

pub use pct::Pct;
pub use random::Random;

use crossmod_model::property::Property;

use crate::error::{EngineError, StopToken};
use crate::{Counterexample, Model, Transition};

/// Chooses moves of one run after another.
pub trait Strategy {
    /// A new run begins.
    fn begin(&mut self);

    /// The index of the move to take; `moves` is not empty.
    fn choose(&mut self, moves: &[Transition]) -> usize;

    /// The move that was chosen led to a state already met in this run: its actor spins.
    fn spins(&mut self, step: Transition);

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
    /// Of these, ended at the limit of moves.
    pub cut: u64,
    /// Moves made.
    pub moves: u64,
    /// Longest run, in moves.
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
    /// Longest run, in moves, that this holds for.
    pub length: usize,
}

/// Limits of sampling.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Runs.
    pub runs: u64,
    /// Moves in one run.
    pub length: usize,
    /// No run begins after this.
    pub until: Option<Instant>,
    /// Asked before each run.
    pub stop: StopToken,
}

/// Makes runs; the first (and so, by luck only, a short) schedule for each property is kept.
pub fn sample(
    model: &mut Model<'_>,
    strategy: &mut dyn Strategy,
    limits: Limits,
    mut tick: impl FnMut(u64, u64),
) -> Result<(Sampled, BTreeMap<Property, Counterexample>), EngineError> {
    let mut found = BTreeMap::new();
    let mut sum = Sampled {
        runs: 0,
        completed: 0,
        cut: 0,
        moves: 0,
        longest: 0,
        uncovered: 0,
        bound: strategy.bound(),
    };
    let mut moves = Vec::new();
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
            model.moves(&state, &mut moves)?;
            if moves.is_empty() || schedule.len() == limits.length {
                sum.cut += u64::from(!moves.is_empty());
                break;
            }
            let step = moves[strategy.choose(&moves)];
            let applied = match model.apply(&state, step) {
                Err(EngineError::Interrupted) => break 'runs,
                applied => applied?,
            };
            schedule.push(step);
            for violation in model.violations(applied.violations) {
                match found.entry(violation.property) {
                    Entry::Vacant(entry) => {
                        entry.insert(Counterexample {
                            violation: violation.clone(),
                            schedule: schedule.clone(),
                        });
                    }
                    Entry::Occupied(mut entry) => {
                        let known: &mut Counterexample = entry.get_mut();
                        if schedule.len() < known.schedule.len() {
                            *known =
                                Counterexample { violation: violation.clone(), schedule: schedule.clone() };
                        }
                    }
                }
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
        tick(sum.runs, sum.moves);
    }
    Ok((sum, found))
}
