//! A breadth-first search of all states.

use std::collections::BTreeSet;

use indexmap::IndexSet;
use rustc_hash::FxBuildHasher;

use super::case::Case;
use super::fetch::Model;
use super::world::{Bench, Label, Outcome, World};

/// States by number. Each keeps its hash.
pub type Worlds<W> = IndexSet<W, FxBuildHasher>;

/// What a search has found.
#[derive(Debug, Default)]
pub struct Verdict {
    pub violated: BTreeSet<&'static str>,
    /// The shortest schedule to each.
    pub schedules: Vec<(&'static str, Vec<Label>)>,
    /// Every way in which a pass ends.
    pub outcomes: BTreeSet<Outcome>,
    pub states: usize,
    pub transitions: usize,
}

/// Searches; none if there are more states than this.
pub fn search(case: &Case, model: Model, most: usize) -> Option<Verdict> {
    let bench = Bench::new(case, model);
    let mut verdict = Verdict::default();
    let mut worlds: Worlds<World> = Worlds::from_iter([bench.initial()]);
    let mut from: Vec<Option<(usize, Label)>> = vec![None];
    let mut moves = Moves::default();
    // Where an execution can end.
    let mut ends = Vec::new();
    // States in which an executor writes shared memory, and could do so again and again.
    let mut writes = Vec::new();
    let mut at = 0;
    while at < worlds.len() {
        if worlds.len() > most {
            return None;
        }
        let mut ended = bench.complete(&worlds[at]);
        for next in bench.moves(&worlds[at]) {
            verdict.transitions += 1;
            verdict.outcomes.extend(next.outcome);
            for property in next.violated {
                if verdict.violated.insert(property) {
                    verdict.schedules.push((property, schedule(&from, at, next.label)));
                }
            }
            let Some(world) = next.world else {
                ended = true;
                continue;
            };
            let (index, new) = worlds.insert_full(world);
            if new {
                from.push(Some((at, next.label)));
            }
            moves.add(at, index);
            if case.counting && matches!(next.label, Label::Claim(_)) {
                writes.push(at);
            }
        }
        if ended {
            ends.push(at);
        }
        at += 1;
    }
    // A state that cannot reach an end is stuck. It is a deadlock if it can reach a state from where nobody writes any
    // more, and a livelock otherwise.
    let before = moves.backwards(worlds.len());
    let completes = before.reaching(ends);
    let writing = before.reaching(writes);
    let stuck = |at: &usize| !completes[*at];
    let silent: Vec<usize> = (0..worlds.len()).filter(stuck).filter(|&at| !writing[at]).collect();
    let silenced = before.reaching(silent.clone());
    let busy = (0..worlds.len()).filter(stuck).find(|&at| !silenced[at]);
    for (property, first) in [("deadlock", silent.first().copied()), ("livelock", busy)] {
        if let Some(first) = first {
            verdict.violated.insert(property);
            verdict
                .schedules
                .extend(from[first].map(|(origin, label)| (property, schedule(&from, origin, label))));
        }
    }
    verdict.states = worlds.len();
    Some(verdict)
}

/// All moves: from which state to which.
#[derive(Default)]
pub struct Moves(Vec<[u32; 2]>);

impl Moves {
    pub fn add(&mut self, from: usize, to: usize) {
        self.0.push([from as u32, to as u32]);
    }

    pub fn backwards(mut self, states: usize) -> Backwards {
        self.0.sort_unstable_by_key(|[_, to]| *to);
        let starts = (0..=states).map(|state| self.0.partition_point(|[_, to]| (*to as usize) < state));
        Backwards { starts: starts.collect(), moves: self.0 }
    }
}

/// Moves sorted by the state that they lead to, with the index of the first one for each state.
pub struct Backwards {
    starts: Vec<usize>,
    moves: Vec<[u32; 2]>,
}

impl Backwards {
    /// The states from which one of these can be reached.
    pub fn reaching(&self, mut work: Vec<usize>) -> Vec<bool> {
        let mut known = vec![false; self.starts.len() - 1];
        while let Some(at) = work.pop() {
            if !std::mem::replace(&mut known[at], true) {
                let moves = &self.moves[self.starts[at]..self.starts[at + 1]];
                work.extend(moves.iter().map(|[from, _]| *from as usize));
            }
        }
        known
    }
}

fn schedule(from: &[Option<(usize, Label)>], mut at: usize, last: Label) -> Vec<Label> {
    let mut moves = vec![last];
    while let Some((origin, label)) = from[at] {
        moves.push(label);
        at = origin;
    }
    moves.reverse();
    moves
}
