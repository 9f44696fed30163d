//! `crossmod merge`.

use std::path::{Path, PathBuf};

use clap::Args;
use crossmod::suite::{self, Results};

use super::Failure;
use super::tell::{Format, SearchOptions, finish};

#[derive(Args)]
pub struct Arguments {
    /// Results that `crossmod check --shard K/N --format json` has written: of every shard.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Form of the report.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// Show each finding's schedule, not only the unexpected ones'.
    #[arg(short, long)]
    verbose: bool,
}

pub fn run(arguments: &Arguments) -> Result<u8, Failure> {
    let files = arguments.files.iter().map(|path| Ok((path.display().to_string(), read(path)?)));
    let files = files.collect::<Result<Vec<_>, Failure>>()?;
    let results = suite::join(&files).map_err(|error| Failure::unusable(format!("error: {error}")))?;
    let manner = SearchOptions {
        verbose: arguments.verbose,
        alone: results.reports.len() == 1,
        sampled: results.reports.iter().any(|report| report.sampled.is_some()),
        name_width: results.reports.iter().map(|report| report.name.len()).max().unwrap_or_default(),
        traces: None,
    };
    if arguments.format == Format::Text {
        manner.head(!results.hosts().any(|host| host.emulated));
        results.reports.iter().for_each(|report| manner.tell(report));
    }
    finish(&results, arguments.format, &manner)
}

fn read(path: &Path) -> Result<Results, Failure> {
    let fail = |reason: String, help: &str| {
        Err(Failure::unusable(format!("error: {}: {reason}\n{help}", path.display())))
    };
    let text = match std::fs::read(path) {
        Ok(text) => text,
        Err(error) => {
            return fail(error.to_string(), "give the files that `crossmod check --format json` wrote");
        }
    };
    match serde_json::from_slice(&text) {
        Ok(results) => Ok(results),
        Err(error) if text.is_empty() => {
            fail(error.to_string(), "the file is empty: its run did not come to an end; run that shard again")
        }
        Err(error) if error.is_eof() => {
            fail(error.to_string(), "the file ends too early: is it complete? run that shard again")
        }
        Err(error) => fail(
            error.to_string(),
            "these are no results of this version: write them with `crossmod check --format json`",
        ),
    }
}
