//! `crossmod check`.

mod arguments;

use crossmod::machine::{catch_signals, stop_requested};
use crossmod::report::{BEFORE_ITS_TURN, BEFORE_PROVED};
use crossmod::suite::{self, Case, Header, Journal, JournalError, Results, Selection, Shard};
use crossmod::{CheckError, CheckOptions, Checker, Report};
use indicatif::ProgressBar;

use super::choose::{models, select, unusable};
use super::progress::{progress, show};
use super::tell::{Format, SearchOptions, finish, write_traces};
use super::{Failure, HARNESS, HARNESS_ERROR, INTERRUPTED};

pub use arguments::{Arguments, ring};

pub fn run(arguments: &Arguments) -> Result<u8, Failure> {
    // Unusable input is told before KVM is opened: it is unusable on every machine.
    let all = suite::cases(&select(&arguments.scenarios)?, &models(&arguments.fetch)?).map_err(unusable)?;
    let all = arguments.filter.filter().apply(all).map_err(unusable)?;
    let (selection, shard) = (Selection::of(&all), arguments.shard.unwrap_or(Shard::WHOLE));
    let cases = shard.of(all);
    let mut options = arguments.told();
    let journal = arguments.resume.as_deref().map(|path| {
        // Traces stand beside the journal: what is known there has its trace already.
        if let Some(directory) = &arguments.traces {
            options.push_str(&format!(" --traces {}", directory.display()));
        }
        Journal::open(path, &Header::new(options.trim_start())).map_err(damaged)
    });
    let mut journal = journal.transpose()?;

    let fail = |error| Failure::of(CheckError::Machine(error));
    catch_signals().map_err(fail)?;
    let mut checker = Checker::new().map_err(fail)?;
    let text = arguments.format == Format::Text;
    let manner = SearchOptions {
        verbose: arguments.verbose,
        alone: cases.len() == 1,
        sampled: arguments.sampled(),
        name_width: cases.iter().map(|case| case.scenario.name.len()).max().unwrap_or_default(),
        traces: arguments.traces.as_deref(),
    };
    if text {
        manner.head(!checker.host().emulated);
    }
    let mut results = Results {
        options: arguments.told(),
        shard,
        selection,
        ..Results::of(checker.host().clone(), Vec::new())
    };
    let bar = progress();
    for (index, case) in cases.iter().enumerate() {
        bar.set_prefix(format!("{}/{} {}", index + 1, cases.len(), case.name));
        let known = journal.as_ref().and_then(|journal| journal.known(case, arguments.ring));
        let report = match known {
            Some(report) => Report { title: case.plan.title.clone(), ..report },
            None => {
                let report = check(&mut checker, case, &arguments.options(), &bar)?;
                write_traces(arguments.traces.as_deref(), &report)?;
                if let Some(journal) = &mut journal {
                    journal.append(checker.host(), &report).map_err(lost)?;
                }
                report
            }
        };
        if text
            && report
                .reason
                .as_deref()
                .is_none_or(|reason| ![BEFORE_ITS_TURN, BEFORE_PROVED].contains(&reason))
        {
            bar.suspend(|| manner.tell(&report));
        }
        results.reports.push(report);
    }
    bar.finish_and_clear();
    for host in journal.iter().flat_map(Journal::hosts) {
        results.ran_on(host);
    }
    finish(&results, arguments.format, &manner)
}

/// One case; that the host or Crossmod failed, or that a signal came, is a report as well.
fn check(
    checker: &mut Checker,
    case: &Case,
    options: &CheckOptions,
    bar: &ProgressBar,
) -> Result<Report, Failure> {
    let options = CheckOptions { fetch: Some(case.model), ..*options };
    let name = &case.scenario.name;
    let without = |reason| Report::skipped(name, reason).under(options.fetch);
    if stop_requested() {
        return Ok(without(BEFORE_ITS_TURN));
    }
    let timed = !checker.host().emulated;
    let error = match checker.check(&case.scenario, &options, |tick| show(bar, tick, timed)) {
        Ok(report) => return Ok(report),
        Err(error) => Failure::of(error),
    };
    match error.status {
        // Its search was over; a finding was being executed again.
        INTERRUPTED => Ok(without(BEFORE_PROVED)),
        HARNESS => {
            bar.suspend(|| eprintln!("{name}: {}", error.message));
            let message = error.message.trim_start_matches(HARNESS_ERROR);
            Ok(Report::failed(name, message).under(options.fetch))
        }
        _ => Err(error),
    }
}

fn damaged(error: JournalError) -> Failure {
    Failure::unusable(format!("error: {error}"))
}

/// A verdict that cannot be kept is a failure of the host.
fn lost(error: JournalError) -> Failure {
    Failure { status: HARNESS, message: format!("{HARNESS_ERROR}{error}") }
}
