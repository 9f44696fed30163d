//! `crossmod survey`.

use std::time::Duration;

use clap::{Args, ValueEnum};
use crossmod::CheckError;
use crossmod::freerun::cell::Cell;
use crossmod::freerun::{self, Options};
use crossmod::host::emulated;
use crossmod::machine::catch_signals;
use crossmod::report::survey as report;

use super::{Failure, HARNESS, HARNESS_ERROR, HELD, INTERRUPTED, NOT_HELD, SKIPPED, print};

#[derive(Args)]
pub struct Arguments {
    /// Few places, in about 10 seconds.
    #[arg(long)]
    quick: bool,
    /// How long to run altogether; 50 seconds without it, 9 with --quick.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: Option<u64>,
    /// Form of the result.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// Seed of the pauses between stores. It makes a run similar, not the same.
    #[arg(long, value_name = "N", env = "CROSSMOD_SEED", default_value_t = 1)]
    seed: u64,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Format {
    Text,
    Json,
    Html,
}

/// No claims about silicon where there is none.
pub fn refuse_emulation() -> Result<(), Failure> {
    if !emulated() {
        return Ok(());
    }
    let message = "skipped: this CPU is an emulation (QEMU/TCG). What it does with stores to code says nothing about \
                   silicon, and its times mean nothing.";
    Err(Failure { status: SKIPPED, message: message.into() })
}

pub fn run(arguments: &Arguments) -> Result<u8, Failure> {
    refuse_emulation()?;
    let fail = |error| Failure::of(CheckError::Machine(error));
    catch_signals().map_err(fail)?;
    let options = Options {
        cells: if arguments.quick { Cell::few() } else { Cell::all() },
        duration: Duration::from_secs(arguments.seconds.unwrap_or(if arguments.quick { 9 } else { 50 })),
        seed: arguments.seed,
    };
    // Each line as soon as it is known: what was found stays found if the process is killed.
    let text = arguments.format == Format::Text;
    let begun = std::cell::Cell::new(false);
    let say = |line: &str| {
        // Not before something runs: a host that cannot gets the reason alone.
        let header = if begun.replace(true) { String::new() } else { format!("{}\n", report::HEADER) };
        let line = header + line;
        if text { print(&line) } else { eprintln!("{line}") }
    };
    let survey = freerun::survey(
        &options,
        |finding| say(&format!("FINDING: {finding}")),
        |row| say(&report::line(row)),
    )
    .map_err(fail)?;
    match arguments.format {
        Format::Text => print(&report::summary(&survey)),
        Format::Html => print(&report::html(&survey)),
        Format::Json => print(
            &report::json(&survey)
                .map_err(|error| Failure { status: HARNESS, message: format!("{HARNESS_ERROR}{error}") })?,
        ),
    }
    if survey.interrupted {
        eprintln!("interrupted: what is printed is what was known until then");
        return Ok(INTERRUPTED);
    }
    // What only contradicts practice is a headline; what contradicts a promise is a failure.
    Ok(if survey.findings.iter().any(|finding| finding.broken) { NOT_HELD } else { HELD })
}
