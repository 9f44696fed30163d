//! Explores probe windows: each shape of window once.

use std::collections::{BTreeMap, BTreeSet};

use crossmod_linux::ProbeWindow;
use serde::Serialize;

use super::Shape;
use crate::host::Host;
use crate::property::Property;
use crate::report::{TIER, bounds, detail, models};
use crate::results::{Report, Status};
use crate::scenario::Scenario;

/// Shapes, each with the windows that have it, in the order of the first window.
pub type Shapes = Vec<(Shape, Vec<String>)>;

/// The shapes of windows. Windows without a shape are dropped: see [`Shape::of`].
pub fn shapes(windows: &[ProbeWindow]) -> Shapes {
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

/// The result for the windows of one shape.
#[derive(Debug, Serialize)]
pub struct Explored {
    /// The windows: function and offset.
    pub windows: Vec<String>,
    /// True if the windows are legal according to the rules.
    pub legal: bool,
    /// The verdict with its schedules.
    pub report: Report,
}

impl Explored {
    /// True if the verdict agrees with the rules.
    pub fn agrees(&self) -> bool {
        match self.report.status {
            Status::Safe => self.legal,
            Status::Hazard => !self.legal && self.report.finding(Property::Interior).is_some(),
            Status::Vacuous | Status::NotDecided | Status::Skipped | Status::HarnessError => false,
        }
    }
}

/// The results for all shapes.
#[derive(Debug)]
pub struct Exploration {
    /// The results, in the order of [`shapes`].
    pub explored: Vec<Explored>,
    /// Number of shapes.
    pub shapes: usize,
    /// The host.
    pub host: Host,
}

/// Checks the scenario of each shape. An error of `check` ends the exploration; so does a report that a signal cut
/// short, which is kept.
///
/// # Errors
///
/// Returns the error of `check`, if any, with the results before it.
pub fn explore<E>(
    shapes: Shapes,
    host: Host,
    mut check: impl FnMut(&Scenario) -> Result<Report, E>,
) -> (Exploration, Option<E>) {
    let mut exploration = Exploration { explored: Vec::new(), shapes: shapes.len(), host };
    for (shape, windows) in shapes {
        let report = match check(&shape.scenario(&windows[0])) {
            Ok(report) => report,
            Err(error) => return (exploration, Some(error)),
        };
        let legal = shape.arrival.is_none();
        exploration.explored.push(Explored { windows, legal, report });
        if exploration.interrupted() {
            break;
        }
    }
    (exploration, None)
}

impl Exploration {
    /// True if a signal cut the last search short.
    pub fn interrupted(&self) -> bool {
        self.explored.last().is_some_and(|one| one.report.interrupted())
    }

    /// The results as text: the bounds, the safe shapes, and the findings of the others. `images` says what the windows
    /// belong to, `replay` how to replay the findings of a report.
    pub fn text(&self, images: &str, replay: impl Fn(&Report) -> String) -> String {
        let mut out = String::from(
            "\nExplored, with each instruction replaced by a NOP of its length; windows of the same shape once:\n",
        );
        // All shapes have the same bounds; a shape that was not run has none.
        let within: BTreeSet<String> = self
            .explored
            .iter()
            .filter_map(|Explored { report, .. }| {
                report.rule?;
                Some(format!("{}; {}\n", bounds(report), models(report)))
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
            let how = if *legal { "legal, patched after a wait" } else { "entered inside" };
            if report.status == Status::Safe {
                let states = report.counts.states;
                out.push_str(&format!("\n{names} ({how}): safe within these bounds, {states} states\n"));
                continue;
            }
            out.push_str(&format!("\n{names} ({how}):\n{}", detail(report)));
            if !report.findings.is_empty() {
                out.push_str(&replay(report));
            }
        }
        let (done, agree) = (self.explored.len(), self.explored.iter().filter(|one| one.agrees()).count());
        out.push_str(&format!(
            "\n{done} of {} shapes explored; {agree} verdicts agree with the rules\n",
            self.shapes
        ));
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::explore::Ended;
    use crate::results::Reason;

    /// Windows of `count` different shapes.
    fn windows(count: u64) -> Vec<ProbeWindow> {
        (0..count)
            .map(|index| ProbeWindow {
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
        Report { status, ended, ..Report::skipped("windows/f", Reason::Other("a reason".into())) }
    }

    fn exploration(reports: Vec<Report>, legal: bool) -> Exploration {
        let shapes = shapes(&windows(reports.len() as u64));
        let mut reports = reports.into_iter();
        let (mut exploration, error) =
            explore(shapes, Host::read(), |_| Ok::<_, ()>(reports.next().expect("one for each")));
        assert_eq!(error, None);
        exploration.explored.iter_mut().for_each(|one| one.legal = legal);
        exploration
    }

    #[test]
    fn only_safe_windows_are_called_safe_and_agree_with_legal() {
        for (status, ended) in [
            (Status::NotDecided, Some(Ended::MaxStates)),
            (Status::Skipped, None),
            (Status::HarnessError, None),
            (Status::Hazard, Some(Ended::Exhausted)),
        ] {
            let one =
                exploration(vec![report(Status::Safe, Some(Ended::Exhausted)), report(status, ended)], true);
            let agree: Vec<bool> = one.explored.iter().map(Explored::agrees).collect();
            assert_eq!(agree, [true, false], "{status:?}");
            let text = one.text("vmlinuz", |_| String::new());
            assert_eq!(text.matches(": safe").count(), 1, "{text}");
            assert!(text.contains("; 1 verdicts agree"), "{text}");
        }
        // A window that is entered inside must have a finding of `interior`, not just any finding.
        for status in [Status::Safe, Status::Hazard, Status::NotDecided] {
            let one = exploration(vec![report(status, None)], false);
            assert!(!one.explored[0].agrees(), "{status:?}");
        }
    }

    #[test]
    fn an_interrupted_search_is_the_last() {
        let cut = report(Status::NotDecided, Some(Ended::Interrupted));
        let all = vec![report(Status::Safe, Some(Ended::Exhausted)), cut, report(Status::Safe, None)];
        let one = exploration(all, true);
        assert!(one.interrupted());
        assert_eq!(one.explored.len(), 2);
        let text = one.text("vmlinuz", |_| String::new());
        assert!(text.contains("not decided") && text.contains("2 of 3 shapes explored"), "{text}");
    }

    #[test]
    fn short_windows_have_no_shape() {
        let mut short = windows(1);
        short[0].length = 4;
        assert!(shapes(&short).is_empty());
    }
}
