//! `crossmod bench`.

use std::time::Duration;

use clap::{Args, ValueEnum};
use crossmod::freerun::bench::{Options, bench};
use crossmod::machine::{MAX_CPUS, allowed_cpus};
use crossmod::report;

use super::free::{begin, end, fail, json};
use super::{Failure, HELD, print};

#[derive(Args)]
pub struct Arguments {
    /// vCPUs that pass through the site; without it, one for each CPU beside the patcher's. More than that are
    /// measured, and labelled.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=MAX_CPUS as u64))]
    executors: Option<u64>,
    /// How long to run.
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: u64,
    /// Stop after so many rounds, if not before.
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    rounds: u64,
    /// Form of the result.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// Seed of the order of protocols and of the pauses between patches.
    #[arg(long, value_name = "N", env = "CROSSMOD_SEED", default_value_t = 1)]
    seed: u64,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Format {
    Text,
    Json,
}

pub fn run(arguments: &Arguments) -> Result<u8, Failure> {
    begin()?;
    let spare = allowed_cpus().len().saturating_sub(1).clamp(1, MAX_CPUS);
    let bench = bench(&Options {
        executors: arguments.executors.map_or(spare, |count| count as usize),
        duration: Duration::from_secs(arguments.seconds),
        rounds: arguments.rounds,
        seed: arguments.seed,
    })
    .map_err(fail)?;
    match arguments.format {
        Format::Text => print(&report::bench::text(&bench)),
        Format::Json => print(&json(&bench)?),
    }
    Ok(end(bench.interrupted, HELD))
}
