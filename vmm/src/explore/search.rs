//! Exhaustive search, breadth first: the first schedule found for a property is a shortest one, and the
//! order of moves is fixed, so it is the same one every time.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher, Hasher};
use std::time::{Duration, Instant};

use hashbrown::HashTable;
use rustc_hash::FxBuildHasher;

use super::engine::Engine;
use super::graph::{ENDED, Edge, Graph};
use super::model::{Model, PassOutcome};
use super::state::{Move, State};
use crate::machine::{MachineError, stop_requested};
use crate::property::{self, Property, Violation, stall::Stall};

/// When to stop before everything is explored.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// States.
    pub max_states: usize,
    /// Wall time.
    pub timeout: Option<Duration>,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { max_states: 20_000_000, timeout: None }
    }
}

/// Why a search ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ended {
    /// Every reachable state was expanded.
    Exhausted,
    /// The limit of states was reached.
    MaxStates,
    /// The time was up.
    Timeout,
    /// A signal.
    Interrupted,
}

/// A violation and the shortest schedule to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// What was violated and how.
    pub violation: Violation,
    /// Moves from the initial state; the last one shows it.
    pub schedule: Vec<Move>,
}

/// What a search tells while it runs.
#[derive(Debug, Clone, Copy)]
pub struct Tick {
    /// States met.
    pub states: usize,
    /// States expanded.
    pub expanded: usize,
    /// Transitions taken.
    pub transitions: u64,
    /// Share of executor moves that were remembered, 0 to 1.
    pub hit_rate: f64,
}

/// The result of a search.
#[derive(Debug)]
pub struct Search {
    /// Why it ended.
    pub ended: Ended,
    /// States met.
    pub states: usize,
    /// Transitions taken.
    pub transitions: u64,
    /// Length of the longest shortest schedule.
    pub depth: usize,
    /// Violations, by property.
    pub found: BTreeMap<Property, Found>,
    /// How passes ended.
    pub outcomes: BTreeSet<PassOutcome>,
    /// The stall of each executor (exhausted searches only).
    pub stalls: Vec<Stall>,
    /// Order-independent digest of all states: the sum of their content hashes.
    pub states_digest: u128,
    /// Time it took.
    pub elapsed: Duration,
}

const TICK: usize = 1 << 14;

/// A search under way: the states met, how each was reached.
pub(super) struct Visited {
    stride: usize,
    words: Vec<u32>,
    parents: Vec<(u32, u16)>,
    table: HashTable<u32>,
}

impl Visited {
    pub(super) fn new(stride: usize) -> Visited {
        Visited { stride, words: Vec::new(), parents: Vec::new(), table: HashTable::new() }
    }

    fn len(&self) -> usize {
        self.parents.len()
    }

    pub(super) fn get(&self, index: u32) -> State {
        let start = index as usize * self.stride;
        State::unpack(&self.words[start..start + self.stride])
    }

    /// The number of a state, and whether it is new.
    pub(super) fn insert(&mut self, state: &State, parent: u32, step: u16) -> (u32, bool) {
        let start = self.words.len();
        state.pack(self.stride - State::stride(0), &mut self.words);
        let (old, fresh) = self.words.split_at(start);
        let stride = self.stride;
        let hash = hash_words(fresh);
        let same = |&index: &u32| &old[index as usize * stride..][..stride] == fresh;
        if let Some(&index) = self.table.find(hash, same) {
            self.words.truncate(start);
            return (index, false);
        }
        let index = self.parents.len() as u32;
        let words = &self.words;
        self.table
            .insert_unique(hash, index, |&index| hash_words(&words[index as usize * stride..][..stride]));
        self.parents.push((parent, step));
        (index, true)
    }

    fn schedule(&self, mut state: u32) -> Vec<Move> {
        let mut moves = Vec::new();
        while state != 0 {
            let (parent, step) = self.parents[state as usize];
            moves.extend(Move::decode(step));
            state = parent;
        }
        moves.reverse();
        moves
    }
}

fn hash_words(words: &[u32]) -> u64 {
    let mut hasher = FxBuildHasher.build_hasher();
    for &word in words {
        hasher.write_u32(word);
    }
    // The table uses the top bits for its tags: mix once more.
    hasher.finish() ^ hasher.finish() >> 32
}

/// Explores everything within the limits.
pub fn explore<E: Engine>(
    model: &mut Model<'_, E>,
    limits: Limits,
    mut tick: impl FnMut(Tick),
) -> Result<Search, MachineError> {
    let begun = Instant::now();
    let executors = model.plan().executors.len();
    let mut visited = Visited::new(State::stride(executors));
    let mut graph = Graph::default();
    let initial = model.initial()?;
    visited.insert(&initial, 0, 0);
    let mut digest = model.digest(&initial);
    let (mut found, mut outcomes) = (BTreeMap::new(), BTreeSet::new());
    let (mut transitions, mut depth, mut level_end) = (0u64, 0, 1);
    let mut ended = Ended::Exhausted;
    let mut moves = Vec::new();
    let mut next = 0u32;
    'search: while (next as usize) < visited.len() {
        if next as usize == level_end {
            (level_end, depth) = (visited.len(), depth + 1);
        }
        if (next as usize).is_multiple_of(TICK) {
            let stats = model.memo_stats();
            tick(Tick {
                states: visited.len(),
                expanded: next as usize,
                transitions,
                hit_rate: stats.outcome_hits as f64 / stats.moves.max(1) as f64,
            });
        }
        ended = if stop_requested() {
            Ended::Interrupted
        } else if visited.len() > limits.max_states {
            Ended::MaxStates
        } else if next.is_multiple_of(256) && limits.timeout.is_some_and(|limit| begun.elapsed() > limit) {
            Ended::Timeout
        } else {
            Ended::Exhausted
        };
        if ended != Ended::Exhausted {
            break;
        }
        let state = visited.get(next);
        graph.state(model.complete(&state), model.held(&state));
        model.moves(&state, &mut moves);
        for &step in &moves {
            let applied = match model.apply(&state, step) {
                // A signal during a KVM_RUN is the same request as one between two.
                Err(MachineError::Interrupted) => {
                    ended = Ended::Interrupted;
                    break 'search;
                }
                applied => applied?,
            };
            transitions += 1;
            outcomes.extend(applied.outcome);
            if applied.violations != 0 {
                for violation in model.violations(applied.violations) {
                    found.entry(violation.property).or_insert_with(|| {
                        let mut schedule = visited.schedule(next);
                        schedule.push(step);
                        Found { violation: violation.clone(), schedule }
                    });
                }
            }
            let to = if applied.ended {
                ENDED
            } else {
                let (index, new) = visited.insert(&applied.next, next, step.encode());
                if new {
                    digest = digest.wrapping_add(model.digest(&applied.next));
                }
                index
            };
            graph.edge(Edge { to, actor: step.actor(), writes: applied.writes });
        }
        next += 1;
    }
    let mut stalls = Vec::new();
    if ended == Ended::Exhausted {
        let progress = property::decide_progress(&graph);
        let waits = |state: u32| blocked(model, &visited.get(state));
        for (state, violation) in progress.violations(waits) {
            let schedule = visited.schedule(state);
            found.insert(violation.property, Found { violation, schedule });
        }
        stalls = (0..executors).map(|executor| property::stall::measure(&graph, executor)).collect();
    }
    let states = visited.len();
    let elapsed = begun.elapsed();
    Ok(Search { ended, states, transitions, depth, found, outcomes, stalls, states_digest: digest, elapsed })
}

/// Who waits for what, in a state that leads nowhere.
fn blocked<E: Engine>(model: &Model<'_, E>, state: &State) -> String {
    let mut parts = vec![match model.plan().program.get(usize::from(state.pc)) {
        Some(op) => format!("the patcher is at step `{}`", op.step),
        None => "the patcher has finished".into(),
    }];
    for slot in 0..model.plan().executors.len() {
        let regs = model.cpu_of(state, slot).regs;
        let place = match model.engine().image().nearest(regs.rip) {
            Some((label, 0)) => label.to_owned(),
            Some((label, offset)) => format!("{label}+{offset:#x}"),
            None => format!("{:#x}", regs.rip),
        };
        let interrupts = if regs.interrupts_on() { "" } else { ", interrupts off" };
        parts.push(format!("CPU {slot} is at {place}{interrupts}"));
    }
    parts.join("; ")
}
