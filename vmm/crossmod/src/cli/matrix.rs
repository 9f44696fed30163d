//! `crossmod matrix`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use crossmod::explore::Limits;
use crossmod::fetch::FetchModel;
use crossmod::image::Image;
use crossmod::machine::catch_signals;
use crossmod::report::matrix::{self, Matrix, MatrixRow};
use crossmod::results::Status;
use crossmod::{CheckOptions, Checker, Report, Scenario, scenario};

use super::check::check_one;
use super::output::{Rendering, json, write_traces};
use super::progress::progress;
use super::selection::{models, select, size};
use super::{Exit, Failure, print};

#[derive(Args)]
pub struct Arguments {
    /// Scenario files, directories of them, or shipped scenarios by name or group [default: the group `matrix`].
    scenarios: Vec<String>,
    /// Format of the table.
    #[arg(long, value_enum, default_value_t = Rendering::Text)]
    format: Rendering,
    /// Fetch models of the columns; may be repeated. A preset, `all` presets, or parameters such as
    /// `atom=16,stale,block`.
    #[arg(long, value_name = "MODEL", default_value = "all")]
    fetch: Vec<String>,
    /// Check only the scenarios themselves, without their mutants.
    #[arg(long)]
    no_mutants: bool,
    /// Write a trace file for each finding to this directory, for `crossmod replay`.
    #[arg(long, value_name = "DIR")]
    traces: Option<PathBuf>,
    /// Add the searches of this report, written by `crossmod check --format json`, to the plot of the HTML page; may be
    /// repeated.
    #[arg(long, value_name = "FILE")]
    costs: Vec<PathBuf>,
    /// Stop the search of a cell at this many states.
    #[arg(long, value_name = "N", default_value_t = Limits::default().max_states)]
    max_states: usize,
    /// Stop the search of a cell when it uses this much memory, in bytes or with a suffix K, M or G.
    #[arg(long, value_name = "SIZE", value_parser = size, default_value = "8G")]
    max_memory: usize,
    /// Stop the search of a cell after this many seconds.
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<u64>,
}

pub fn run(arguments: &Arguments) -> Result<Exit, Failure> {
    let models = models(&arguments.fetch)?;
    let names =
        if arguments.scenarios.is_empty() { vec!["matrix".into()] } else { arguments.scenarios.clone() };
    let rows = rows(&select(&names)?, !arguments.no_mutants)?;
    let costs = costs(&arguments.costs)?;
    catch_signals()?;
    let mut checker = Checker::new()?;
    let (rows, interrupted) = fill(arguments, &mut checker, rows, &models)?;
    let is = |status| move |cell: &Report| cell.status == status;
    let mut cells = rows.iter().flat_map(|row| &row.cells);
    let failed = cells.clone().any(is(Status::HarnessError));
    let skipped = cells.all(is(Status::Skipped));
    let matrix = Matrix {
        crossmod: env!("CARGO_PKG_VERSION"),
        image: Image::digest(),
        host: checker.host(),
        models: models.iter().map(ToString::to_string).collect(),
        rows,
        costs,
    };
    print(&match arguments.format {
        Rendering::Text => format!("{}\n{}", matrix::text(&matrix), matrix::legend(&matrix)),
        Rendering::Html => matrix::html(&matrix),
        Rendering::Json => json(&matrix)?,
    });
    Ok(match (failed, interrupted, skipped) {
        (true, _, _) => Exit::Harness,
        (_, true, _) => Exit::interrupted(),
        (_, _, true) => Exit::Skipped,
        _ => Exit::Held,
    })
}

/// Checks the cells; true if a signal left some of them empty.
fn fill(
    arguments: &Arguments,
    checker: &mut Checker,
    rows: Vec<(MatrixRow, Scenario)>,
    models: &[FetchModel],
) -> Result<(Vec<MatrixRow>, bool), Failure> {
    let limits = Limits {
        max_states: arguments.max_states,
        max_memory: arguments.max_memory,
        timeout: arguments.timeout.map(Duration::from_secs),
        ..Limits::default()
    };
    let bar = progress();
    let cells = rows.iter().filter(|(row, _)| row.refused.is_none()).count() * models.len();
    let (mut done, mut interrupted) = (0, false);
    let mut filled = Vec::new();
    for (mut row, scenario) in rows {
        for &model in models.iter().filter(|_| row.refused.is_none()) {
            if interrupted {
                break;
            }
            done += 1;
            bar.set_prefix(format!("{done}/{cells} {} {model}", scenario.name));
            let options = CheckOptions { fetch: Some(model), limits, ..CheckOptions::default() };
            let report = check_one(checker, &scenario, &options, &bar)?;
            interrupted = report.interrupted();
            if !report.not_reported() {
                write_traces(arguments.traces.as_deref(), &report)?;
                row.cells.push(report);
            }
        }
        filled.push(row);
    }
    bar.finish_and_clear();
    Ok((filled, interrupted))
}

/// The rows, still empty, each with its scenario.
fn rows(scenarios: &[Scenario], mutants: bool) -> Result<Vec<(MatrixRow, Scenario)>, Failure> {
    let mut rows = Vec::new();
    for scenario in scenarios {
        let plan = scenario.plan(&scenario::Options::default())?;
        let all = scenario.mutants()?;
        for mutant in all.into_iter().take(if mutants { usize::MAX } else { 1 }) {
            let refused =
                mutant.scenario.plan(&scenario::Options::default()).err().map(|error| error.to_string());
            let row = MatrixRow {
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
        let text = std::fs::read_to_string(path).map_err(|error| Failure::file(path, error))?;
        let report: serde_json::Value =
            serde_json::from_str(&text).map_err(|error| Failure::file(path, error))?;
        let reports = report["reports"]
            .as_array()
            .ok_or_else(|| Failure::file(path, "not a report of `crossmod check --format json`"))?;
        costs.extend(reports.iter().filter_map(|report| {
            Some((report["counts"]["transitions"].as_u64()?, report["counts"]["seconds"].as_f64()?))
        }));
    }
    Ok(costs)
}
