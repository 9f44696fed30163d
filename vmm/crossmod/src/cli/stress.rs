//! `crossmod stress`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};
use crossmod::freerun::stress::{self, Finding, Options, Rates, SearchProgress, StressError};
use crossmod::layout::MAX_CPUS;
use crossmod::{report, scenario};

use super::free::{begin, end, fail, json, progress};
use super::selection::select;
use super::{Exit, Failure, print};

/// Events a second of each kind that a scenario has a budget for.
const RATE: f64 = 1000.0;

#[derive(Args)]
#[command(
    after_help = "Each round starts from the old version, performs the scenario's steps while executors pass \
through the site at full speed, and puts the old version back. The first finding of each property is written to \
DIR/SCENARIO.PROPERTY.finding.json before it is printed. Exit status 1: a property was seen violated that the \
scenario does not expect, or a pass showed what nothing explains.

Examples:
  crossmod stress seed/naive-store-crossing-line --seconds 5
  crossmod stress seed/fixup-nmi --nmi 5000 --iterations 100000
  crossmod stress my.toml --findings out --format json"
)]
pub struct Arguments {
    /// A scenario file, or a shipped scenario by name.
    scenario: String,
    /// How long to run.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: u64,
    /// Stop after so many rounds, if not before.
    #[arg(long, value_name = "N", default_value_t = u64::MAX, hide_default_value = true,
        value_parser = clap::value_parser!(u64).range(1..))]
    iterations: u64,
    /// vCPUs, instead of as many as the scenario has and there are CPUs beside the patcher's. More are run, and labelled.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=MAX_CPUS as u64))]
    executors: Option<u64>,
    /// NMIs a second, over all executors; without it 1000 if the scenario has any.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=100_000))]
    nmi: Option<u32>,
    /// Device interrupts (IPIs of a vector of their own) a second; without it 1000 if the scenario has any.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=100_000))]
    irq: Option<u32>,
    /// Where findings are written.
    #[arg(long, value_name = "DIR", default_value = "findings")]
    findings: PathBuf,
    /// Form of the result.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// Seed of pauses and of the moments of NMIs and interrupts. It makes a run similar, not the same.
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
        return Err(Failure::unusable(format!(
            "error: `{}` names {} scenarios\nname one: `crossmod list` shows them",
            arguments.scenario,
            chosen.len()
        )));
    };
    let plan = scenario.plan(&scenario::Options::default())?;
    let rate = |given: Option<u32>, budget| given.map_or(if budget > 0 { RATE } else { 0.0 }, f64::from);
    let options = Options {
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
    let found = |finding: &Finding, path: &Path| {
        let line = format!("FINDING: {finding}\n  written to {}", path.display());
        bar.suspend(|| if text { print(&line) } else { eprintln!("{line}") });
    };
    let tick = |tick: SearchProgress| {
        bar.set_position((tick.part * 1000.0) as u64);
        bar.set_message(format!("{} rounds, {:.1} M passes", tick.rounds, tick.passes as f64 / 1e6));
    };
    let result = stress::stress(&plan, &options, &found, tick);
    bar.finish_and_clear();
    let stress = result.map_err(|error| match error {
        StressError::NoSense(refusal) => Failure::unusable(format!(
            "error: {} makes no sense at full speed: {}\n{}: `crossmod check {}`",
            scenario.name, refusal.reason, refusal.remedy, arguments.scenario
        )),
        StressError::Lost { ref findings, .. } => {
            // Nowhere else is it kept.
            for finding in findings {
                eprintln!("{}", json(finding).unwrap_or_else(|_| format!("{finding:?}")));
            }
            Failure::harness(format_args!(
                "{error}\nthe findings above are not all on disk; the run was ended"
            ))
        }
        StressError::Output { .. } => Failure::unusable(format!(
            "error: {error}\nlet --findings name a directory that can be written to"
        )),
        StressError::Machine(error) => fail(error),
    })?;
    print(&if text { report::stress::text(&stress) } else { json(&stress)? });
    Ok(end(stress.interrupted, if stress.held() { Exit::Held } else { Exit::NotHeld }))
}
