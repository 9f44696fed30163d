//! A search of all states, without any reduction.

use std::collections::BTreeSet;

use super::machine::{Bench, Final, Label, Memory, Outcome, World};
use super::program::Case;
use crate::checker::fetch::Model;
use crate::checker::search::{Moves, Worlds};

/// What can happen.
#[derive(Debug, Default)]
pub struct Verdict {
    pub violated: BTreeSet<&'static str>,
    pub outcomes: BTreeSet<Outcome>,
    /// What can be observed at the end.
    pub finals: BTreeSet<Final>,
    /// The shortest schedule to each of them.
    pub schedules: Vec<(Final, Vec<Label>)>,
    pub states: usize,
}

impl Verdict {
    /// Nothing more can happen, and nothing less.
    pub fn same(&self, other: &Verdict) -> bool {
        self.violated == other.violated && self.outcomes == other.outcomes && self.finals == other.finals
    }
}

/// Searches; none if there are more states than this.
pub fn search(case: &Case, model: Model, memory: Memory, most: usize) -> Option<Verdict> {
    let bench = Bench { case, model, memory };
    let mut verdict = Verdict::default();
    let mut worlds: Worlds<World> = Worlds::from_iter([bench.initial()]);
    let mut moves = Moves::default();
    // Where an execution can end.
    let mut ends = Vec::new();
    let mut from: Vec<Option<(usize, Label)>> = vec![None];
    let mut at = 0;
    while at < worlds.len() {
        if worlds.len() > most {
            return None;
        }
        if let Some(observed) = bench.observed(&worlds[at]) {
            if verdict.finals.insert(observed.clone()) {
                verdict.schedules.push((observed, schedule(&from, at)));
            }
            ends.push(at);
        }
        for next in bench.moves(&worlds[at]) {
            verdict.outcomes.extend(next.outcome);
            verdict.violated.extend(next.violated);
            let Some(world) = next.world else {
                ends.push(at);
                continue;
            };
            let (index, new) = worlds.insert_full(world);
            if new {
                from.push(Some((at, next.label)));
            }
            moves.add(at, index);
        }
        at += 1;
    }
    let completes = moves.backwards(worlds.len()).reaching(ends);
    if completes.contains(&false) {
        verdict.violated.insert("deadlock");
    }
    verdict.states = worlds.len();
    Some(verdict)
}

fn schedule(from: &[Option<(usize, Label)>], mut at: usize) -> Vec<Label> {
    let mut moves = Vec::new();
    while let Some((origin, label)) = from[at] {
        moves.push(label);
        at = origin;
    }
    moves.reverse();
    moves
}
