//! Exhaustive search, breadth first. The first schedule found for a property is therefore a shortest one. The order of
//! everything is fixed, so that every search finds the same one, with any number of workers.
//!
//! The search knows a [`System`] only: neither instructions nor plans.
//!
//! The states of one depth are taken in batches, in three steps. First, workers look up the successors of the batch's
//! chunks. Then one thread asks the system for what the tables lack, in the order of the states, because only one
//! thread has the machine. Finally, workers insert the successors into the shards of the visited set. A chunk keeps
//! its successors separate by shard, and a shard takes in the chunks in their order: the result does not depend on
//! which worker does what when.

mod chunk;
mod evidence;
mod sampler;
mod symmetry;
pub mod system;
mod table;
#[cfg(test)]
mod tests;
mod transition_log;
mod visited;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crossmod_model::checks::stall::Stall;
use crossmod_model::layout::MAX_CPUS;
use crossmod_model::property::{Property, Violation};

use crate::error::{EngineError, Result, StopToken};
use chunk::{Chunk, Inserted, insert};
use evidence::{Evidence, walk};
use sampler::Sampler;
use symmetry::Symmetry;
use system::{Reduction, System};
use table::Tables;
use transition_log::Log;
use visited::{Packed, SHARDS, Shard, Visited};

pub use transition_log::STALL_LIMIT;

/// When to stop before everything is explored.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// States.
    pub max_states: usize,
    /// Bytes of memory of the search itself.
    pub max_memory: usize,
    /// Wall time.
    pub timeout: Option<Duration>,
    /// Checked between two batches of states.
    pub stop: StopToken,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { max_states: 1 << 31, max_memory: 8 << 30, timeout: None, stop: StopToken::NEVER }
    }
}

/// How to search. None of these options changes which properties are found violated.
#[derive(Debug, Clone, Copy)]
pub struct SearchOptions {
    /// Threads.
    pub workers: usize,
    /// Treat states that differ by an exchange of interchangeable executors as one.
    pub symmetry: bool,
    /// One in this many looked-up lists of successors is computed again and compared; 0 = none.
    pub recheck: u32,
    /// Chooses which lists those are.
    pub seed: u64,
    /// Whether to take the alternatives that only stalls need.
    pub stalls: Stalls,
    /// Which transitions to take together.
    pub reduction: Reduction,
    /// Give a schedule at the end of which everything is done.
    pub witness: bool,
}

/// Whether a search takes the alternatives that only stalls need. Without them it reaches much further.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stalls {
    /// Until it has met more than [`STALL_LIMIT`] states; then it starts again without them.
    Auto,
    /// Always. Stalls are still measured up to that limit only.
    Keep,
    /// Never.
    No,
}

impl Default for SearchOptions {
    fn default() -> Self {
        SearchOptions {
            workers: 1,
            symmetry: true,
            recheck: 0,
            seed: 1,
            stalls: Stalls::Auto,
            reduction: Reduction::Full,
            witness: false,
        }
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
    /// The time limit was reached.
    Timeout,
    /// A stop was requested.
    Interrupted,
}

/// A violation and the shortest schedule to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counterexample<T> {
    /// What was violated and how.
    pub violation: Violation,
    /// Transitions from the initial state; the last one shows the violation.
    pub schedule: Vec<T>,
}

/// The state of a running search.
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
pub struct Search<T> {
    /// Why it ended.
    pub ended: Ended,
    /// States met.
    pub states: usize,
    /// States expanded: what was covered, if it ended early.
    pub expanded: usize,
    /// Transitions taken.
    pub transitions: u64,
    /// Length of the longest shortest schedule. A search that ended early covered every schedule of fewer
    /// transitions.
    pub depth: usize,
    /// Violations, by property.
    pub found: BTreeMap<Property, Counterexample<T>>,
    /// If asked for: a schedule at the end of which everything is done, one of the longest.
    pub witness: Option<Vec<T>>,
    /// The stall of each executor. Empty if it was not measured, because the search ended early or met more than
    /// [`STALL_LIMIT`] states.
    pub stalls: Vec<Stall>,
    /// Order-independent digest of all states: the sum of their content hashes.
    pub states_digest: u128,
    /// Most memory in use, in bytes.
    pub memory: usize,
    /// Lists of successors looked up, and the number of them that were computed again and compared.
    pub lookups: [u64; 2],
    /// Wall time.
    pub elapsed: Duration,
}

/// States of one chunk.
const CHUNK: usize = 1024;
/// Chunks of one batch.
const BATCH: usize = 32;

/// Explores everything within the limits.
///
/// # Errors
///
/// Fails if the system fails, or contradicts itself.
pub fn explore<S: System>(
    system: &mut S,
    limits: Limits,
    options: SearchOptions,
    mut progress: impl FnMut(SearchProgress),
) -> Result<Search<S::Transition>> {
    let begun = Instant::now();
    let progress = &mut progress;
    if options.stalls != Stalls::No
        && let Some(search) = sized(system, limits, options, begun, progress)?
    {
        return Ok(search);
    }
    let ignoring = SearchOptions { stalls: Stalls::No, ..options };
    let search = sized(system, limits, ignoring, begun, progress)?;
    search.ok_or_else(|| {
        EngineError::Inconsistent("a search that ignores stalls was abandoned for them".into())
    })
}

/// One search; `None` if it met too many states for stalls.
fn sized<S: System>(
    system: &mut S,
    limits: Limits,
    options: SearchOptions,
    begun: Instant,
    progress: &mut dyn FnMut(SearchProgress),
) -> Result<Option<Search<S::Transition>>> {
    match system.orbits().len() {
        1 => search::<S, 2>(system, limits, options, begun, progress),
        2 => search::<S, 3>(system, limits, options, begun, progress),
        3 => search::<S, 4>(system, limits, options, begun, progress),
        4 => search::<S, 5>(system, limits, options, begun, progress),
        5 => search::<S, 6>(system, limits, options, begun, progress),
        6 => search::<S, 7>(system, limits, options, begun, progress),
        7 => search::<S, 8>(system, limits, options, begun, progress),
        _ => search::<S, 9>(system, limits, options, begun, progress),
    }
}

const _: () = assert!(MAX_CPUS == 8, "one length of packed states for each number of executors");

fn search<S: System, const N: usize>(
    system: &mut S,
    limits: Limits,
    options: SearchOptions,
    begun: Instant,
    progress: &mut dyn FnMut(SearchProgress),
) -> Result<Option<Search<S::Transition>>> {
    let (mut run, root) = Run::<S, N>::new(system, limits, options, begun)?;
    match run.levels(root, progress)? {
        Some(ended) => run.finish(ended).map(Some),
        None => Ok(None),
    }
}

/// A search under way.
struct Run<'s, S: System, const N: usize> {
    system: &'s mut S,
    limits: Limits,
    options: SearchOptions,
    begun: Instant,
    tables: Tables<S>,
    visited: Visited<N>,
    chunks: Vec<Chunk<N>>,
    inserted: Vec<Inserted>,
    log: Log,
    evidence: Evidence,
    sampler: Sampler,
    digest: u128,
    states: usize,
    expanded: usize,
    depth: usize,
    transitions: u64,
    lookups: u64,
    memory: usize,
}

impl<'s, S: System, const N: usize> Run<'s, S, N> {
    /// A search that has met the initial state only, and the number of that state.
    fn new(system: &'s mut S, limits: Limits, options: SearchOptions, begun: Instant) -> Result<(Self, u32)> {
        // Without reduction every alternative is taken.
        let ignore_stalls = options.stalls == Stalls::No && options.reduction == Reduction::Full;
        let symmetry = Symmetry::new(system.orbits(), options.symmetry);
        let mut tables = Tables::new(symmetry, options.reduction, ignore_stalls);
        let initial = system.initial()?;
        let first = tables.pack::<N>(system, &initial);
        let mut visited = Visited::<N>::new();
        let root = visited.begin(&first);
        let run = Run {
            digest: tables.digest(system.executor_digests(), &first),
            system,
            limits,
            options,
            begun,
            tables,
            visited,
            chunks: (0..BATCH).map(|_| Chunk::default()).collect(),
            inserted: (0..SHARDS).map(|_| Inserted::default()).collect(),
            log: Log::default(),
            evidence: Evidence::default(),
            sampler: Sampler::new(options.recheck, options.seed),
            states: 1,
            expanded: 0,
            depth: 0,
            transitions: 0,
            lookups: 0,
            memory: 0,
        };
        Ok((run, root))
    }

    /// Expands depth after depth. Returns why it ended, or `None` if there are too many states for stalls.
    fn levels(&mut self, root: u32, progress: &mut dyn FnMut(SearchProgress)) -> Result<Option<Ended>> {
        let mut frontier = vec![root];
        loop {
            let mut next = Vec::new();
            let mut rest = &frontier[..];
            while !rest.is_empty() {
                self.memory = self.memory.max(self.bytes() + 4 * frontier.capacity());
                let SearchOptions { stalls, reduction, .. } = self.options;
                if stalls == Stalls::Auto && reduction == Reduction::Full && self.states > STALL_LIMIT {
                    return Ok(None);
                }
                progress(self.progress());
                if let Some(ended) = self.reached() {
                    return Ok(Some(ended));
                }
                let room = self.limits.room(self.states).clamp(1, BATCH * CHUNK);
                let (batch, later) = rest.split_at(rest.len().min(room));
                rest = later;
                match self.expand(batch, &mut next) {
                    Ok(None) => {}
                    Ok(ended) => return Ok(ended),
                    // A signal during a step is the same request as one between two batches.
                    Err(EngineError::Interrupted) => return Ok(Some(Ended::Interrupted)),
                    Err(error) => return Err(error),
                }
            }
            if next.is_empty() {
                return Ok(Some(Ended::Exhausted));
            }
            frontier = next;
            self.depth += 1;
        }
    }

    fn bytes(&self) -> usize {
        self.visited.bytes() + self.log.bytes() + self.tables.bytes()
    }

    fn progress(&self) -> SearchProgress {
        let misses = self.tables.fills() as f64 / self.lookups.max(1) as f64;
        SearchProgress {
            states: self.states,
            expanded: self.expanded,
            transitions: self.transitions,
            hit_rate: (1.0 - misses).max(0.0),
            memory: self.memory,
            elapsed: self.begun.elapsed(),
        }
    }

    /// The limit that has been reached, if any.
    fn reached(&self) -> Option<Ended> {
        let Limits { max_states, max_memory, timeout, stop } = self.limits;
        if self.visited.full(BATCH * CHUNK * 64) {
            Some(Ended::MaxStates)
        } else if stop.requested() {
            Some(Ended::Interrupted)
        } else if self.states > max_states {
            Some(Ended::MaxStates)
        } else if self.memory > max_memory {
            Some(Ended::MaxMemory)
        } else if timeout.is_some_and(|limit| self.begun.elapsed() > limit) {
            Some(Ended::Timeout)
        } else {
            None
        }
    }

    /// Expands a batch; new states are appended to `next`. Returns the limit that stopped it, if any.
    fn expand(&mut self, batch: &[u32], next: &mut Vec<u32>) -> Result<Option<Ended>> {
        let used = batch.len().div_ceil(CHUNK);
        for (chunk, states) in self.chunks.iter_mut().zip(batch.chunks(CHUNK)) {
            chunk.begin(states);
        }
        // A thread costs more than a few small chunks.
        let workers = if used > 2 { self.options.workers } else { 1 };
        if let Some(ended) = self.look_up(used, workers)? {
            return Ok(Some(ended));
        }
        self.lookups += (batch.len() * (N - 1)) as u64;
        let chunks = &self.chunks[..used];
        for chunk in chunks {
            self.transitions += chunk.transitions();
            self.evidence.note(self.system, chunk);
        }
        let (tables, digests) = (&self.tables, self.system.executor_digests());
        let hash = |state: &Packed<N>| tables.digest(digests, state);
        let shards = self.visited.shards.iter_mut().zip(&mut self.inserted).enumerate().collect();
        share(workers, shards, |(index, (shard, inserted)): (usize, (&mut Shard<N>, &mut Inserted))| {
            insert(index, shard, inserted, chunks, &hash);
        });
        for shard in &mut self.inserted {
            self.digest = self.digest.wrapping_add(std::mem::take(&mut shard.digest));
            self.states += shard.new.len();
            next.append(&mut shard.new);
        }
        self.expanded += batch.len();
        for chunk in &mut self.chunks[..used] {
            self.log.take(chunk);
        }
        self.sampler.recheck(self.system, &self.tables, &self.visited, batch)?;
        Ok(None)
    }

    /// Looks up the successors of the first `used` chunks. Fills what the tables lack, in the order of the states.
    fn look_up(&mut self, used: usize, workers: usize) -> Result<Option<Ended>> {
        let deadline = self.limits.timeout.map(|limit| self.begun + limit);
        let chunks = &mut self.chunks[..used];
        loop {
            let (tables, visited) = (&self.tables, &self.visited);
            share(workers, chunks.iter_mut().collect(), |chunk: &mut Chunk<N>| chunk.expand(tables, visited));
            let mut complete = true;
            for chunk in &mut *chunks {
                for missing in chunk.missing.drain(..) {
                    complete = false;
                    if self.limits.stop.requested() {
                        return Ok(Some(Ended::Interrupted));
                    }
                    if deadline.is_some_and(|deadline| Instant::now() > deadline) {
                        return Ok(Some(Ended::Timeout));
                    }
                    self.tables.fill(self.system, missing)?;
                }
            }
            if complete {
                return Ok(None);
            }
        }
    }

    /// Finds the schedules, and decides what depends on the whole graph.
    fn finish(mut self, ended: Ended) -> Result<Search<S::Transition>> {
        (self.chunks, self.inserted) = (Vec::new(), Vec::new());
        let (tables, visited) = (&mut self.tables, &self.visited);
        let mut found = self.evidence.found(self.system, tables, visited)?;
        let mut witness = None;
        if let Some(last) = self.log.last_completed().filter(|_| self.options.witness) {
            witness = Some(walk(self.system, tables, visited, last)?.0);
        }
        for global in self.log.completed(visited) {
            self.system.completed(&tables.global(global));
        }
        let mut stalls = Vec::new();
        if ended == Ended::Exhausted {
            found.extend(self.log.progress(self.system, tables, visited)?);
            if self.options.stalls != Stalls::No {
                stalls = self.log.stalls(self.system, tables, visited);
            }
        }
        Ok(Search {
            ended,
            states: self.states,
            expanded: self.expanded,
            transitions: self.transitions,
            depth: self.depth,
            found,
            witness,
            stalls,
            states_digest: self.digest,
            memory: self.memory,
            lookups: [self.lookups, self.sampler.rechecked],
            elapsed: self.begun.elapsed(),
        })
    }
}

impl Limits {
    /// Number of states to expand next such that the limit of states is not exceeded by much.
    fn room(&self, states: usize) -> usize {
        self.max_states.saturating_sub(states) / 8
    }
}

/// Calls `work` with each item, on up to `workers` threads.
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
