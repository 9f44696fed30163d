//! `crossmod sites --windows FUNCTION --explore`: windows of one shape are explored once.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crossmod::host::Host;
use crossmod::linux::Window;
use crossmod::machine::{MachineError, catch_signals, stop_requested};
use crossmod::property::Property;
use crossmod::report::{TIER, bounds, detail};
use crossmod::results::Status;
use crossmod::sites::Shape;
use crossmod::{CheckError, CheckOptions, Checker, Report, Scenario};
use serde::Serialize;

use super::bar;
use crate::cli::output::{replays, write_traces};
use crate::cli::{Exit, Failure, width};

/// What exploring the windows of one shape came to.
#[derive(Debug, Serialize)]
pub struct Explored {
    /// The windows, by function and offset.
    pub windows: Vec<String>,
    /// Whether they are legal by the rules.
    pub legal: bool,
    /// The verdict with its schedules.
    pub report: Report,
}

impl Explored {
    /// True if the verdict is what the rules say.
    fn agrees(&self) -> bool {
        match self.report.status {
            Status::Safe => self.legal,
            Status::Hazard => !self.legal && self.report.finding(Property::Interior).is_some(),
            Status::NotDecided | Status::Skipped | Status::HarnessError => false,
        }
    }
}

/// What came of exploring.
pub struct Exploration {
    /// By shape, in the order of the first window of each.
    pub explored: Vec<Explored>,
    /// Shapes that there are.
    pub shapes: usize,
    pub host: Host,
    /// What ended it before its end.
    pub ended: Option<CheckError>,
}

/// Windows that are alike, with what they have in common.
type Shapes = Vec<(Shape, Vec<String>)>;

fn shapes(windows: &[Window]) -> Shapes {
    let mut shapes: Shapes = Vec::new();
    let mut known: BTreeMap<Shape, usize> = BTreeMap::new();
    for window in windows {
        let Some(shape) = Shape::of(window) else { continue };
        let at = *known.entry(shape.clone()).or_insert_with(|| {
            shapes.push((shape, Vec::new()));
            shapes.len() - 1
        });
        shapes[at].1.push(window.site.clone());
    }
    shapes
}

/// Explores every shape. Traces of what is found go into `traces`.
pub fn explore(windows: &[Window], traces: Option<&Path>) -> Result<Exploration, Failure> {
    let shapes = shapes(windows);
    let count = shapes.len();
    if count == 0 {
        return Ok(Exploration { explored: Vec::new(), shapes: 0, host: Host::read(), ended: None });
    }
    catch_signals()?;
    let mut checker = Checker::new()?;
    let host = checker.host().clone();
    let options = CheckOptions { width: width(), ..CheckOptions::default() };
    let bar = bar(count as u64);
    let mut unwritten = None;
    let (explored, ended) = each(shapes, |scenario| {
        bar.set_message(scenario.name.clone());
        if stop_requested() || unwritten.is_some() {
            return Err(MachineError::Interrupted.into());
        }
        let report = checker.check(scenario, &options, |_| bar.tick())?;
        bar.inc(1);
        unwritten = write_traces(traces, &report).err();
        Ok(report)
    });
    bar.finish_and_clear();
    match unwritten {
        Some(failure) => Err(failure),
        None => Ok(Exploration { explored, shapes: count, host, ended }),
    }
}

/// Checks shape by shape, up to the first error. A search that is cut short by a signal is told like the others, and
/// is the last.
fn each(
    shapes: Shapes,
    mut check: impl FnMut(&Scenario) -> Result<Report, CheckError>,
) -> (Vec<Explored>, Option<CheckError>) {
    let mut explored = Vec::new();
    for (shape, windows) in shapes {
        let report = match check(&shape.scenario(&windows[0])) {
            Ok(report) => report,
            Err(error) => return (explored, Some(error)),
        };
        let interrupted = report.interrupted();
        explored.push(Explored { windows, legal: shape.arrival.is_none(), report });
        if interrupted {
            return (explored, Some(MachineError::Interrupted.into()));
        }
    }
    (explored, None)
}

impl Exploration {
    /// For people: within which bounds, which are safe, and whatever else was found of each that is not. `images`: what
    /// they are windows of.
    pub fn text(&self, images: &str, traces: Option<&Path>) -> String {
        let mut out =
            String::from("\nExplored, each instruction a NOP of its length; windows of one shape once:\n");
        // All shapes have the same; what was not run has none.
        let within: BTreeSet<String> = self
            .explored
            .iter()
            .filter_map(|Explored { report, .. }| {
                let rule = report.rule?;
                Some(format!("{}; fetch model {}, rule {rule}\n", bounds(report), report.fetch))
            })
            .collect();
        out.extend(within);
        out.push_str(&format!("{TIER}\n{}\n{images}\n", self.host.line()));
        for Explored { windows, legal, report } in &self.explored {
            let names = match windows.as_slice() {
                [only] => only.clone(),
                [first, rest @ ..] => format!("{first} and {} more of its shape", rest.len()),
                [] => continue,
            };
            let how = if *legal { "legal, exchanged after a wait" } else { "entered inside" };
            if report.status == Status::Safe {
                let states = report.counts.states;
                out.push_str(&format!("\n{names} ({how}): safe within these bounds, {states} states\n"));
                continue;
            }
            out.push_str(&format!("\n{names} ({how}):\n{}", detail(report)));
            if !report.findings.is_empty() {
                out.push_str(&replays(report, traces));
            }
        }
        let (done, agree) = (self.explored.len(), self.explored.iter().filter(|one| one.agrees()).count());
        out.push_str(&format!(
            "\n{done} of {} shapes explored; of {agree} the verdict is what the rules say\n",
            self.shapes
        ));
        out
    }

    /// The exit status, if nothing ended it.
    pub fn status(&self) -> Result<Exit, Failure> {
        let all_skipped = self.explored.iter().all(|one| one.report.status == Status::Skipped);
        match (self.shapes, all_skipped) {
            (0, _) => Err(Failure::Skipped(
                "none of these windows can be explored: what stands against them is no matter of \
                          schedules (another patch, an exception, the function's end), or control arrives inside of \
                          an instruction, or one is longer than a NOP\nhelp: name another function, or several, as in \
                          `--windows 'kfree*'`"
                    .into(),
            )),
            (_, true) => Ok(Exit::Skipped),
            _ if self.explored.iter().all(Explored::agrees) => Ok(Exit::Held),
            _ => Ok(Exit::NotHeld),
        }
    }
}

#[cfg(test)]
mod tests {
    use crossmod::explore::Ended;
    use crossmod::linux::Window;
    use crossmod::results::Reason;

    use super::*;

    /// Windows of as many shapes.
    fn windows(count: u64) -> Vec<Window> {
        (0..count)
            .map(|index| Window {
                site: format!("f+{index:#x}"),
                address: 0x1000 + index,
                length: 5,
                lengths: vec![5],
                bytes: String::new(),
                instructions: 1,
                hazards: Vec::new(),
            })
            .collect()
    }

    fn report(status: Status, ended: Option<Ended>) -> Report {
        Report { status, ended, ..Report::skipped("windows/f", Reason::Other("as is said".into())) }
    }

    fn exploration(reports: Vec<Report>, legal: bool) -> Exploration {
        let count = reports.len();
        let mut reports = reports.into_iter();
        let (mut explored, ended) =
            each(shapes(&windows(count as u64)), |_| Ok(reports.next().expect("one for each")));
        explored.iter_mut().for_each(|one| one.legal = legal);
        Exploration { explored, shapes: count, host: Host::read(), ended }
    }

    #[test]
    fn only_what_is_safe_is_called_safe_and_agrees_with_legal() {
        for (status, ended) in [
            (Status::NotDecided, Some(Ended::MaxStates)),
            (Status::Skipped, None),
            (Status::HarnessError, None),
            (Status::Hazard, Some(Ended::Exhausted)),
        ] {
            let one =
                exploration(vec![report(Status::Safe, Some(Ended::Exhausted)), report(status, ended)], true);
            assert!(matches!(one.status(), Ok(Exit::NotHeld)), "{status:?}");
            let text = one.text("vmlinuz", None);
            assert_eq!(text.matches(": safe").count(), 1, "{text}");
            assert!(text.contains("of 1 the verdict"), "{text}");
        }
        let safe = exploration(vec![report(Status::Safe, Some(Ended::Exhausted))], true);
        assert!(matches!(safe.status(), Ok(Exit::Held)));
        // A window that is entered inside has to show it, not only something.
        for status in [Status::Safe, Status::Hazard, Status::NotDecided] {
            let one = exploration(vec![report(status, None)], false);
            assert!(matches!(one.status(), Ok(Exit::NotHeld)), "{status:?}");
        }
    }

    #[test]
    fn an_interruption_ends_it_with_what_was_explored() {
        let cut = report(Status::NotDecided, Some(Ended::Interrupted));
        let all = vec![report(Status::Safe, Some(Ended::Exhausted)), cut, report(Status::Safe, None)];
        let one = exploration(all, true);
        assert!(matches!(one.ended, Some(CheckError::Machine(MachineError::Interrupted))));
        assert_eq!(one.explored.len(), 2);
        let text = one.text("vmlinuz", None);
        assert!(text.contains("not decided") && text.contains("2 of 3 shapes explored"), "{text}");
    }

    #[test]
    fn exploring_nothing_is_no_success() {
        let mut short = windows(1);
        short[0].length = 4;
        assert!(shapes(&short).is_empty());
        let nothing = exploration(Vec::new(), true);
        assert!(nothing.status().is_err_and(|failure| failure.exit() == Exit::Skipped));
        let skipped = exploration(vec![report(Status::Skipped, None)], true);
        assert!(matches!(skipped.status(), Ok(Exit::Skipped)));
    }
}
