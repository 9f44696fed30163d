//! `crossmod sites --judge PROTOCOL`.

use std::collections::BTreeMap;

use crossmod::fetch::FetchModel;
use crossmod::linux::{self, Filter, Image, Kind};
use crossmod::machine::{MachineError, catch_signals, stop_requested};
use crossmod::sites::judge::{self, Judgements, Outcome, Request};
use crossmod::sites::{Origin, tables};
use crossmod::{CheckError, CheckOptions, Checker, Report, Scenario};
use itertools::Itertools;

use super::arguments::{Arguments, Format};
use super::output::{bar, show};
use crate::cli::output::write_traces;
use crate::cli::selection::models;
use crate::cli::{Exit, Failure, width};

/// The kinds to judge by default: those that Linux patches while other CPUs run.
const JUDGED: [Kind; 2] = [Kind::JumpLabel, Kind::StaticCall];

pub fn run(arguments: &Arguments, images: &[Image], protocol: &str) -> Result<Exit, Failure> {
    let mut filter = arguments.filter();
    if filter.kinds.is_empty() {
        filter.kinds = JUDGED.to_vec();
    }
    let mut models = models(&arguments.fetch)?;
    if models.is_empty() {
        models.push(FetchModel::COHERENT);
    }
    let (classes, without_class) = (linux::classes(images, &filter), linux::without_class(images, &filter));
    if classes.is_empty() {
        return Err(nothing(images, &filter, &without_class));
    }
    catch_signals()?;
    let mut checker = Checker::new()?;
    let origin = Origin::new(images, checker.host());
    let setup = arguments.setup(protocol);
    let request = Request { images, classes, without_class, setup: setup.clone(), models };
    let (outcome, ended) = judge_all(arguments, request, &mut checker);
    let interrupted = match ended {
        Some(Failure::Interrupted) => true,
        Some(failure) => return Err(failure),
        None => false,
    };
    let document = || {
        let mut document = tables::judgements(images, &setup, &outcome, &origin);
        if arguments.format == Format::Html {
            document.tables.extend(tables::inventory(&linux::inventory(images)).tables);
        }
        document
    };
    show(arguments.format, document, || Judgements::new(images, &setup, &outcome, &origin))?;
    Ok(if interrupted {
        Exit::interrupted()
    } else if outcome.failed {
        Exit::Harness
    } else if outcome.safe() {
        Exit::Held
    } else {
        Exit::NotHeld
    })
}

/// Judges with a progress bar, and writes traces of the protocol's findings.
fn judge_all(
    arguments: &Arguments,
    request: Request<'_>,
    checker: &mut Checker,
) -> (Outcome, Option<Failure>) {
    let images = request.images;
    let bar = bar(request.classes.len() as u64);
    let check = |scenario: &Scenario, fetch, main| {
        if stop_requested() {
            return Err(Failure::Interrupted);
        }
        let options = CheckOptions { fetch: Some(fetch), width: width(), ..CheckOptions::default() };
        match whole(checker.check(scenario, &options, |_| bar.tick())) {
            Ok(report) => {
                if main {
                    write_traces(arguments.traces.as_deref(), &report)?;
                }
                Ok(Ok(report))
            }
            Err(CheckError::Machine(MachineError::Interrupted)) => Err(Failure::Interrupted),
            // If the harness fails at one class, the others can still be judged.
            Err(error) => Ok(Err(Failure::from(error).to_string())),
        }
    };
    let done = judge::run(request, check, |done, class, setup, fetch| {
        bar.set_position(done as u64);
        bar.set_message(format!("{} {fetch} {}", setup.protocol, class.members[0].label(images)));
    });
    bar.finish_and_clear();
    done
}

/// A search that a signal cut short is an error: it says nothing about what it did not find.
fn whole(checked: Result<Report, CheckError>) -> Result<Report, CheckError> {
    match checked {
        Ok(report) if report.interrupted() => Err(MachineError::Interrupted.into()),
        other => other,
    }
}

/// The error if the filters leave nothing to judge.
fn nothing(images: &[Image], filter: &Filter, without_class: &BTreeMap<Kind, usize>) -> Failure {
    let kinds = filter.kinds.iter().join(" or ");
    let mut message = format!("the filters leave no {kinds} site that can be judged");
    for line in tables::without_class(without_class) {
        message.push_str(&format!("\n{line}"));
    }
    let any = Filter { kinds: Vec::new(), ..filter.clone() };
    let sites =
        images.iter().flat_map(|image| image.tables.sites.iter().filter(|site| any.wants(image, site)));
    let others = sites.map(|site| site.kind).filter(|kind| !filter.kinds.contains(kind)).counts();
    let others = others.iter().sorted().map(|(kind, count)| format!("{count} {kind}")).join(", ");
    message.push_str(&if others.is_empty() {
        "\nhelp: `--list` shows the sites and their functions; in `--function`, `*` at either end matches anything".to_owned()
    } else {
        format!("\nhelp: the filters leave {others} of other kinds: select one with `--kind`")
    });
    Failure::unusable(message)
}

#[cfg(test)]
mod tests {
    use crossmod::results::{Reason, Status};

    use super::*;

    #[test]
    fn an_interrupted_search_has_no_verdict() {
        let mut report = Report::skipped("one", Reason::Other("a reason".into()));
        assert!(whole(Ok(report.clone())).is_ok(), "nothing was cut short");
        report.reason = Some(Reason::BeforeConfirmed);
        report.status = Status::NotDecided;
        let cut = whole(Ok(report));
        assert!(matches!(cut, Err(CheckError::Machine(MachineError::Interrupted))), "{cut:?}");
    }
}
