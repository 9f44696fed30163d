//! `crossmod matrix`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use crossmod::explore::Limits;
use crossmod::image::Image;
use crossmod::machine::{catch_signals, stop_requested};
use crossmod::report::matrix::{self, Matrix, Row};
use crossmod::{CheckError, CheckOptions, Checker, Report, Scenario, scenario};

use super::choose::{models, select, size};
use super::progress::{progress, show};
use super::tell::write_traces;
use super::{Failure, HARNESS, HARNESS_ERROR, HELD, INTERRUPTED, SKIPPED, print};

#[derive(Args)]
pub struct Arguments {
    /// Scenario files, directories of them, or shipped scenarios by name or group; without any, the group
    /// `matrix`.
    scenarios: Vec<String>,
    /// Form of the table.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// Fetch models of the columns; may be repeated. A preset, `all` of them, or parameters such as
    /// `atom=16,stale,block`.
    #[arg(long, value_name = "MODEL", default_value = "all")]
    fetch: Vec<String>,
    /// Only the scenarios as they are, without their mutants.
    #[arg(long)]
    no_mutants: bool,
    /// Write a trace file for each hazard into this directory, for `crossmod replay`.
    #[arg(long, value_name = "DIR")]
    traces: Option<PathBuf>,
    /// Add the searches of this report, written by `crossmod check --format json`, to the plot of the HTML page;
    /// may be repeated.
    #[arg(long, value_name = "FILE")]
    costs: Vec<PathBuf>,
    /// Stop the search of a cell at this many states.
    #[arg(long, value_name = "N", default_value_t = Limits::default().max_states)]
    max_states: usize,
    /// Stop the search of a cell when it uses so much memory: bytes, or with K, M or G.
    #[arg(long, value_name = "SIZE", value_parser = size, default_value = "8G")]
    max_memory: usize,
    /// Stop the search of a cell after this many seconds.
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<u64>,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
pub enum Format {
    Text,
    Json,
    Html,
}

pub fn run(arguments: &Arguments) -> Result<u8, Failure> {
    let models = models(&arguments.fetch)?;
    let names =
        if arguments.scenarios.is_empty() { vec!["matrix".into()] } else { arguments.scenarios.clone() };
    let rows = rows(&select(&names)?, !arguments.no_mutants)?;
    let costs = costs(&arguments.costs)?;
    let fail = |error| Failure::of(CheckError::Machine(error));
    catch_signals().map_err(fail)?;
    let mut checker = Checker::new().map_err(fail)?;
    let limits = Limits {
        max_states: arguments.max_states,
        max_memory: arguments.max_memory,
        timeout: arguments.timeout.map(std::time::Duration::from_secs),
        ..Limits::default()
    };
    let (bar, timed) = (progress(), !checker.host().emulated);
    let cells = rows.iter().filter(|(row, _)| row.refused.is_none()).count() * models.len();
    let (mut done, mut interrupted, mut status) = (0, false, SKIPPED);
    let mut filled = Vec::new();
    for (mut row, scenario) in rows {
        for &model in models.iter().filter(|_| row.refused.is_none()) {
            interrupted |= stop_requested();
            if interrupted {
                break;
            }
            done += 1;
            bar.set_prefix(format!("{done}/{cells} {} {model}", scenario.name));
            let options = CheckOptions { fetch: Some(model), limits, ..CheckOptions::default() };
            let report = match checker.check(&scenario, &options, |tick| show(&bar, tick, timed)) {
                Ok(report) => report,
                Err(error) => {
                    let failure = Failure::of(error);
                    if failure.status == INTERRUPTED {
                        interrupted = true;
                        break;
                    }
                    if failure.status != HARNESS {
                        return Err(failure);
                    }
                    bar.suspend(|| eprintln!("{}: {}", scenario.name, failure.message));
                    status = HARNESS;
                    let message = failure.message.trim_start_matches(HARNESS_ERROR);
                    Report::failed(&scenario.name, message).under(Some(model))
                }
            };
            if status == SKIPPED && report.status != crossmod::report::Status::Skipped {
                status = HELD;
            }
            write_traces(arguments.traces.as_deref(), &report)?;
            row.cells.push(report);
        }
        filled.push(row);
    }
    bar.finish_and_clear();
    let matrix = Matrix {
        crossmod: env!("CARGO_PKG_VERSION"),
        image: Image::digest(),
        host: checker.host(),
        models: models.iter().map(ToString::to_string).collect(),
        rows: filled,
        costs,
    };
    match arguments.format {
        Format::Text => print(&format!("{}\n{}", matrix::text(&matrix), matrix::legend(&matrix))),
        Format::Html => print(&matrix::html(&matrix)),
        Format::Json => {
            let text = serde_json::to_string_pretty(&matrix);
            print(
                &text.map_err(|error| Failure {
                    status: HARNESS,
                    message: format!("{HARNESS_ERROR}{error}"),
                })?,
            );
        }
    }
    if interrupted && status != HARNESS {
        eprintln!("interrupted: what is printed is what was known until then");
        return Ok(INTERRUPTED);
    }
    Ok(status)
}

/// The rows, still empty, each with its scenario.
fn rows(scenarios: &[Scenario], mutants: bool) -> Result<Vec<(Row, Scenario)>, Failure> {
    let mut rows = Vec::new();
    for scenario in scenarios {
        let fail = |error: scenario::ScenarioError| Failure::of(error.into());
        let plan = scenario.plan(&scenario::Options::default()).map_err(fail)?;
        let all = scenario.mutants().map_err(fail)?;
        for mutant in all.into_iter().take(if mutants { usize::MAX } else { 1 }) {
            let refused =
                mutant.scenario.plan(&scenario::Options::default()).err().map(|error| error.to_string());
            let row = Row {
                scenario: scenario.name.clone(),
                title: plan.title.clone(),
                change: mutant.change,
                refused,
                cells: Vec::new(),
            };
            rows.push((row, mutant.scenario));
        }
    }
    Ok(rows)
}

/// Transitions and seconds of every search in JSON reports.
fn costs(files: &[PathBuf]) -> Result<Vec<(u64, f64)>, Failure> {
    let mut costs = Vec::new();
    for path in files {
        let unusable =
            |what: &dyn std::fmt::Display| Failure::unusable(format!("error: {}: {what}", path.display()));
        let text = std::fs::read_to_string(path).map_err(|error| unusable(&error))?;
        let report: serde_json::Value = serde_json::from_str(&text).map_err(|error| unusable(&error))?;
        let reports = report["reports"]
            .as_array()
            .ok_or_else(|| unusable(&"no report of `crossmod check --format json`"))?;
        costs.extend(reports.iter().filter_map(|report| {
            Some((report["counts"]["transitions"].as_u64()?, report["counts"]["seconds"].as_f64()?))
        }));
    }
    Ok(costs)
}
