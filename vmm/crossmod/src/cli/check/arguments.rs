//! The options of `crossmod check`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use crossmod::explore::{Limits, Stalls};
use crossmod::memory::MemoryModel;
use crossmod::plan::Ring;
use crossmod::results::Shard;
use crossmod::{CheckOptions, Mode};
use itertools::Itertools;

use crate::cli::output::Format;
use crate::cli::selection::{FilterArguments, size};
use crate::cli::width;

#[derive(Args)]
pub struct Arguments {
    /// Scenario files, directories of them, or shipped scenarios by name (`seed/fixup`), pattern (`seed/*-nmi`) or
    /// group (`seed`) [default: every shipped scenario].
    pub scenarios: Vec<String>,
    #[command(flatten)]
    pub filter: FilterArguments,
    /// Check part K of N of the selected cases. The parts are disjoint, cost about the same, and are the same on every
    /// machine; `crossmod merge` joins their JSON results.
    #[arg(long, value_name = "K/N")]
    pub shard: Option<Shard>,
    /// Write each verdict to this journal as soon as it is known, and skip cases whose verdict it already has.
    #[arg(long, value_name = "FILE")]
    pub resume: Option<PathBuf>,
    /// Format of the report.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
    /// Show the schedule of every finding, not only of unexpected ones.
    #[arg(short, long)]
    pub verbose: bool,
    /// Run every executor at this ring, 0 or 3, instead of the ring in the scenario.
    #[arg(long, value_parser = ring)]
    pub ring: Option<Ring>,
    /// Check under this fetch model instead of those in the scenario; may be repeated. A preset (coherent, amd,
    /// amd-block, half-line, half-line-block, line, line-block, intel), `all` presets, or parameters such as
    /// `atom=16,stale,block`.
    #[arg(long, value_name = "MODEL")]
    pub fetch: Vec<String>,
    /// Check under this memory model instead of that of the scenario: tso, or sc for comparison.
    #[arg(long, value_name = "MODEL", value_parser = clap::value_parser!(MemoryModel))]
    pub memory: Option<MemoryModel>,
    /// Let one more vCPU perform the steps of the patcher, where a scenario leaves them to the host.
    #[arg(long, value_name = "WHO", value_parser = ["vcpu"])]
    pub patcher: Option<String>,
    /// Write a trace file for each finding to this directory, for `crossmod replay`.
    #[arg(long, value_name = "DIR")]
    pub traces: Option<PathBuf>,
    /// Show the schedule with the fewest context switches instead of the shortest.
    #[arg(long)]
    fewest_switches: bool,
    /// Show one complete schedule of each scenario in which nothing is violated.
    #[arg(long)]
    witness: bool,
    /// Search each scenario twice and compare the hashes.
    #[arg(long)]
    verify: bool,
    /// Sample this many random walks instead of searching exhaustively.
    #[arg(long, value_name = "RUNS", conflicts_with = "pct")]
    random: Option<u64>,
    /// Sample this many runs by probabilistic concurrency testing instead of searching exhaustively.
    #[arg(long, value_name = "RUNS")]
    pct: Option<u64>,
    /// Number of ordering constraints of the violations that --pct targets.
    #[arg(long, value_name = "N", default_value_t = 3, requires = "pct")]
    pct_depth: usize,
    /// Seed of sampling, and of the choice of transitions that --recheck executes again.
    #[arg(long, env = "CROSSMOD_SEED", default_value_t = 1)]
    seed: u64,
    /// Stop a search at this many states; properties without a violation are then not decided.
    #[arg(long, value_name = "N", default_value_t = Limits::default().max_states)]
    max_states: usize,
    /// Stop a search when it uses this much memory, in bytes or with a suffix K, M or G; properties without a violation
    /// are then not decided.
    #[arg(long, value_name = "SIZE", value_parser = size, default_value = "8G")]
    max_memory: usize,
    /// Threads of a search [default: the number of CPUs]. The result does not depend on it.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    workers: Option<u16>,
    /// Stop a case after this many seconds, over all its searches or samples, and continue with the next; properties
    /// without a violation are then not decided.
    #[arg(long, value_name = "SECONDS")]
    case_timeout: Option<u64>,
    /// Stop each search after this many seconds; with --verify a case has two searches, and a sample is not a search.
    /// Properties without a violation are then not decided.
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<u64>,
    /// Execute one in N remembered transitions again when it is used, and compare; 0 = none.
    #[arg(long, value_name = "N", default_value_t = 1024)]
    recheck: u32,
    /// Execute every transition each time it is used, and compare with the first execution.
    #[arg(long)]
    no_memo: bool,
    /// Interleave after every instruction, even where no other actor can observe the difference.
    #[arg(long)]
    no_reduction: bool,
    /// Whether to explore transitions that matter only for measuring stalls: `auto` does up to 200,000 states, then
    /// restarts the search without them; `keep` always does; `no` never does. Stalls are measured up to that many states.
    #[arg(long, value_name = "WHEN", value_parser = stalls(), default_value = "auto")]
    stalls: Stalls,
    /// Distinguish states that differ only by a permutation of executors that the scenario does not distinguish.
    #[arg(long)]
    no_symmetry: bool,
}

fn stalls() -> impl TypedValueParser<Value = Stalls> {
    PossibleValuesParser::new(["auto", "keep", "no"]).map(|name| match name.as_str() {
        "auto" => Stalls::Auto,
        "keep" => Stalls::Keep,
        _ => Stalls::No,
    })
}

pub fn ring(text: &str) -> Result<Ring, String> {
    match text {
        "0" => Ok(Ring::Kernel),
        "3" => Ok(Ring::User),
        _ => Err("executors run at ring 0 or 3".into()),
    }
}

impl Arguments {
    /// The options of a check, without the fetch model.
    pub fn options(&self) -> CheckOptions {
        let mode = match (self.random, self.pct) {
            (Some(runs), _) => Mode::Random { runs },
            (None, Some(runs)) => Mode::Pct { runs, depth: self.pct_depth },
            (None, None) => Mode::Exhaustive,
        };
        CheckOptions {
            ring: self.ring,
            fetch: None,
            memory: self.memory,
            mode,
            limits: Limits {
                max_states: self.max_states,
                max_memory: self.max_memory,
                timeout: self.timeout.map(Duration::from_secs),
                ..Limits::default()
            },
            case_time: self.case_timeout.map(Duration::from_secs),
            seed: self.seed,
            recheck: self.recheck,
            memo: !self.no_memo,
            workers: self.workers.map_or(CheckOptions::default().workers, usize::from),
            stalls: self.stalls,
            symmetry: !self.no_symmetry,
            reduce: !self.no_reduction,
            witness: self.witness,
            verify: self.verify,
            readable: self.fewest_switches,
            width: width(),
        }
    }

    /// Whether runs are sampled.
    pub fn sampled(&self) -> bool {
        self.random.is_some() || self.pct.is_some()
    }

    /// The options that a verdict or its files may depend on, in a fixed order. Two runs with equal texts have the same
    /// results.
    pub fn canonical(&self) -> String {
        let given = |is: bool, name: &str| is.then(|| format!("--{name}"));
        let valued = |name: &str, value: Option<String>| value.map(|value| format!("--{name} {value}"));
        let unless = |value: usize, default: usize| (value != default).then(|| value.to_string());
        let defaults = CheckOptions::default();
        let stalls = (self.stalls != defaults.stalls).then(|| format!("{:?}", self.stalls).to_lowercase());
        let options = [
            valued("ring", self.ring.map(|ring| ring.number().to_string())),
            valued("memory", self.memory.map(|memory| memory.to_string())),
            valued("patcher", self.patcher.clone()),
            valued("random", self.random.map(|runs| runs.to_string())),
            valued("pct", self.pct.map(|runs| runs.to_string())),
            valued("pct-depth", self.pct.map(|_| self.pct_depth.to_string())),
            valued("seed", (self.seed != defaults.seed).then(|| self.seed.to_string())),
            valued("max-states", unless(self.max_states, defaults.limits.max_states)),
            valued("max-memory", unless(self.max_memory, defaults.limits.max_memory)),
            valued("timeout", self.timeout.map(|seconds| seconds.to_string())),
            valued("case-timeout", self.case_timeout.map(|seconds| seconds.to_string())),
            valued("recheck", (self.recheck != defaults.recheck).then(|| self.recheck.to_string())),
            valued("stalls", stalls),
            given(self.fewest_switches, "fewest-switches"),
            given(self.verify, "verify"),
            given(self.witness, "witness"),
            given(self.no_memo, "no-memo"),
            given(self.no_reduction, "no-reduction"),
            given(self.no_symmetry, "no-symmetry"),
        ];
        options.into_iter().flatten().join(" ")
    }
}
