//! `crossmod check`.

mod arguments;

use crossmod::machine::{catch_signals, stop_requested};
use crossmod::results::{Reason, Results, Selection, Shard};
use crossmod::suite::{self, Case, Header, Journal};
use crossmod::{CheckOptions, Checker, Report, Scenario};
use indicatif::ProgressBar;

use super::output::{Format, TextOptions, finish, write_traces};
use super::progress::{progress, show};
use super::selection::{models, select};
use super::{Exit, Failure};

pub use arguments::{Arguments, ring};

pub fn run(arguments: &Arguments) -> Result<Exit, Failure> {
    // Errors in the input are reported before KVM is opened: they do not depend on the machine.
    let mut scenarios = select(&arguments.scenarios)?;
    if arguments.patcher.is_some() {
        let vcpu = scenarios.iter().map(Scenario::patched_by_a_vcpu);
        scenarios = vcpu.collect::<Result<_, _>>()?;
    }
    let mut all = suite::cases(&scenarios, &models(&arguments.fetch)?)?;
    for case in &mut all {
        case.plan.memory = arguments.memory.unwrap_or(case.plan.memory);
    }
    let all = arguments.filter.filter().apply(all)?;
    let (selection, shard) = (Selection::of(&all), arguments.shard.unwrap_or(Shard::WHOLE));
    let cases = shard.of(all);
    let mut journal = open_journal(arguments)?;

    catch_signals()?;
    let mut checker = Checker::new()?;
    let text = TextOptions {
        verbose: arguments.verbose,
        alone: cases.len() == 1,
        sampled: arguments.sampled(),
        name_width: cases.iter().map(|case| case.scenario.name.len()).max().unwrap_or_default(),
        traces: arguments.traces.as_deref(),
    };
    if arguments.format == Format::Text {
        text.print_header(!checker.host().emulated);
    }
    let mut results = Results {
        options: arguments.canonical(),
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
            None => check_new(&mut checker, arguments, case, journal.as_mut(), &bar)?,
        };
        if arguments.format == Format::Text && !report.not_reported() {
            bar.suspend(|| text.print_report(&report));
        }
        results.reports.push(report);
    }
    bar.finish_and_clear();
    for host in journal.iter().flat_map(Journal::hosts) {
        results.ran_on(host);
    }
    finish(&results, arguments.format, &text)
}

fn open_journal(arguments: &Arguments) -> Result<Option<Journal>, Failure> {
    let Some(path) = &arguments.resume else { return Ok(None) };
    let mut options = arguments.canonical();
    // A verdict in the journal has its trace in that directory already.
    if let Some(directory) = &arguments.traces {
        options.push_str(&format!(" --traces {}", directory.display()));
    }
    let journal = Journal::open(path, &Header::new(options.trim_start()));
    journal.map(Some).map_err(Failure::unusable)
}

/// Checks a case that the journal does not have, and writes its traces and its verdict.
fn check_new(
    checker: &mut Checker,
    arguments: &Arguments,
    case: &Case,
    journal: Option<&mut Journal>,
    bar: &ProgressBar,
) -> Result<Report, Failure> {
    let options = CheckOptions { fetch: Some(case.model), ..arguments.options() };
    let report = check_one(checker, &case.scenario, &options, bar)?;
    write_traces(arguments.traces.as_deref(), &report)?;
    if let Some(journal) = journal {
        journal.append(checker.host(), &report).map_err(Failure::harness)?;
    }
    Ok(report)
}

/// Checks one scenario. A signal, or a failure of the host or of Crossmod, gives a report as well.
pub fn check_one(
    checker: &mut Checker,
    scenario: &Scenario,
    options: &CheckOptions,
    bar: &ProgressBar,
) -> Result<Report, Failure> {
    let name = &scenario.name;
    let skipped = |reason| Report::skipped(name, reason).under(options.fetch);
    if stop_requested() {
        return Ok(skipped(Reason::BeforeItsTurn));
    }
    let timed = !checker.host().emulated;
    match checker.check(scenario, options, |tick| show(bar, tick, timed)).map_err(Failure::from) {
        Err(Failure::Interrupted) => Ok(skipped(Reason::BeforeConfirmed)),
        Err(Failure::Harness(message)) => {
            bar.suspend(|| eprintln!("{name}: {}", Failure::harness(&message)));
            Ok(Report::failed(name, Reason::Other(message)).under(options.fetch))
        }
        result => result,
    }
}
