//! Results on standard output in every format, and trace files.

use std::path::{Path, PathBuf};

use clap::ValueEnum;
use crossmod::Report;
use crossmod::report;
use crossmod::results::{Results, Shard, Status};
use itertools::Itertools;
use serde::Serialize;

use super::{Exit, Failure, print};

/// Formats of results.
#[derive(Clone, Copy, PartialEq, ValueEnum)]
pub enum Format {
    Text,
    Json,
    Ktap,
    Junit,
}

/// Formats of tables and measurements, including a page.
#[derive(Clone, Copy, PartialEq, ValueEnum)]
pub enum Rendering {
    Text,
    Json,
    Html,
}

/// A result as JSON.
pub fn json(result: &impl Serialize) -> Result<String, Failure> {
    report::json(result).map_err(Failure::harness)
}

/// Options of the text format.
pub struct TextOptions<'a> {
    /// Print every report in full, not only those that need attention.
    pub verbose: bool,
    /// There is only one case, which is printed in full.
    pub alone: bool,
    /// Runs are sampled.
    pub sampled: bool,
    /// Length of the longest name, in characters.
    pub name_width: usize,
    /// Directory of the trace files.
    pub traces: Option<&'a Path>,
}

impl TextOptions<'_> {
    /// Prints the header of the lines.
    pub fn print_header(&self, timed: bool) {
        if !self.alone && !self.verbose {
            print(&report::table(self.name_width, timed));
        }
    }

    /// Prints one report, as soon as it is known.
    pub fn print_report(&self, report: &Report) {
        if !(self.alone || self.verbose || report.witness.is_some() || !report.holds()) {
            return print(&report::line(report, self.name_width));
        }
        print(&report::detail(report));
        if !report.findings.is_empty() {
            print(&replays(report, self.traces));
        }
    }

    /// The text below the lines.
    fn summary(&self, results: &Results) -> String {
        let reports = &results.reports;
        let count = |status| reports.iter().filter(|report| report.status == status).count();
        let (skipped, errors) = (count(Status::Skipped), count(Status::HarnessError));
        let unexpected = reports.iter().filter(|report| !report.holds()).count() - errors;
        let seconds: f64 = reports.iter().filter_map(|report| report.counts.seconds).sum();
        let emulated = results.hosts().any(|host| host.emulated);
        let time = if emulated { String::new() } else { format!(" in {seconds:.2} s") };
        let sum = |of: fn(&Report) -> u64| reports.iter().map(of).sum::<u64>();
        let (held, how) = if self.sampled {
            ("with nothing unexpected (sampled: nothing is decided)", "sampling")
        } else {
            ("as expected", "exploration")
        };
        let mut text = String::from("\n");
        if reports.len() > 1 && !self.verbose {
            text.push_str(&format!("{}\n\n", report::LEGEND));
        }
        if let Some(directory) = self.traces {
            // Verdicts from a journal have no trace here: it was written when they were new.
            let findings = reports.iter().flat_map(|report| &report.findings);
            let traces = findings.filter(|finding| finding.trace.is_some()).count();
            text.push_str(&format!("{traces} traces written to {}\n", directory.display()));
        }
        if results.shard != Shard::WHOLE {
            let all = results.selection.cases.len();
            text.push_str(&format!("shard {}: {} of {all} cases\n", results.shard, reports.len()));
        }
        text.push_str(&format!(
            "{} {held}, {unexpected} not, {skipped} skipped, {errors} harness errors\n{} transitions{time} of {how}; {} \
             steps on KVM, {} #BP delivered by the host for KVM\n{}",
            reports.len() - skipped - unexpected - errors,
            sum(|report| report.counts.transitions),
            sum(|report| report.assists.steps),
            sum(|report| report.assists.completed_breakpoints),
            report::TIER,
        ));
        for host in results.hosts() {
            text.push_str(&format!("\n{}", host.line()));
        }
        let modelled = reports.iter().filter(|report| !report.modelled.is_empty());
        let modelled = modelled.map(|report| &report.name).join(", ");
        if !modelled.is_empty() && (reports.len() > 1 && !self.verbose) {
            text.push_str(&format!("\nmodelled {}: {modelled}", report::MODELLED_SMI));
        }
        text
    }
}

/// Prints the part of the results that is known only at the end.
pub fn finish(results: &Results, format: Format, text: &TextOptions<'_>) -> Result<Exit, Failure> {
    print(&match format {
        Format::Text => text.summary(results),
        Format::Json => json(results)?,
        Format::Ktap => report::ktap(&results.reports),
        Format::Junit => report::junit(&results.reports).map_err(Failure::harness)?,
    });
    Ok(Exit::of(&results.reports))
}

/// The commands that replay the findings of a report.
pub fn replays(report: &Report, directory: Option<&Path>) -> String {
    let mut text = String::from(match directory {
        Some(_) => "\n  to replay:\n",
        None => "\n  to replay, write traces with `--traces DIR`, then:\n",
    });
    for finding in &report.findings {
        let directory = directory.unwrap_or(Path::new("DIR"));
        let path = trace_path(directory, report, finding.violation.property.name());
        text.push_str(&format!("    crossmod replay {}\n", path.display()));
    }
    text
}

fn trace_path(directory: &Path, report: &Report, property: &str) -> PathBuf {
    directory.join(format!("{}.{property}.trace.json", report.case().replace('/', ".")))
}

/// Writes a trace file for each finding of a report, if there is a directory for them.
pub fn write_traces(directory: Option<&Path>, report: &Report) -> Result<(), Failure> {
    let Some(directory) = directory else { return Ok(()) };
    std::fs::create_dir_all(directory).map_err(|error| Failure::file(directory, error))?;
    for finding in &report.findings {
        let Some(trace) = &finding.trace else { continue };
        let path = trace_path(directory, report, finding.violation.property.name());
        std::fs::write(&path, json(trace)? + "\n").map_err(|error| Failure::file(&path, error))?;
    }
    Ok(())
}
