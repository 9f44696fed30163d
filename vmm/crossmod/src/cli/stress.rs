//! `crossmod stress`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};
use crossmod::freerun::stress::{self, Rates, StressError, StressFinding, StressOptions, StressProgress};
use crossmod::layout::MAX_CPUS;
use crossmod::{report, scenario};

use super::freerun_common::{begin, end, progress};
use super::output::json;
use super::selection::select;
use super::{Exit, Failure, print};

/// Events per second of each kind that the scenario has.
const RATE: f64 = 1000.0;

#[derive(Args)]
#[command(after_help = include_str!("help/stress.txt"))]
pub struct Arguments {
    /// A scenario file, or a shipped scenario by name.
    scenario: String,
    /// Duration in seconds.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: u64,
    /// Stop after N rounds.
    #[arg(long, value_name = "N", default_value_t = u64::MAX, hide_default_value = true,
        value_parser = clap::value_parser!(u64).range(1..))]
    iterations: u64,
    /// Number of vCPUs [default: the scenario's, but at most the CPUs besides the patcher's]. Reports mark a higher number.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=MAX_CPUS as u64))]
    executors: Option<u64>,
    /// NMIs per second, for all executors together [default: 1000 if the scenario has NMIs].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=100_000))]
    nmi: Option<u32>,
    /// Device interrupts (IPIs with a vector of their own) per second [default: 1000 if the scenario has any].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=100_000))]
    irq: Option<u32>,
    /// Directory for findings.
    #[arg(long, value_name = "DIR", default_value = "findings")]
    findings: PathBuf,
    /// Format of the result.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// Seed of pauses, NMIs and interrupts. The same seed makes a similar run, not the same one.
    #[arg(long, value_name = "N", env = "CROSSMOD_SEED", default_value_t = 1)]
    seed: u64,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Format {
    Text,
    Json,
}

pub fn run(arguments: &Arguments) -> Result<Exit, Failure> {
    let chosen = select(std::slice::from_ref(&arguments.scenario))?;
    let [scenario] = &chosen[..] else {
        return Err(Failure::unusable(format_args!(
            "`{}` names {} scenarios\nchoose one of them: `crossmod list`",
            arguments.scenario,
            chosen.len()
        )));
    };
    let plan = scenario.plan(&scenario::Options::default())?;
    let rate = |given: Option<u32>, budget| given.map_or(if budget > 0 { RATE } else { 0.0 }, f64::from);
    let options = StressOptions {
        executors: arguments.executors.map(|count| count as usize),
        duration: Duration::from_secs(arguments.seconds),
        rounds: arguments.iterations,
        rates: Rates { nmi: rate(arguments.nmi, plan.events.nmi), irq: rate(arguments.irq, plan.events.irq) },
        seed: arguments.seed,
        findings: arguments.findings.clone(),
        argument: arguments.scenario.clone(),
    };
    begin()?;
    let text = arguments.format == Format::Text;
    let bar = progress();
    let found = |finding: &StressFinding, path: &Path| {
        let line = format!("FINDING: {finding}\n  written to {}", path.display());
        bar.suspend(|| if text { print(&line) } else { eprintln!("{line}") });
    };
    let tick = |tick: StressProgress| {
        bar.set_position((tick.part * 1000.0) as u64);
        bar.set_message(format!("{} rounds, {:.1} M passes", tick.rounds, tick.passes as f64 / 1e6));
    };
    let result = stress::stress(&plan, &options, &found, tick);
    bar.finish_and_clear();
    let stress = result.map_err(|error| match error {
        StressError::NotStressable(refusal) => Failure::unusable(format_args!(
            "{} cannot run at full speed: {}\n{}: `crossmod check {}`",
            scenario.name, refusal.reason, refusal.remedy, arguments.scenario
        )),
        StressError::Lost { ref findings, .. } => {
            // This is the only copy.
            for finding in findings {
                eprintln!("{}", json(finding).unwrap_or_else(|_| format!("{finding:?}")));
            }
            Failure::harness(format_args!(
                "{error}\nthe findings above are not all on disk; the run was ended"
            ))
        }
        StressError::Output { .. } => {
            Failure::unusable(format_args!("{error}\nuse --findings with a directory that can be written to"))
        }
        StressError::Machine(error) => error.into(),
    })?;
    print(&if text { report::stress::text(&stress) } else { json(&stress)? });
    Ok(end(stress.interrupted, if stress.held() { Exit::Held } else { Exit::NotHeld }))
}
