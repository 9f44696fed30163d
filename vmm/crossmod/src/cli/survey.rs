//! `crossmod survey`.

use std::time::Duration;

use clap::Args;
use crossmod::freerun::survey::{Cell, Done, PairCell, SurveyOptions, survey};
use crossmod::plan::Ring;
use crossmod::report::survey as report;

use super::check::ring;
use super::freerun_common::{begin, end};
use super::output::{Rendering, json};
use super::{Exit, Failure, print};

#[derive(Args)]
pub struct Arguments {
    /// Survey few places, in about 10 seconds.
    #[arg(long)]
    quick: bool,
    /// Duration in seconds [default: 45, or 8 with --quick].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: Option<u64>,
    /// Ring of the executors, 0 or 3 [default: 3, which is native on every KVM].
    #[arg(long, value_parser = ring)]
    ring: Option<Ring>,
    /// Format of the result.
    #[arg(long, value_enum, default_value_t = Rendering::Text)]
    format: Rendering,
    /// Seed of the pauses between stores. The same seed makes a similar run, not the same one.
    #[arg(long, value_name = "N", env = "CROSSMOD_SEED", default_value_t = 1)]
    seed: u64,
}

pub fn run(arguments: &Arguments) -> Result<Exit, Failure> {
    begin()?;
    let options = SurveyOptions {
        pairs: if arguments.quick { PairCell::few() } else { PairCell::all() },
        cells: if arguments.quick { Cell::few() } else { Cell::all() },
        duration: Duration::from_secs(arguments.seconds.unwrap_or(if arguments.quick { 8 } else { 45 })),
        seed: arguments.seed,
        ring: arguments.ring.unwrap_or(Ring::User),
    };
    // Each line is printed at once, so that a killed process has printed what it knew.
    let text = arguments.format == Rendering::Text;
    // The header comes with the first line: a host that cannot run a survey gets only the reason.
    let headed = std::cell::Cell::new(None);
    let say = |header: Option<&'static str>, line: &str| {
        let header = header.or(headed.get()).unwrap_or(report::HEADER);
        let header =
            if headed.replace(Some(header)) == Some(header) { String::new() } else { format!("{header}\n") };
        let line = header + line;
        if text { print(&line) } else { eprintln!("{line}") }
    };
    let survey = survey(
        &options,
        |finding| say(None, &format!("FINDING: {finding}")),
        |done| match done {
            Done::Row(row) if row.cell.length.halves() => say(Some(report::HALVES), &report::line(row)),
            Done::Row(row) => say(Some(report::HEADER), &report::line(row)),
            Done::Pair(row) => say(Some(report::PAIRS), &report::pair(row)),
        },
    )?;
    match arguments.format {
        Rendering::Text => print(&report::summary(&survey)),
        Rendering::Html => {
            let results = crossmod::report::free::SavedResults { survey: Some(survey.clone()), bench: None };
            print(&crossmod::report::free::html(&results));
        }
        Rendering::Json => print(&json(&report::Document::new(&survey))?),
    }
    // What only contradicts practice is a headline; what contradicts a promise is a failure.
    Ok(end(survey.interrupted, if survey.held() { Exit::Held } else { Exit::NotHeld }))
}
