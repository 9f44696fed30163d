//! The run: every place, each with every writer and the reference, one after the other, in slices of equal length;
//! then the pairs.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde::ser::SerializeStruct;
use serde::{Deserialize, Serialize};

use super::allowed::{Answer, ask};
use super::cell::{Cell, Crosses};
use super::outcome::{Counts, Odd, Tally};
use super::pairs::{Pair, PairCell, PairRow, PairSeen};
use crate::fetch::FetchModel;
use crate::host::Host;
use crate::machine::free::{FreeMachine, Job, Length, Pass, Place, Plain, Shape, Slice, Writer};
use crate::machine::{MachineError, allowed_cpus, pin, stop_requested};
use crate::plan::Ring;

/// Up to so many loop rounds between two stores: a writer that never pauses keeps the line to itself.
const SPACING: u64 = 127;
/// A slice is no shorter, even if that makes the survey longer than it was to be: on a busy machine starting threads
/// may use up the time, and a place without passes says nothing.
const SHORTEST: Duration = Duration::from_millis(10);
/// Findings reported of one place and side; the counts have all of them.
const REPORTED: usize = 3;

/// Who executes and who stores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Side {
    /// A vCPU; a host thread, into guest memory.
    Host,
    /// A vCPU; another vCPU.
    Vcpu,
    /// A vCPU that serialises before each pass; a host thread.
    Serialised,
    /// Two threads of this process, no KVM: the reference.
    Plain,
    /// A vCPU that comes to the instruction from others before it; a host thread.
    Neighbours,
    /// A vCPU that throws the instruction's lines out of every cache before each pass; a host thread.
    Cold,
    /// A vCPU; a host thread on the same CPU, so that they take turns.
    SameCpu,
}

impl Side {
    /// All, in the order of a slice.
    pub const ALL: [Side; 7] =
        [Side::Host, Side::Vcpu, Side::Serialised, Side::Plain, Side::Neighbours, Side::Cold, Side::SameCpu];

    pub(super) fn shape(self) -> Shape {
        match self {
            Side::Host | Side::Vcpu | Side::Plain | Side::SameCpu => Shape::Tight,
            Side::Serialised => Shape::Serialised,
            Side::Neighbours => Shape::Neighbours,
            Side::Cold => Shape::Cold,
        }
    }

    /// How reports call it.
    pub fn name(self) -> &'static str {
        match self {
            Side::Host => "host",
            Side::Vcpu => "vcpu",
            Side::Serialised => "serialised",
            Side::Plain => "plain",
            Side::Neighbours => "neighbours",
            Side::Cold => "cold",
            Side::SameCpu => "same CPU",
        }
    }
}

/// What to run.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where.
    pub cells: Vec<Cell>,
    /// Pairs of instructions, and where.
    pub pairs: Vec<PairCell>,
    /// For how long altogether.
    pub duration: Duration,
    /// Seed of the spacing of stores.
    pub seed: u64,
    /// Ring of the executors; of the two threads without KVM it is always 3.
    pub ring: Ring,
}

/// An outcome that the CPU should not have: the `line` model or that of the vendor does not have it, or nothing does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Length of the store, or the pair.
    pub what: String,
    /// Offset of the store in its line.
    pub offset: usize,
    /// What it crosses.
    pub crosses: Crosses,
    /// Who executed and stored.
    pub side: Side,
    /// What was seen.
    pub outcome: String,
    /// What speaks against it.
    pub against: String,
    /// The vendor promises otherwise, or nothing explains it: the run did not show what it must.
    pub broken: bool,
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Finding { what, offset, crosses, side, outcome, against, broken: _ } = self;
        let (crosses, side) = (crosses.name(), side.name());
        write!(f, "{what} at {offset}, crosses {crosses}, {side}: {outcome} ({against}; not replayable)")
    }
}

/// One side of a place.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Seen {
    /// Who executed and stored.
    pub side: Side,
    /// Passes by kind.
    #[serde(flatten)]
    pub counts: Counts,
    /// Stores made.
    pub stores: u64,
    /// How long it ran.
    pub seconds: f64,
    /// The odd outcomes with how often each was seen.
    #[serde(serialize_with = "as_list", skip_deserializing)]
    pub odd: BTreeMap<Odd, u64>,
    /// Odd passes that no model was asked about: too many stores during the pass, or too many different outcomes.
    pub unasked: u64,
}

fn as_list<S: serde::Serializer>(odd: &BTreeMap<Odd, u64>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(odd.iter().map(|(odd, count)| (odd.to_string(), count)))
}

/// One place. What follows from it is written to JSON beside it.
#[derive(Debug, Clone, Deserialize)]
pub struct Row {
    /// Where.
    pub cell: Cell,
    /// What each side saw; fewer if it was interrupted.
    pub seen: Vec<Seen>,
}

impl Serialize for Row {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Row { cell, seen } = self;
        let mut row = serializer.serialize_struct("Row", 6)?;
        row.serialize_field("cell", cell)?;
        row.serialize_field("length", &cell.length)?;
        row.serialize_field("offset", &cell.offset())?;
        row.serialize_field("crosses", &cell.crosses())?;
        row.serialize_field("amd_promises_whole", &cell.amd_promises_whole())?;
        row.serialize_field("seen", seen)?;
        row.end()
    }
}

impl Row {
    /// What one side saw.
    pub fn side(&self, side: Side) -> Option<&Seen> {
        self.seen.iter().find(|seen| seen.side == side)
    }
}

/// What the outcomes of all places are to one fetch model.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ModelLine {
    /// Name of the model.
    pub model: String,
    /// Different outcomes that it has.
    pub allowed: u64,
    /// Different outcomes that it does not have.
    pub forbidden: u64,
    /// Passes with these.
    pub forbidden_passes: u64,
    /// The same passes by what the bytes cross.
    pub forbidden_by_boundary: BTreeMap<Crosses, u64>,
    /// Different outcomes that it was not asked about: too many stores lie between their bytes.
    pub unknown: u64,
}

/// A survey with what it was made on.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Survey {
    /// Version of Crossmod.
    pub crossmod: String,
    /// What kind of result this is.
    pub tier: String,
    /// Where it ran.
    pub host: Host,
    /// CPUs of the executor and of the writer.
    pub cpus: [usize; 2],
    /// Both threads could be bound to their CPUs.
    pub pinned: bool,
    /// Seed of the spacing of stores.
    pub seed: u64,
    /// How long it ran.
    pub seconds: f64,
    /// Ended before every place had its slices.
    pub interrupted: bool,
    /// The places.
    pub rows: Vec<Row>,
    /// The pairs of instructions.
    pub pairs: Vec<PairRow>,
    /// What the fetch models say.
    pub models: Vec<ModelLine>,
    /// What should not have been seen.
    pub findings: Vec<Finding>,
}

/// The models whose disagreement is a finding: the vendor's, whose is a broken promise, before the line at once, which
/// practice relies on.
fn binding(host: &Host) -> Vec<(FetchModel, bool)> {
    let named = |name| FetchModel::presets().find(|model| model.preset() == Some(name));
    let vendor = named(host.vendor()).map(|model| (model, true));
    vendor.into_iter().chain(named("line").map(|model| (model, false))).collect()
}

/// The findings of one place and side that are told: the first few that break a promise, and as many of the others.
struct Told([usize; 2]);

impl Told {
    fn may(&mut self, broken: bool) -> bool {
        let count = &mut self.0[usize::from(broken)];
        *count += 1;
        *count <= REPORTED
    }
}

/// What is complete.
#[derive(Debug)]
pub enum Done<'a> {
    /// A place.
    Row(&'a Row),
    /// A pair at a place.
    Pair(&'a PairRow),
}

/// Runs a survey. `found` is told of a finding at once, `done` of each place.
///
/// # Errors
///
/// [`MachineError::NoKvm`] and [`MachineError::NotHere`] if it cannot run here, which includes a process
/// that may use one CPU only, where nothing would run at the same time, and ring 0 where it is emulated;
/// [`MachineError::Contract`] if a mix of the bytes of a pair is not harmless here.
pub fn survey(
    options: &Options,
    mut found: impl FnMut(&Finding),
    mut done: impl FnMut(Done<'_>),
) -> Result<Survey, MachineError> {
    let cpus = allowed_cpus();
    let &[executor, writer, ..] = &cpus[..] else {
        return Err(MachineError::NotHere("this needs a second CPU for this process to use".into()));
    };
    let place = Place { executor, writer };
    let host = Host::read();
    let mut machine = FreeMachine::new(options.ring)?;
    let mut plain = Plain::new()?;
    let binding = binding(&host);
    let pairs = options.pairs.iter().map(|cell| sides(cell.pair).count()).sum::<usize>();
    let mut slices = options.cells.len() * Side::ALL.len() + pairs;
    let began = Instant::now();
    let pinned = pin(executor);
    let mut survey = Survey {
        crossmod: env!("CARGO_PKG_VERSION").into(),
        tier: super::tier(options.ring),
        host,
        cpus: [executor, writer],
        pinned,
        seed: options.seed,
        seconds: 0.0,
        interrupted: false,
        rows: Vec::new(),
        pairs: Vec::new(),
        models: Vec::new(),
        findings: Vec::new(),
    };
    let mut seed = options.seed;
    let mut like = || {
        // Of the time that is left, whatever starting and stopping threads took of it.
        let left = options.duration.saturating_sub(began.elapsed()) / slices as u32;
        slices = slices.saturating_sub(1).max(1);
        seed = seed.wrapping_add(1);
        Job {
            site: 0,
            code: Vec::new(),
            store: 0,
            length: Length::One,
            alternating: None,
            shape: Shape::Tight,
            spacing: SPACING,
            seed,
            duration: left.max(SHORTEST),
        }
    };
    for &cell in &options.cells {
        let mut row = Row { cell, seen: Vec::new() };
        for side in Side::ALL {
            if stop_requested() {
                break;
            }
            let job = Job {
                site: cell.site(),
                code: cell.code(),
                store: cell.store,
                length: cell.length,
                shape: side.shape(),
                ..like()
            };
            let mut report = |outcome: String, against: String, broken: bool| {
                let finding = Finding {
                    what: format!("store {}", cell.length.name()),
                    offset: cell.offset(),
                    crosses: cell.crosses(),
                    side,
                    outcome,
                    against,
                    broken,
                };
                found(&finding);
                survey.findings.push(finding);
            };
            row.seen.push(slice(&mut machine, &mut plain, &job, cell, side, place, &binding, &mut report)?);
        }
        survey.interrupted = stop_requested();
        if !row.seen.is_empty() {
            done(Done::Row(&row));
            survey.rows.push(row);
        }
        if survey.interrupted {
            break;
        }
    }
    let alone = like();
    for &cell in &options.pairs {
        if stop_requested() {
            survey.interrupted = true;
            break;
        }
        let outcomes = cell.outcomes(&mut machine, &alone)?;
        let mut row = cell.row();
        for side in sides(cell.pair) {
            if stop_requested() {
                break;
            }
            let job = cell.job(cell.pair.old, &Job { shape: side.shape(), ..like() });
            let mut seen = PairSeen::new(side);
            let sink = |passes: &[Pass]| seen.add(passes, &outcomes);
            let Slice { stores, seconds, exceptions, .. } =
                run(&mut machine, &mut plain, &job, side, place, sink)?;
            (seen.stores, seen.seconds, seen.exceptions) = (stores, seconds, exceptions.len() as u64);
            for finding in row.judge(&seen, &survey.host) {
                found(&finding);
                survey.findings.push(finding);
            }
            row.seen.push(seen);
        }
        survey.interrupted = stop_requested();
        if !row.seen.is_empty() {
            done(Done::Pair(&row));
            survey.pairs.push(row);
        }
    }
    survey.models = FetchModel::presets().map(|model| judge(model, &survey.rows)).collect();
    survey.seconds = began.elapsed().as_secs_f64();
    Ok(survey)
}

/// Sides that run a pair: two threads of this process have no handler of #BP.
fn sides(pair: Pair) -> impl Iterator<Item = Side> {
    PairRow::SIDES.into_iter().filter(move |&side| !(pair.traps && side == Side::Plain))
}

/// One slice of one side.
fn run(
    machine: &mut FreeMachine,
    plain: &mut Plain,
    job: &Job,
    side: Side,
    place: Place,
    sink: impl FnMut(&[Pass]),
) -> Result<Slice, MachineError> {
    match side {
        Side::Host | Side::Serialised | Side::Neighbours | Side::Cold => {
            machine.slice(job, Writer::Host, place, sink)
        }
        Side::SameCpu => {
            let place = Place { writer: place.executor, ..place };
            machine.slice(job, Writer::Host, place, sink)
        }
        Side::Vcpu => machine.slice(job, Writer::Vcpu, place, sink),
        Side::Plain => plain.slice(job, place, sink),
    }
}

#[expect(clippy::too_many_arguments, reason = "the parts of one loop body of `survey`, each borrowed")]
fn slice(
    machine: &mut FreeMachine,
    plain: &mut Plain,
    job: &Job,
    cell: Cell,
    side: Side,
    place: Place,
    binding: &[(FetchModel, bool)],
    report: &mut impl FnMut(String, String, bool),
) -> Result<Seen, MachineError> {
    let mut tally = Tally::new(cell);
    let (mut told, mut ahead) = (Told([0; 2]), false);
    let mut sink = |passes: &[Pass]| {
        for pass in passes {
            tally.add(pass, |odd| {
                let against = binding.iter().find(|(model, _)| {
                    ask(*model, cell, job.shape == Shape::Serialised, odd) == Answer::Forbidden
                });
                if let Some(&(model, broken)) = against.filter(|(_, broken)| told.may(*broken)) {
                    report(odd.to_string(), format!("the `{model}` model does not have it"), broken);
                }
            });
        }
        if tally.counts.ahead > 0 && !ahead {
            ahead = true;
            report("a generation that was not stored yet".into(), "nothing explains it".into(), true);
        }
    };
    let Slice { stores, seconds, exceptions, .. } = run(machine, plain, job, side, place, &mut sink)?;
    if let Some(vector) = exceptions.first() {
        let count = exceptions.len();
        let outcome = format!("{count} exceptions, the first of vector {vector}");
        report(outcome, "no mix of bytes raises one".into(), true);
    }
    tally.counts.exceptions = exceptions.len() as u64;
    Ok(Seen { side, counts: tally.counts, stores, seconds, odd: tally.odd, unasked: tally.dropped })
}

fn judge(model: FetchModel, rows: &[Row]) -> ModelLine {
    let mut line = ModelLine {
        model: model.to_string(),
        allowed: 0,
        forbidden: 0,
        forbidden_passes: 0,
        forbidden_by_boundary: BTreeMap::new(),
        unknown: 0,
    };
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
