//! `crossmod sites --windows FUNCTION`.

use crossmod::host::Host;
use crossmod::linux::{self, Image, ProbeWindow};
use crossmod::machine::{catch_signals, stop_requested};
use crossmod::results::{Status, Tier};
use crossmod::sites::{self, Exploration, Explored, Origin, tables};
use crossmod::{CheckOptions, Checker, Scenario};
use serde::Serialize;

use super::arguments::{Arguments, Format};
use super::output::{bar, show};
use crate::cli::output::{replays, write_traces};
use crate::cli::{Exit, Failure, print, width};

/// The windows as JSON.
#[derive(Serialize)]
struct Record<'a> {
    release: Option<&'a String>,
    function: &'a str,
    windows: &'a [ProbeWindow],
    explored: &'a [Explored],
    #[serde(flatten)]
    exploration: Option<ExplorationRecord>,
}

/// What an exploration adds.
#[derive(Serialize)]
struct ExplorationRecord {
    shapes: usize,
    tier: Tier,
    #[serde(flatten)]
    origin: Origin,
}

pub fn run(arguments: &Arguments, images: &[Image], pattern: &str) -> Result<Exit, Failure> {
    let windows: Vec<_> = images.iter().flat_map(|image| linux::windows(image, pattern)).collect();
    if windows.is_empty() {
        return Err(Failure::unusable(format_args!(
            "no function is called `{pattern}`\nhelp: `*` at either end matches anything, as in `*{pattern}*`"
        )));
    }
    let release = images.first().and_then(|image| image.release.as_ref());
    let document = || tables::windows(release, pattern, &windows);
    let (function, all) = (pattern, &windows);
    let record = |explored, exploration| Record { release, function, windows: all, explored, exploration };
    if !arguments.explore {
        return show(arguments.format, document, || record(&[], None));
    }
    let (exploration, error) = explore(arguments, &windows)?;
    let (shapes, origin) = (exploration.shapes, Origin::new(images, &exploration.host));
    let image = origin.line();
    let added = ExplorationRecord { shapes, tier: Tier::Explore, origin };
    show(arguments.format, document, || record(&exploration.explored, Some(added)))?;
    if arguments.format == Format::Text && shapes > 0 {
        print(&exploration.text(&image, |report| replays(report, arguments.traces.as_deref())));
    }
    match error {
        Some(Failure::Interrupted) => Ok(Exit::interrupted()),
        Some(failure) => Err(failure),
        None if exploration.interrupted() => Ok(Exit::interrupted()),
        None => status(&exploration),
    }
}

/// Explores the shapes of windows on KVM. If traces cannot be written, there is no result.
fn explore(
    arguments: &Arguments,
    windows: &[ProbeWindow],
) -> Result<(Exploration, Option<Failure>), Failure> {
    let shapes = sites::shapes(windows);
    if shapes.is_empty() {
        return Ok((Exploration { explored: Vec::new(), shapes: 0, host: Host::read() }, None));
    }
    catch_signals()?;
    let mut checker = Checker::new()?;
    let host = checker.host().clone();
    let options = CheckOptions { width: width(), ..CheckOptions::default() };
    let bar = bar(shapes.len() as u64);
    let mut unwritten = None;
    let done = sites::explore(shapes, host, |scenario: &Scenario| {
        bar.set_message(scenario.name.clone());
        if stop_requested() || unwritten.is_some() {
            return Err(Failure::Interrupted);
        }
        let report = checker.check(scenario, &options, |_| bar.tick())?;
        bar.inc(1);
        unwritten = write_traces(arguments.traces.as_deref(), &report).err();
        Ok(report)
    });
    bar.finish_and_clear();
    unwritten.map_or(Ok(done), Err)
}

/// The exit status of a complete exploration.
fn status(exploration: &Exploration) -> Result<Exit, Failure> {
    if exploration.shapes == 0 {
        let why = "none of these windows can be explored: the hazards do not depend on schedules (another patch, an \
                   exception, the function's end), or control arrives inside an instruction, or an instruction is \
                   longer than a NOP\nhelp: name another function, or several, as in `--windows 'kfree*'`";
        return Err(Failure::Skipped(why.into()));
    }
    let explored = &exploration.explored;
    Ok(if explored.iter().all(|one| one.report.status == Status::Skipped) {
        Exit::Skipped
    } else if explored.iter().all(Explored::agrees) {
        Exit::Held
    } else {
        Exit::NotHeld
    })
}

#[cfg(test)]
mod tests {
    use crossmod::Report;
    use crossmod::results::Reason;

    use super::*;

    #[test]
    fn only_agreement_of_all_shapes_is_success() {
        let status = |statuses: &[Status]| {
            let explored = statuses.iter().map(|status| Explored {
                windows: vec!["f".into()],
                legal: true,
                report: Report {
                    status: *status,
                    ..Report::skipped("windows/f", Reason::Other("a reason".into()))
                },
            });
            let explored: Vec<_> = explored.collect();
            status(&Exploration { shapes: explored.len(), explored, host: Host::read() })
        };
        assert!(matches!(status(&[Status::Safe, Status::Safe]), Ok(Exit::Held)));
        for other in [Status::Hazard, Status::NotDecided, Status::HarnessError, Status::Skipped] {
            assert!(matches!(status(&[Status::Safe, other]), Ok(Exit::NotHeld)), "{other:?}");
        }
        assert!(matches!(status(&[Status::Skipped]), Ok(Exit::Skipped)));
        assert!(status(&[]).is_err_and(|failure| failure.exit() == Exit::Skipped));
    }
}
