//! Options of a check.

use std::time::Duration;

use crossmod_explore::{Limits, Stalls};
use crossmod_model::fetch::FetchModel;
use crossmod_model::memory::MemoryModel;
use crossmod_model::plan::Ring;

/// How to look for violations.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Mode {
    /// Search every interleaving.
    Exhaustive,
    /// Sample random walks.
    Random {
        /// Number of runs.
        runs: u64,
    },
    /// Sample by probabilistic concurrency testing.
    Pct {
        /// Number of runs.
        runs: u64,
        /// Number of ordering constraints of the targeted violations.
        depth: usize,
    },
}

/// Options of a check.
#[derive(Debug, Clone, Copy)]
pub struct CheckOptions {
    /// Forces the ring of every executor.
    pub ring: Option<Ring>,
    /// The fetch model, instead of the first one in the scenario.
    pub fetch: Option<FetchModel>,
    /// The memory model, instead of the scenario's.
    pub memory: Option<MemoryModel>,
    /// How to look for violations.
    pub mode: Mode,
    /// Limits of each search.
    pub limits: Limits,
    /// Time limit of the whole check: search, second search or samples. Violations found by then are still confirmed.
    pub case_time: Option<Duration>,
    /// Seed of sampling, and of the choice of remembered transitions that are executed again.
    pub seed: u64,
    /// One in this many look-ups of remembered successors is executed again and compared; 0 = none.
    pub recheck: u32,
    /// Remember transitions. Otherwise every use of a transition executes it again and compares it with the first time.
    pub memo: bool,
    /// Number of threads of a search.
    pub workers: usize,
    /// Whether a search explores transitions that matter only for measuring stalls.
    pub stalls: Stalls,
    /// Identify states that differ only by a permutation of executors that the scenario does not distinguish.
    pub symmetry: bool,
    /// Do not interleave after instructions whose effect no other actor can observe.
    pub reduce: bool,
    /// Show one complete schedule of a scenario in which nothing is violated.
    pub witness: bool,
    /// Search twice and compare the digests.
    pub verify: bool,
    /// Show the schedule with the fewest context switches instead of the shortest.
    pub readable: bool,
    /// Width of rendered schedules, in characters.
    pub width: usize,
}

impl Default for CheckOptions {
    fn default() -> Self {
        CheckOptions {
            ring: None,
            fetch: None,
            memory: None,
            mode: Mode::Exhaustive,
            limits: Limits::default(),
            case_time: None,
            seed: 1,
            recheck: 1024,
            memo: true,
            workers: std::thread::available_parallelism().map_or(1, |count| count.get()),
            stalls: Stalls::Auto,
            symmetry: true,
            reduce: true,
            witness: false,
            verify: false,
            readable: false,
            width: 140,
        }
    }
}
