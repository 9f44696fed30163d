//! `crossmod sites --windows FUNCTION --explore`: windows of one shape are explored once.

use std::collections::BTreeMap;
use std::path::Path;

use crossmod::linux::{Shape, Window};
use crossmod::machine::{MachineError, catch_signals, stop_requested};
use crossmod::report::detail;
use crossmod::{CheckError, CheckOptions, Checker, Report};
use serde::Serialize;

use crate::cli::tell::{replays, write_traces};
use crate::cli::{Failure, width};

/// What exploring the windows of one shape came to.
#[derive(Serialize)]
pub struct Explored {
    /// The windows, by function and offset.
    pub windows: Vec<String>,
    /// Whether they are legal by the rules.
    pub legal: bool,
    /// The verdict with its schedules.
    pub report: Report,
}

/// Explores every shape; in the order of the first window of each. Traces of what is found go into `traces`.
pub fn explore(windows: &[Window], traces: Option<&Path>) -> Result<Vec<Explored>, Failure> {
    let mut shapes: Vec<(Shape, Vec<String>)> = Vec::new();
    let mut known: BTreeMap<Shape, usize> = BTreeMap::new();
    for window in windows {
        let Some(shape) = Shape::of(window) else { continue };
        let at = *known.entry(shape.clone()).or_insert_with(|| {
            shapes.push((shape, Vec::new()));
            shapes.len() - 1
        });
        shapes[at].1.push(window.site.clone());
    }
    let fail = |error| Failure::of(CheckError::Machine(error));
    catch_signals().map_err(fail)?;
    let mut checker = Checker::new().map_err(fail)?;
    let options = CheckOptions { width: width(), ..CheckOptions::default() };
    let mut explored = Vec::new();
    for (shape, windows) in shapes {
        if stop_requested() {
            return Err(fail(MachineError::Interrupted));
        }
        let scenario = shape.scenario(&windows[0]);
        let report = checker.check(&scenario, &options, |_| {}).map_err(Failure::of)?;
        write_traces(traces, &report)?;
        explored.push(Explored { windows, legal: shape.arrival.is_none(), report });
    }
    Ok(explored)
}

/// For people: which are safe, and the schedule of each that is not.
pub fn text(explored: &[Explored], traces: Option<&Path>) -> String {
    let mut out =
        String::from("\nExplored, each instruction a NOP of its length; windows of one shape once:\n");
    for Explored { windows, legal, report } in explored {
        let names = match windows.as_slice() {
            [only] => only.clone(),
            [first, rest @ ..] => format!("{first} and {} more of its shape", rest.len()),
            [] => continue,
        };
        let how = if *legal { "legal, exchanged after a wait" } else { "entered inside" };
        if report.findings.is_empty() {
            out.push_str(&format!("\n{names} ({how}): safe, {} states\n", report.counts.states));
        } else {
            out.push_str(&format!("\n{names} ({how}):\n{}", detail(report)));
            out.push_str(&replays(report, traces));
        }
    }
    out
}

/// True if every verdict is what the rules say.
pub fn agree(explored: &[Explored]) -> bool {
    explored.iter().all(|explored| {
        explored.legal == explored.report.findings.is_empty()
            && (explored.legal || explored.report.finding(crossmod::property::Property::Interior).is_some())
    })
}
