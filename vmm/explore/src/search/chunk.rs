//! A part of a batch: some states, and their successors sorted by shard.

use std::sync::atomic::{AtomicU32, Ordering};

use crossmod_model::state::graph::ENDED;

use super::system::{NO_VIOLATIONS, System, ViolationSet};
use super::table::{Missing, Tables};
use super::visited::{Packed, SHARDS, Shard, Visited, hash, number, shard_of};

/// In a count of transitions: everything is done in the state.
pub(super) const DONE: u16 = 1 << 15;
/// A successor on its way to its shard.
struct Arrival<const N: usize> {
    hash: u64,
    source: u32,
    /// Place of the transition in its chunk.
    at: u32,
    state: Packed<N>,
}

/// Some states under expansion.
pub(super) struct Chunk<const N: usize> {
    pub(super) sources: Vec<u32>,
    /// Transitions of each source, with [`DONE`].
    pub(super) counts: Vec<u16>,
    /// Where each transition leads: a state's number, known once it is in its shard, or [`ENDED`].
    pub(super) to: Vec<AtomicU32>,
    /// Successors for each shard.
    outboxes: Vec<Vec<Arrival<N>>>,
    /// Violations met, each set once, with the first state that shows it.
    pub(super) violating: Vec<(ViolationSet, u32)>,
    /// What the tables lack.
    pub(super) missing: Vec<Missing>,
}

/// What was inserted into a shard.
#[derive(Default)]
pub(super) struct Inserted {
    /// New states.
    pub(super) new: Vec<u32>,
    /// Sum of their content hashes.
    pub(super) digest: u128,
}

impl<const N: usize> Default for Chunk<N> {
    fn default() -> Chunk<N> {
        Chunk {
            sources: Vec::new(),
            counts: Vec::new(),
            to: Vec::new(),
            outboxes: (0..SHARDS).map(|_| Vec::new()).collect(),
            violating: Vec::new(),
            missing: Vec::new(),
        }
    }
}

impl<const N: usize> Chunk<N> {
    /// Empties it for these states.
    pub(super) fn begin(&mut self, sources: &[u32]) {
        self.sources.clear();
        self.sources.extend_from_slice(sources);
        self.counts.clear();
        self.to.clear();
        self.violating.clear();
        self.outboxes.iter_mut().for_each(Vec::clear);
    }

    /// Transitions of the states expanded so far.
    pub(super) fn transitions(&self) -> u64 {
        self.to.len() as u64
    }

    /// Expands the states in turn. Where the tables lack something, it stops and notes everything that the rest lacks.
    /// It can be called again once the tables are filled.
    pub(super) fn expand<S: System>(&mut self, tables: &Tables<S>, visited: &Visited<N>) {
        let Chunk { sources, counts, to, outboxes, violating, missing } = self;
        while let Some(&source) = sources.get(counts.len()) {
            let before = to.len();
            let done = tables.expand(visited.get(source), |transition| {
                if transition.violations != NO_VIOLATIONS
                    && !violating.iter().any(|&(known, _)| known == transition.violations)
                {
                    violating.push((transition.violations, source));
                }
                if !transition.ended {
                    let hash = hash(transition.to);
                    let at = to.len() as u32;
                    outboxes[shard_of(hash)].push(Arrival { hash, source, at, state: *transition.to });
                }
                to.push(AtomicU32::new(ENDED));
            });
            match done {
                Ok(done) => counts.push((to.len() - before) as u16 | if done { DONE } else { 0 }),
                Err(_) => {
                    for &source in &sources[counts.len()..] {
                        tables.missing(visited.get(source), missing);
                    }
                    return;
                }
            }
        }
    }
}

/// Inserts the successors that the chunks have for a shard, in order.
pub(super) fn insert<const N: usize>(
    index: usize,
    shard: &mut Shard<N>,
    inserted: &mut Inserted,
    chunks: &[Chunk<N>],
    digest: &(impl Fn(&Packed<N>) -> u128 + Sync),
) {
    for chunk in chunks {
        for Arrival { hash, source, at, state } in &chunk.outboxes[index] {
            let (local, new) = shard.insert(*hash, state, *source);
            let number = number(index, local);
            if new {
                inserted.new.push(number);
                inserted.digest = inserted.digest.wrapping_add(digest(state));
            }
            chunk.to[*at as usize].store(number, Ordering::Relaxed);
        }
    }
}
