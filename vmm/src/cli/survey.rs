//! `crossmod survey`.

use std::time::Duration;

use clap::Args;
use crossmod::freerun::cell::Cell;
use crossmod::freerun::{self, Options};
use crossmod::plan::Ring;
use crossmod::report::survey as report;

use super::free::{Format, begin, end, fail, json};
use super::{Failure, HELD, NOT_HELD, print};

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

pub fn run(arguments: &Arguments) -> Result<u8, Failure> {
    begin()?;
    let options = Options {
        cells: if arguments.quick { Cell::few() } else { Cell::all() },
        duration: Duration::from_secs(arguments.seconds.unwrap_or(if arguments.quick { 9 } else { 50 })),
        seed: arguments.seed,
        ring: Ring::User,
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
        Format::Html => {
            let results = crossmod::report::free::Results { survey: Some(survey.clone()), bench: None };
            print(&crossmod::report::free::html(&results));
        }
        Format::Json => print(&json(&report::Document::new(&survey))?),
    }
    // What only contradicts practice is a headline; what contradicts a promise is a failure.
    let broken = survey.findings.iter().any(|finding| finding.broken);
    Ok(end(survey.interrupted, if broken { NOT_HELD } else { HELD }))
}
