//! Exhaustive search, breadth first: the first schedule found for a property is a shortest one, and the order
//! of everything is fixed, so it is the same one every time, for any number of workers.
//!
//! The states of one depth are taken in batches, in three steps. Workers look up the successors of the
//! batch's chunks; what the tables lack is asked of the model, by one thread and in the order of the states,
//! because only one thread has the machine; then workers put the successors into the shards of the visited
//! set. A chunk keeps its successors apart by shard, a shard takes in the chunks in their order: which worker
//! does what when changes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crossmod_model::layout::MAX_CPUS;
use crossmod_model::property::{Property, Violation, stall::Stall};

use super::chunk::{Chunk, Inserted, insert};
use super::evidence::Evidence;
use super::model::{Model, PassOutcome};
use super::sampler::Sampler;
use super::state::Transition;
use super::table::Tables;
use super::transition_log::{Log, STALL_LIMIT};
use super::visited::{Packed, SHARDS, Shard, Visited};
use crate::error::{EngineError, StopToken};

/// When to stop before everything is explored, and how to search.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// States.
    pub max_states: usize,
    /// Bytes of memory of the search itself.
    pub max_memory: usize,
    /// Wall time.
    pub timeout: Option<Duration>,
    /// Asked between two batches of states.
    pub stop: StopToken,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { max_states: 1 << 31, max_memory: 8 << 30, timeout: None, stop: StopToken::NEVER }
    }
}

/// How to search; none of it changes what is found.
#[derive(Debug, Clone, Copy)]
pub struct SearchOptions {
    /// Threads.
    pub workers: usize,
    /// Treat states that differ by an exchange of interchangeable executors as one.
    pub symmetry: bool,
    /// One looked-up list of successors in this many is executed again and compared; 0 = none.
    pub recheck: u32,
    /// Chooses which.
    pub seed: u64,
    /// Whether to take the alternatives that only stalls need.
    pub stalls: Stalls,
}

/// Whether a search takes the alternatives that only stalls need. Without them it reaches much further.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stalls {
    /// Until it has met more than [`STALL_LIMIT`] states; then it begins anew without.
    Auto,
    /// However large it becomes; they are measured up to that limit all the same.
    Keep,
    /// Not at all.
    No,
}

impl Default for SearchOptions {
    fn default() -> Self {
        SearchOptions { workers: 1, symmetry: true, recheck: 0, seed: 1, stalls: Stalls::Auto }
    }
}

/// Why a search ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ended {
    /// Every reachable state was expanded.
    Exhausted,
    /// The limit of states was reached.
    MaxStates,
    /// The limit of memory was reached.
    MaxMemory,
    /// The time was up.
    Timeout,
    /// A signal.
    Interrupted,
}

/// A violation and the shortest schedule to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counterexample {
    /// What was violated and how.
    pub violation: Violation,
    /// Moves from the initial state; the last one shows it.
    pub schedule: Vec<Transition>,
}

/// What a search tells while it runs.
#[derive(Debug, Clone, Copy)]
pub struct SearchProgress {
    /// States met.
    pub states: usize,
    /// States expanded.
    pub expanded: usize,
    /// Transitions taken.
    pub transitions: u64,
    /// Share of looked-up successor lists that were known, 0 to 1.
    pub hit_rate: f64,
    /// Memory of the search, in bytes.
    pub memory: usize,
    /// Time since the search began.
    pub elapsed: Duration,
}

/// The result of a search.
#[derive(Debug)]
pub struct Search {
    /// Why it ended.
    pub ended: Ended,
    /// States met.
    pub states: usize,
    /// States expanded: what was covered, if it ended early.
    pub expanded: usize,
    /// Transitions taken.
    pub transitions: u64,
    /// Length of the longest shortest schedule; for a search that ended early, every schedule of fewer moves
    /// was covered.
    pub depth: usize,
    /// Violations, by property.
    pub found: BTreeMap<Property, Counterexample>,
    /// How passes ended.
    pub outcomes: BTreeSet<PassOutcome>,
    /// The stall of each executor; empty if it was not measured, because the search ended early, or is larger than
    /// [`STALL_LIMIT`].
    pub stalls: Vec<Stall>,
    /// Order-independent digest of all states: the sum of their content hashes.
    pub states_digest: u128,
    /// Most memory in use, in bytes.
    pub memory: usize,
    /// Lists of successors looked up, and how many of them were executed again and compared.
    pub lookups: [u64; 2],
    /// Time it took.
    pub elapsed: Duration,
}

/// States of one chunk.
const CHUNK: usize = 1024;
/// Chunks of one batch.
const BATCH: usize = 32;

/// Explores everything within the limits.
pub fn explore(
    model: &mut Model<'_>,
    limits: Limits,
    manner: SearchOptions,
    mut tick: impl FnMut(SearchProgress),
) -> Result<Search, EngineError> {
    let begun = Instant::now();
    let tick = &mut tick;
    if manner.stalls != Stalls::No
        && let Some(search) = begin(model, limits, manner, begun, tick)?
    {
        return Ok(search);
    }
    let far = begin(model, limits, SearchOptions { stalls: Stalls::No, ..manner }, begun, tick)?;
    far.ok_or_else(|| EngineError::Inconsistent("a search without stalls has no end".into()))
}

/// One search; `None` if it met too many states for stalls.
fn begin(
    model: &mut Model<'_>,
    limits: Limits,
    manner: SearchOptions,
    begun: Instant,
    tick: &mut dyn FnMut(SearchProgress),
) -> Result<Option<Search>, EngineError> {
    match model.plan().executors.len() {
        1 => search::<2>(model, limits, manner, begun, tick),
        2 => search::<3>(model, limits, manner, begun, tick),
        3 => search::<4>(model, limits, manner, begun, tick),
        4 => search::<5>(model, limits, manner, begun, tick),
        5 => search::<6>(model, limits, manner, begun, tick),
        6 => search::<7>(model, limits, manner, begun, tick),
        7 => search::<8>(model, limits, manner, begun, tick),
        _ => search::<9>(model, limits, manner, begun, tick),
    }
}

const _: () = assert!(MAX_CPUS == 8, "one length of packed states for each number of executors");

fn search<const N: usize>(
    model: &mut Model<'_>,
    limits: Limits,
    manner: SearchOptions,
    begun: Instant,
    tick: &mut dyn FnMut(SearchProgress),
) -> Result<Option<Search>, EngineError> {
    // Without reduction every alternative is taken.
    let far = manner.stalls == Stalls::No && model.reduce;
    let mut tables = Tables::new(&model.classes, manner.symmetry, far);
    let initial = model.initial()?;
    let first = tables.pack::<N>(model, &initial);
    let mut visited = Visited::<N>::new();
    let mut chunks: Vec<Chunk<N>> = (0..BATCH).map(|_| Chunk::default()).collect();
    let mut inserted: Vec<Inserted> = (0..SHARDS).map(|_| Inserted::default()).collect();
    let root = visited.begin(&first);
    let mut digest = tables.digest(model.executors.digests(), &first);
    let (mut log, mut evidence) = (Log::default(), Evidence::default());
    let mut sampler = Sampler::new(manner.recheck, manner.seed);
    let mut frontier = vec![root];
    let (mut states, mut expanded, mut depth) = (1, 0, 0);
    let (mut transitions, mut lookups, mut memory) = (0u64, 0u64, 0);
    let mut ended = Ended::Exhausted;
    'search: loop {
        let mut next = Vec::new();
        let mut rest = &frontier[..];
        while !rest.is_empty() {
            memory = memory.max(visited.bytes() + log.bytes() + tables.bytes() + 4 * frontier.capacity());
            if manner.stalls == Stalls::Auto && model.reduce && states > STALL_LIMIT {
                return Ok(None);
            }
            let elapsed = begun.elapsed();
            let hit_rate = 1.0 - tables.fills() as f64 / (lookups.max(1)) as f64;
            tick(SearchProgress {
                states,
                expanded,
                transitions,
                hit_rate: hit_rate.max(0.0),
                memory,
                elapsed,
            });
            ended = limits.reached(states, memory, elapsed);
            if visited.full(BATCH * CHUNK * 64) {
                ended = Ended::MaxStates;
            }
            if ended != Ended::Exhausted {
                break 'search;
            }
            let (batch, later) = rest.split_at(rest.len().min(limits.room(states).clamp(1, BATCH * CHUNK)));
            rest = later;
            let used = batch.len().div_ceil(CHUNK);
            let chunks = &mut chunks[..used];
            for (chunk, states) in chunks.iter_mut().zip(batch.chunks(CHUNK)) {
                chunk.begin(states);
            }
            // A thread costs more than a few small chunks.
            let workers = if used > 2 { manner.workers } else { 1 };
            let deadline = limits.timeout.map(|limit| begun + limit);
            match look_up(model, &mut tables, &visited, chunks, workers, deadline, limits.stop) {
                Ok(None) => {}
                Ok(Some(reason)) => {
                    ended = reason;
                    break 'search;
                }
                // A signal during a KVM_RUN is the same request as one between two.
                Err(EngineError::Interrupted) => {
                    ended = Ended::Interrupted;
                    break 'search;
                }
                Err(error) => return Err(error),
            }
            lookups += (batch.len() * (N - 1)) as u64;
            for chunk in chunks.iter() {
                transitions += chunk.transitions();
                evidence.note(model, chunk);
            }
            let digests = model.executors.digests();
            let known = &tables;
            let hash = |state: &Packed<N>| known.digest(digests, state);
            let shards = visited.shards.iter_mut().zip(&mut inserted).enumerate().collect();
            share(workers, shards, |(index, (shard, inserted)): (usize, (&mut Shard<N>, &mut Inserted))| {
                insert(index, shard, inserted, chunks, &hash);
            });
            for shard in &mut inserted {
                digest = digest.wrapping_add(std::mem::take(&mut shard.digest));
                states += shard.new.len();
                next.append(&mut shard.new);
            }
            expanded += batch.len();
            for chunk in chunks {
                log.take(chunk);
            }
            match sampler.recheck(model, &mut tables, &visited, batch) {
                Ok(()) => {}
                Err(EngineError::Interrupted) => {
                    ended = Ended::Interrupted;
                    break 'search;
                }
                Err(error) => return Err(error),
            }
        }
        if next.is_empty() {
            break;
        }
        (frontier, depth) = (next, depth + 1);
    }
    drop((chunks, inserted));
    let mut found = evidence.found(model, &mut tables, &visited)?;
    let mut stalls = Vec::new();
    if ended == Ended::Exhausted {
        found.extend(log.progress(model, &mut tables, &visited)?);
        if manner.stalls != Stalls::No {
            stalls = log.stalls(model, &tables, &visited);
        }
    }
    Ok(Some(Search {
        ended,
        states,
        expanded,
        transitions,
        depth,
        found,
        outcomes: model.outcomes().clone(),
        stalls,
        states_digest: digest,
        memory,
        lookups: [lookups, sampler.rechecked],
        elapsed: begun.elapsed(),
    }))
}

impl Limits {
    fn reached(&self, states: usize, memory: usize, elapsed: Duration) -> Ended {
        if self.stop.requested() {
            Ended::Interrupted
        } else if states > self.max_states {
            Ended::MaxStates
        } else if memory > self.max_memory {
            Ended::MaxMemory
        } else if self.timeout.is_some_and(|limit| elapsed > limit) {
            Ended::Timeout
        } else {
            Ended::Exhausted
        }
    }

    /// States to expand next such that the limit of states is not exceeded by much.
    fn room(&self, states: usize) -> usize {
        self.max_states.saturating_sub(states) / 8
    }
}

/// Expands the chunks; fills what the tables lack in the order of the states. `Some` if a limit ended it.
fn look_up<const N: usize>(
    model: &mut Model<'_>,
    tables: &mut Tables,
    visited: &Visited<N>,
    chunks: &mut [Chunk<N>],
    workers: usize,
    deadline: Option<Instant>,
    stop: StopToken,
) -> Result<Option<Ended>, EngineError> {
    loop {
        let known = &*tables;
        share(workers, chunks.iter_mut().collect(), |chunk| chunk.expand(known, visited));
        let mut complete = true;
        for chunk in &mut *chunks {
            for missing in chunk.missing.drain(..) {
                complete = false;
                if stop.requested() {
                    return Ok(Some(Ended::Interrupted));
                }
                if deadline.is_some_and(|deadline| Instant::now() > deadline) {
                    return Ok(Some(Ended::Timeout));
                }
                tables.fill(model, missing)?;
            }
        }
        if complete {
            return Ok(None);
        }
    }
}

/// Calls `work` with each item, on so many threads if there is enough to do.
fn share<T: Send>(workers: usize, items: Vec<T>, work: impl Fn(T) + Sync) {
    if workers < 2 || items.len() < 2 {
        items.into_iter().for_each(work);
        return;
    }
    let slots: Vec<Mutex<Option<T>>> = items.into_iter().map(|item| Mutex::new(Some(item))).collect();
    let turn = AtomicUsize::new(0);
    let run = || {
        while let Some(slot) = slots.get(turn.fetch_add(1, Ordering::Relaxed)) {
            let item = slot.lock().unwrap_or_else(PoisonError::into_inner).take();
            item.into_iter().for_each(&work);
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..workers {
            scope.spawn(run);
        }
        run();
    });
}
