//! `crossmod merge`.

use std::path::{Path, PathBuf};

use clap::Args;
use crossmod::results::Results;
use crossmod::suite;

use super::output::{Format, TextOptions, finish};
use super::{Exit, Failure};

#[derive(Args)]
pub struct Arguments {
    /// Results that `crossmod check --shard K/N --format json` printed, those of every shard.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Format of the report.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// Show the schedule of every finding, not only of unexpected ones.
    #[arg(short, long)]
    verbose: bool,
}

pub fn run(arguments: &Arguments) -> Result<Exit, Failure> {
    let files = arguments.files.iter().map(|path| Ok((path.display().to_string(), read(path)?)));
    let files = files.collect::<Result<Vec<_>, Failure>>()?;
    let results = suite::join(&files).map_err(Failure::unusable)?;
    let text = TextOptions {
        verbose: arguments.verbose,
        alone: results.reports.len() == 1,
        sampled: results.reports.iter().any(|report| report.sampled.is_some()),
        name_width: results.reports.iter().map(|report| report.name.len()).max().unwrap_or_default(),
        traces: None,
    };
    if arguments.format == Format::Text {
        text.print_header(!results.hosts().any(|host| host.emulated));
        results.reports.iter().for_each(|report| text.print_report(report));
    }
    finish(&results, arguments.format, &text)
}

fn read(path: &Path) -> Result<Results, Failure> {
    let fail = |error: &dyn std::fmt::Display, help| Failure::file(path, format_args!("{error}\n{help}"));
    let text = std::fs::read(path)
        .map_err(|error| fail(&error, "give the files that `crossmod check --format json` wrote"))?;
    serde_json::from_slice(&text).map_err(|error| {
        let help = if text.is_empty() {
            "the file is empty: its run did not finish; run that shard again"
        } else if error.is_eof() {
            "the file is incomplete: run that shard again"
        } else {
            "these are not results of this version: write them with `crossmod check --format json`"
        };
        fail(&error, help)
    })
}
