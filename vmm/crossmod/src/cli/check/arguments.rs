//! The options of `crossmod check`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use crossmod::explore::{Limits, Stalls};
use crossmod::plan::Ring;
use crossmod::suite::Shard;
use crossmod::{CheckOptions, Mode};

use crate::cli::choose::{FilterArguments, size};
use crate::cli::tell::Format;
use crate::cli::width;

#[derive(Args)]
pub struct Arguments {
    /// Scenario files, directories of them, or shipped scenarios by name (`seed/fixup`), pattern (`seed/*-nmi`) or
    /// group (`seed`); without any, everything that is shipped.
    pub scenarios: Vec<String>,
    #[command(flatten)]
    pub filter: FilterArguments,
    /// Check part K of N of what is selected. The parts do not overlap, cost about the same, and are the same on every
    /// machine; `crossmod merge` joins their JSON results.
    #[arg(long, value_name = "K/N")]
    pub shard: Option<Shard>,
    /// Write each verdict into this journal as soon as it is known, and do not check again what is known there.
    #[arg(long, value_name = "FILE")]
    pub resume: Option<PathBuf>,
    /// Form of the report.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
    /// Show each finding's schedule, not only the unexpected ones'.
    #[arg(short, long)]
    pub verbose: bool,
    /// Run every executor at this ring, 0 or 3, instead of the scenario's.
    #[arg(long, value_parser = ring)]
    pub ring: Option<Ring>,
    /// Check under this fetch model instead of those that the scenario asks for; may be repeated. A preset
    /// (coherent, amd, amd-block, half-line, half-line-block, line, line-block, intel), `all` of them,
    /// or parameters such as `atom=16,stale,block`.
    #[arg(long, value_name = "MODEL")]
    pub fetch: Vec<String>,
    /// Write a trace file for each finding into this directory, for `crossmod replay`.
    #[arg(long, value_name = "DIR")]
    pub traces: Option<PathBuf>,
    /// Show the schedule with the fewest context switches instead of the shortest.
    #[arg(long)]
    fewest_switches: bool,
    /// Search each scenario twice and compare the hashes.
    #[arg(long)]
    verify: bool,
    /// Sample this many random walks instead of exploring everything; not exhaustive.
    #[arg(long, value_name = "RUNS", conflicts_with = "pct")]
    random: Option<u64>,
    /// Sample this many runs by probabilistic concurrency testing; not exhaustive.
    #[arg(long, value_name = "RUNS")]
    pct: Option<u64>,
    /// Ordering constraints of the violations that --pct looks for.
    #[arg(long, value_name = "N", default_value_t = 3, requires = "pct")]
    pct_depth: usize,
    /// Seed of sampling, and of the choice of what --recheck executes again.
    #[arg(long, env = "CROSSMOD_SEED", default_value_t = 1)]
    seed: u64,
    /// Stop a search at this many states; what is not found then is not decided.
    #[arg(long, value_name = "N", default_value_t = Limits::default().max_states)]
    max_states: usize,
    /// Stop a search when it uses so much memory: bytes, or with K, M or G; what is not found then is not decided.
    #[arg(long, value_name = "SIZE", value_parser = size, default_value = "8G")]
    max_memory: usize,
    /// Threads of a search [default: one for each CPU]. The result is the same for any number.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    workers: Option<u16>,
    /// Stop a case after this many seconds, all its searches or samples together, and go on with the next; what is not
    /// found then is not decided.
    #[arg(long, value_name = "SECONDS")]
    case_timeout: Option<u64>,
    /// Stop each search after this many seconds: with --verify a case has two, and sampling is none. What is not found
    /// then is not decided.
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<u64>,
    /// Execute one use in N of what is remembered again and compare; 0 = none.
    #[arg(long, value_name = "N", default_value_t = 1024)]
    recheck: u32,
    /// Execute every transition each time it is used, and compare with its first time.
    #[arg(long)]
    no_memo: bool,
    /// Interleave after every instruction, also where no other actor could tell the difference.
    #[arg(long)]
    no_reduction: bool,
    /// Whether to take the alternatives that only stalls need: `auto` up to 200,000 states, then the search begins
    /// anew without; `keep` however large it becomes; `no` not at all. Stalls are measured up to that many states.
    #[arg(long, value_name = "WHEN", value_enum, default_value_t = KeepStalls::Auto)]
    stalls: KeepStalls,
    /// Keep states apart that differ by an exchange of executors that the scenario treats alike.
    #[arg(long)]
    no_symmetry: bool,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum KeepStalls {
    Auto,
    Keep,
    No,
}

pub fn ring(text: &str) -> Result<Ring, String> {
    match text {
        "0" => Ok(Ring::Kernel),
        "3" => Ok(Ring::User),
        _ => Err("0 and 3 are the rings that executors run at".into()),
    }
}

impl Arguments {
    /// As the library has them.
    pub fn options(&self) -> CheckOptions {
        let arguments = self;
        let mode = match (arguments.random, arguments.pct) {
            (Some(runs), _) => Mode::Random { runs },
            (None, Some(runs)) => Mode::Pct { runs, depth: arguments.pct_depth },
            (None, None) => Mode::Exhaustive,
        };
        CheckOptions {
            ring: arguments.ring,
            fetch: None,
            mode,
            limits: Limits {
                max_states: arguments.max_states,
                max_memory: arguments.max_memory,
                timeout: arguments.timeout.map(Duration::from_secs),
                ..Limits::default()
            },
            case_time: arguments.case_timeout.map(Duration::from_secs),
            seed: arguments.seed,
            recheck: arguments.recheck,
            memo: !arguments.no_memo,
            workers: arguments.workers.map_or(CheckOptions::default().workers, usize::from),
            stalls: match arguments.stalls {
                KeepStalls::Auto => Stalls::Auto,
                KeepStalls::Keep => Stalls::Keep,
                KeepStalls::No => Stalls::No,
            },
            symmetry: !arguments.no_symmetry,
            reduce: !arguments.no_reduction,
            verify: arguments.verify,
            readable: arguments.fewest_switches,
            width: width(),
        }
    }

    /// Whether runs are sampled.
    pub fn sampled(&self) -> bool {
        self.random.is_some() || self.pct.is_some()
    }

    /// The options that a verdict, or what is written for it, may depend on, as on the command line. Two runs whose
    /// texts are equal have the same results.
    pub fn told(&self) -> String {
        let given = |is: bool, name: &str| is.then(|| format!("--{name}"));
        let valued = |name: &str, value: Option<String>| value.map(|value| format!("--{name} {value}"));
        let unless = |value: usize, default: usize| (value != default).then(|| value.to_string());
        let limits = Limits::default();
        let stalls = self.stalls.to_possible_value().filter(|_| self.stalls != KeepStalls::Auto);
        let defaults = CheckOptions::default();
        let options = [
            valued("ring", self.ring.map(|ring| ring.number().to_string())),
            valued("random", self.random.map(|runs| runs.to_string())),
            valued("pct", self.pct.map(|runs| runs.to_string())),
            valued("pct-depth", self.pct.map(|_| self.pct_depth.to_string())),
            valued("seed", (self.seed != defaults.seed).then(|| self.seed.to_string())),
            valued("max-states", unless(self.max_states, limits.max_states)),
            valued("max-memory", unless(self.max_memory, limits.max_memory)),
            valued("timeout", self.timeout.map(|seconds| seconds.to_string())),
            valued("case-timeout", self.case_timeout.map(|seconds| seconds.to_string())),
            valued("recheck", (self.recheck != defaults.recheck).then(|| self.recheck.to_string())),
            valued("stalls", stalls.map(|value| value.get_name().to_owned())),
            given(self.fewest_switches, "fewest-switches"),
            given(self.verify, "verify"),
            given(self.no_memo, "no-memo"),
            given(self.no_reduction, "no-reduction"),
            given(self.no_symmetry, "no-symmetry"),
        ];
        options.into_iter().flatten().collect::<Vec<_>>().join(" ")
    }
}
