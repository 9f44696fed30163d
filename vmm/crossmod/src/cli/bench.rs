//! `crossmod bench`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use crossmod::freerun::bench::{Bench, BenchOptions, Case, bench, compare, same_machine};
use crossmod::freerun::stress::write;
use crossmod::host::Host;
use crossmod::layout::MAX_CPUS;
use crossmod::machine::allowed_cpus;
use crossmod::report;

use super::freerun_common::{begin, end, progress};
use super::output::{Rendering, json};
use super::{Exit, Failure, print};

#[derive(Args)]
#[command(after_help = include_str!("help/bench.txt"))]
pub struct Arguments {
    /// Number of vCPUs that pass through the site [default: one for each CPU besides the patcher's]. Reports mark a
    /// higher number.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=MAX_CPUS as u64))]
    executors: Option<u64>,
    /// Measure only the plain case, not those with other numbers of sites and executors, NMIs, or a delay.
    #[arg(long)]
    plain: bool,
    /// Duration in seconds.
    #[arg(long, value_name = "N", default_value_t = 40, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: u64,
    /// Stop after N rounds of each case.
    #[arg(long, value_name = "N", default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    rounds: u64,
    /// Format of the result.
    #[arg(long, value_enum, default_value_t = Rendering::Text)]
    format: Rendering,
    /// Also write the result to this file, as JSON, for --compare and `crossmod report`.
    #[arg(long, value_name = "FILE")]
    save: Option<PathBuf>,
    /// Compare with this saved result, and say which changes are significant.
    #[arg(long, value_name = "FILE")]
    compare: Option<PathBuf>,
    /// Seed of the order of protocols and cases, of pauses, and of NMIs.
    #[arg(long, value_name = "N", env = "CROSSMOD_SEED", default_value_t = 1)]
    seed: u64,
}

pub fn run(arguments: &Arguments) -> Result<Exit, Failure> {
    // Before anything is measured that could not be compared in the end.
    let baseline = arguments.compare.as_deref().map(load).transpose()?;
    begin()?;
    if let (Some(path), Some(then)) = (&arguments.compare, &baseline) {
        same_machine(&then.host, &Host::read()).map_err(|why| {
            Failure::file(path, format_args!("{why}\nsave one on this machine: `crossmod bench --save FILE`"))
        })?;
    }
    let spare = allowed_cpus().len().saturating_sub(1).clamp(1, MAX_CPUS);
    let executors = arguments.executors.map_or(spare, |count| count as usize);
    let options = BenchOptions {
        cases: if arguments.plain { vec![Case::plain(executors)] } else { Case::sweep(executors, spare) },
        duration: Duration::from_secs(arguments.seconds),
        rounds: arguments.rounds,
        seed: arguments.seed,
    };
    let bar = progress();
    let result = bench(&options, |part| bar.set_position((part * 1000.0) as u64));
    bar.finish_and_clear();
    let bench = result?;
    if let Some(path) = &arguments.save {
        write(path, &(json(&bench)? + "\n")).map_err(|error| {
            Failure::file(path, format_args!("{error}\nuse --save with a file that can be written to"))
        })?;
    }
    match arguments.format {
        Rendering::Text => print(&report::bench::text(&bench)),
        Rendering::Json => print(&json(&bench)?),
        Rendering::Html => {
            let results = report::free::SavedResults { survey: None, bench: Some(bench.clone()) };
            print(&report::free::html(&results));
        }
    }
    if let (Some(path), Some(then)) = (&arguments.compare, &baseline) {
        let changes = compare(then, &bench, arguments.seed)
            .map_err(|why| Failure::file(path, format_args!("{why}\nsave one with the same options")))?;
        let text = report::bench::comparisons(&changes, &path.display().to_string());
        if arguments.format == Rendering::Text { print(&text) } else { eprintln!("{text}") }
    }
    Ok(end(bench.interrupted, Exit::Held))
}

fn load(path: &Path) -> Result<Bench, Failure> {
    let unusable = |error: &dyn std::fmt::Display| {
        Failure::file(path, format_args!("{error}\nwrite one with `crossmod bench --save FILE`"))
    };
    let text = std::fs::read_to_string(path).map_err(|error| unusable(&error))?;
    serde_json::from_str(&text).map_err(|error| unusable(&format!("not a saved benchmark: {error}")))
}
