//! How a scenario is to be checked.

use std::time::Duration;

use crate::explore::{Limits, Stalls};
use crate::fetch::FetchModel;
use crate::plan::Ring;

/// How to look.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Mode {
    /// Every interleaving.
    Exhaustive,
    /// Random walks.
    Random {
        /// How many.
        runs: u64,
    },
    /// Probabilistic concurrency testing.
    Pct {
        /// How many runs.
        runs: u64,
        /// Ordering constraints of the violations looked for.
        depth: usize,
    },
}

/// Options of a check.
#[derive(Debug, Clone, Copy)]
pub struct CheckOptions {
    /// Forces the ring of every executor.
    pub ring: Option<Ring>,
    /// The fetch model, instead of the first that the scenario asks for.
    pub fetch: Option<FetchModel>,
    /// How to look.
    pub mode: Mode,
    /// When to give up a search.
    pub limits: Limits,
    /// When to give up the whole: searching, searching again, sampling. What was found by then is still proved.
    pub case_time: Option<Duration>,
    /// For sampling, and for choosing which remembered transitions are executed again.
    pub seed: u64,
    /// One use of a remembered list of successors in this many is executed again and compared; 0 = none.
    pub recheck: u32,
    /// Remember transitions. Without it each is executed whenever it is used, and compared with its first time.
    pub memo: bool,
    /// Threads of a search.
    pub workers: usize,
    /// Whether a search takes the alternatives that only stalls need.
    pub stalls: Stalls,
    /// Treat states as one that differ by an exchange of executors that the scenario treats alike.
    pub symmetry: bool,
    /// Skip over instructions that no other actor can tell from their neighbours.
    pub reduce: bool,
    /// Search twice and compare.
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
            verify: false,
            readable: false,
            width: 140,
        }
    }
}
