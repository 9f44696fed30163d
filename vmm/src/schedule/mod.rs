//! Schedulers for state spaces too large to exhaust. They choose among moves and know nothing of KVM. What
//! they find is as real and as replayable as what a search finds; what they do not find proves nothing.

mod pct;
mod random;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use rustc_hash::FxHashSet;
use serde::Serialize;

pub use pct::Pct;
pub use random::Random;

use crate::explore::engine::Engine;
use crate::explore::{Found, Model, Move};
use crate::machine::{MachineError, stop_requested};
use crate::property::Property;

/// Chooses moves of one run after another.
pub trait Strategy {
    /// A new run begins.
    fn begin(&mut self);

    /// The index of the move to take; `moves` is not empty.
    fn choose(&mut self, moves: &[Move]) -> usize;

    /// The move that was chosen led to a state already met in this run: its actor spins.
    fn spins(&mut self, step: Move);

    /// Chance that one run shows a violation that needs `depth` ordering constraints, if the strategy
    /// promises one, for runs of at most `length` moves.
    fn bound(&self, length: usize) -> Option<f64>;
}

/// The sum of many runs.
#[derive(Debug, Clone, PartialEq, Serialize)]
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
    /// Runs in which a spinning actor had to be set back; the bound does not hold for these.
    pub yielded: u64,
    /// Chance that one run shows a violation of the strategy's depth, at least; `None`: no promise.
    pub bound: Option<f64>,
}

/// Limits of sampling.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Runs.
    pub runs: u64,
    /// Moves in one run.
    pub length: usize,
}

/// Makes runs; the first (and so, by luck only, a short) schedule for each property is kept.
pub fn sample<E: Engine>(
    model: &mut Model<'_, E>,
    strategy: &mut dyn Strategy,
    limits: Limits,
    mut tick: impl FnMut(u64, u64),
) -> Result<(Sampled, BTreeMap<Property, Found>), MachineError> {
    let mut found = BTreeMap::new();
    let mut sum = Sampled { runs: 0, completed: 0, cut: 0, moves: 0, longest: 0, yielded: 0, bound: None };
    let mut moves = Vec::new();
    let initial = model.initial()?;
    'runs: while sum.runs < limits.runs && !stop_requested() {
        strategy.begin();
        let (mut state, mut schedule, mut yielded) = (initial, Vec::new(), false);
        let mut met = FxHashSet::default();
        loop {
            if model.complete(&state) {
                sum.completed += 1;
                break;
            }
            model.moves(&state, &mut moves);
            if moves.is_empty() || schedule.len() == limits.length {
                sum.cut += u64::from(!moves.is_empty());
                break;
            }
            let step = moves[strategy.choose(&moves)];
            let applied = match model.apply(&state, step) {
                Err(MachineError::Interrupted) => break 'runs,
                applied => applied?,
            };
            schedule.push(step);
            for violation in model.violations(applied.violations) {
                match found.entry(violation.property) {
                    Entry::Vacant(entry) => {
                        entry.insert(Found { violation: violation.clone(), schedule: schedule.clone() });
                    }
                    Entry::Occupied(mut entry) => {
                        let known: &mut Found = entry.get_mut();
                        if schedule.len() < known.schedule.len() {
                            *known = Found { violation: violation.clone(), schedule: schedule.clone() };
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
        sum.yielded += u64::from(yielded);
        tick(sum.runs, sum.moves);
    }
    sum.bound = strategy.bound(sum.longest);
    Ok((sum, found))
}
