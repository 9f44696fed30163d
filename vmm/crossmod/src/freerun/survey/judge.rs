//! Which outcomes are findings: those that a binding fetch model does not allow, or that nothing explains.

use super::allowed::{Answer, ask};
use super::cell::{Cell, Crosses};
use super::outcome::{Side, SideSeen, Tally};
use super::results::{ModelLine, PairRow, PairSeen, SurveyFinding, SurveyRow};
use crate::fetch::FetchModel;
use crate::host::Host;
use crate::machine::free::Pass;
use crate::machine::free::survey::Slice;

/// Findings reported of one place and side; the counts include all of them.
const REPORTED: usize = 3;
const UNEXPLAINED: &str = "nothing explains it";

/// The findings of a survey.
pub(super) struct Findings<'a> {
    pub all: Vec<SurveyFinding>,
    /// Called with each finding.
    pub found: &'a mut dyn FnMut(&SurveyFinding),
}

impl Findings<'_> {
    /// Adds an outcome at a place: the length of its store or its pair, its offset, what it crosses, and the side.
    fn add(
        &mut self,
        (what, offset, crosses, side): (String, usize, Crosses, Side),
        outcome: String,
        against: &str,
        broken: bool,
    ) {
        let against = against.into();
        let finding = SurveyFinding { what, offset, crosses, side, outcome, against, broken };
        (self.found)(&finding);
        self.all.push(finding);
    }
}

/// A model whose disagreement with an outcome is a finding.
#[derive(Debug, Clone, Copy)]
pub(super) struct Binding {
    model: FetchModel,
    /// The vendor promises what the model says.
    promised: bool,
}

/// The vendor's model, then `line`, on which practice relies.
pub(super) fn binding(host: &Host) -> Vec<Binding> {
    let named = |name, promised| {
        let model = FetchModel::presets().find(|model| model.preset() == Some(name));
        model.map(|model| Binding { model, promised })
    };
    [named(host.vendor(), true), named("line", false)].into_iter().flatten().collect()
}

fn not_allowed_by(model: impl std::fmt::Display) -> String {
    format!("the `{model}` model does not allow it")
}

/// Judges the passes of one side at one place.
pub(super) struct PlaceJudge<'a> {
    cell: Cell,
    side: Side,
    binding: &'a [Binding],
    tally: Tally,
    /// Findings so far: those that break no promise, and those that break one.
    reported: [usize; 2],
    ahead: bool,
}

impl<'a> PlaceJudge<'a> {
    pub fn new(cell: Cell, side: Side, binding: &'a [Binding]) -> PlaceJudge<'a> {
        PlaceJudge { cell, side, binding, tally: Tally::new(cell, side), reported: [0; 2], ahead: false }
    }

    fn place(&self) -> (String, usize, Crosses, Side) {
        let PlaceJudge { cell, side, .. } = *self;
        (format!("store {}", cell.length.name()), cell.offset(), cell.crosses(), side)
    }

    pub fn passes(&mut self, passes: &[Pass], findings: &mut Findings<'_>) {
        let PlaceJudge { cell, side, binding, .. } = *self;
        let place = self.place();
        let forbids = |bound: &&Binding, odd: &_| {
            ask(bound.model, cell, side == Side::Serialised, odd) == Answer::Forbidden
        };
        for pass in passes {
            let reported = &mut self.reported;
            self.tally.add(pass, |odd| {
                let Some(bound) = binding.iter().find(|bound| forbids(bound, odd)) else { return };
                let count = &mut reported[usize::from(bound.promised)];
                *count += 1;
                if *count <= REPORTED {
                    let against = not_allowed_by(bound.model);
                    findings.add(place.clone(), odd.to_string(), &against, bound.promised);
                }
            });
        }
        if self.tally.seen.counts.ahead > 0 && !self.ahead {
            self.ahead = true;
            findings.add(place, "a generation that was not stored yet".into(), UNEXPLAINED, true);
        }
    }

    /// The result of a slice.
    pub fn finish(mut self, slice: &Slice, findings: &mut Findings<'_>) -> SideSeen {
        let exceptions = &slice.exceptions;
        if let Some(vector) = exceptions.first() {
            let outcome = format!("{} exceptions, the first of vector {vector}", exceptions.len());
            findings.add(self.place(), outcome, "no mix of bytes raises one", true);
        }
        self.tally.seen.counts.exceptions = exceptions.len() as u64;
        SideSeen { stores: slice.stores, seconds: slice.seconds, ..self.tally.seen }
    }
}

/// Judges the passes of one side through a pair.
pub(super) fn judge_pair(row: &PairRow, seen: &PairSeen, host: &Host, findings: &mut Findings<'_>) {
    let place = || (row.pair.clone(), row.offset, row.crosses, seen.side);
    if seen.torn > 0 && row.crosses < Crosses::Line {
        let mixes: Vec<&str> = seen.mixes.keys().map(String::as_str).collect();
        let promised = row.amd_promises_whole && host.vendor() == "amd";
        let model = if promised { "amd" } else { "line" };
        let outcome = format!("executed as {}", mixes.join(", "));
        findings.add(place(), outcome, &not_allowed_by(model), promised);
    }
    if seen.unexplained > 0 {
        let outcome = format!("{} passes left a value that no mix of the bytes leaves", seen.unexplained);
        findings.add(place(), outcome, UNEXPLAINED, true);
    }
    if seen.exceptions > 0 {
        let outcome = format!("{} exceptions", seen.exceptions);
        findings.add(place(), outcome, "no mix of bytes raises one", true);
    }
}

/// Compares the outcomes of all places with a fetch model.
pub(super) fn compare(model: FetchModel, rows: &[SurveyRow]) -> ModelLine {
    let mut line = ModelLine { model: model.to_string(), ..ModelLine::default() };
    for row in rows {
        for seen in &row.seen {
            for (odd, count) in &seen.odd {
                match ask(model, row.cell, seen.side == Side::Serialised, odd) {
                    Answer::Allowed => line.allowed += 1,
                    Answer::Unknown => line.unknown += 1,
                    Answer::Forbidden => {
                        line.forbidden += 1;
                        line.forbidden_passes += count;
                        *line.forbidden_by_boundary.entry(row.cell.crosses()).or_default() += count;
                    }
                }
            }
        }
    }
    line
}
