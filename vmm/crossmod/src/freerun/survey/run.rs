//! The run: slice after slice.

use std::time::{Duration, Instant};

use super::cell::Cell;
use super::judge::{Binding, Findings, PlaceJudge, binding, compare, judge_pair};
use super::outcome::Side;
use super::pairs::PairCell;
use super::results::{Done, PairRow, PairSeen, Survey, SurveyFinding, SurveyRow};
use crate::fetch::FetchModel;
use crate::freerun::tier;
use crate::host::Host;
use crate::machine::free::Pass;
use crate::machine::free::survey::{Job, Length, Pinning, PlainThreads, Shape, Slice, SurveyVm, Writer};
use crate::machine::{MachineError, Result, allowed_cpus, pin, stop_requested};
use crate::plan::Ring;

/// Mask of the loop rounds between two stores: a writer that never pauses keeps the line to itself.
const SPACING: u64 = 127;
/// The shortest slice, even if the survey then takes longer than its duration: on a busy machine, starting threads may
/// use up the time, and a place without passes shows nothing.
const SHORTEST: Duration = Duration::from_millis(10);

/// What to survey.
#[derive(Debug, Clone)]
pub struct SurveyOptions {
    /// Places.
    pub cells: Vec<Cell>,
    /// Pairs of instructions, with their places.
    pub pairs: Vec<PairCell>,
    /// Duration of the whole survey.
    pub duration: Duration,
    /// Seed of the pauses between stores.
    pub seed: u64,
    /// Ring of the executors. The two threads without KVM always run at ring 3.
    pub ring: Ring,
}

/// Runs a survey. Calls `found` with each finding at once, and `done` after each place.
///
/// # Errors
///
/// [`MachineError::NoKvm`] and [`MachineError::NotHere`] if the survey cannot run here: also for a process that may use
/// only one CPU, and for ring 0 where that is emulated. [`MachineError::Contract`] if a mix of the bytes of a pair is not
/// harmless.
pub fn survey(
    options: &SurveyOptions,
    mut found: impl FnMut(&SurveyFinding),
    mut done: impl FnMut(Done<'_>),
) -> Result<Survey> {
    let cpus = allowed_cpus();
    let &[executor, writer, ..] = &cpus[..] else {
        return Err(MachineError::NotHere("a survey needs two CPUs that this process may use".into()));
    };
    // Before the calling thread is pinned: the host counts the CPUs that the process may use.
    let host = Host::read();
    let machines = Machines {
        vm: SurveyVm::new(options.ring)?,
        threads: PlainThreads::new()?,
        pinning: Pinning { executor, writer },
    };
    let began = Instant::now();
    let pinned = pin(executor);
    let mut run = Run {
        machines,
        binding: binding(&host),
        host,
        options,
        began,
        started: 0,
        findings: Findings { all: Vec::new(), found: &mut found },
    };
    let (mut rows, mut pairs) = (Vec::new(), Vec::new());
    for &cell in &options.cells {
        let row = run.place(cell)?;
        if !row.seen.is_empty() {
            done(Done::Row(&row));
            rows.push(row);
        }
        if stop_requested() {
            break;
        }
    }
    let alone = run.next_job();
    for &cell in &options.pairs {
        if stop_requested() {
            break;
        }
        let row = run.pair(cell, &alone)?;
        if !row.seen.is_empty() {
            done(Done::Pair(&row));
            pairs.push(row);
        }
    }
    Ok(Survey {
        crossmod: env!("CARGO_PKG_VERSION").into(),
        tier: tier(options.ring),
        host: run.host,
        cpus: [executor, writer],
        pinned,
        seed: options.seed,
        interrupted: stop_requested(),
        models: FetchModel::presets().map(|model| compare(model, &rows)).collect(),
        seconds: began.elapsed().as_secs_f64(),
        rows,
        pairs,
        findings: run.findings.all,
    })
}

struct Run<'a> {
    machines: Machines,
    host: Host,
    binding: Vec<Binding>,
    options: &'a SurveyOptions,
    began: Instant,
    /// Slices started.
    started: usize,
    findings: Findings<'a>,
}

impl Run<'_> {
    /// Every side at one place, until a signal.
    fn place(&mut self, cell: Cell) -> Result<SurveyRow> {
        let mut row = SurveyRow { cell, seen: Vec::new() };
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
                ..self.next_job()
            };
            let mut judge = PlaceJudge::new(cell, side, &self.binding);
            let findings = &mut self.findings;
            let slice = self.machines.slice(&job, side, |passes| judge.passes(passes, findings))?;
            row.seen.push(judge.finish(&slice, findings));
        }
        Ok(row)
    }

    /// Every side of a pair at one place, until a signal.
    fn pair(&mut self, cell: PairCell, alone: &Job) -> Result<PairRow> {
        let outcomes = cell.outcomes(&mut self.machines.vm, alone)?;
        let mut row = cell.row();
        for side in cell.sides() {
            if stop_requested() {
                break;
            }
            let job = cell.job(cell.pair.old, &Job { shape: side.shape(), ..self.next_job() });
            let mut seen = PairSeen { side, ..PairSeen::default() };
            let slice = self.machines.slice(&job, side, |passes| seen.count(passes, &outcomes))?;
            (seen.stores, seen.seconds) = (slice.stores, slice.seconds);
            seen.exceptions = slice.exceptions.len() as u64;
            judge_pair(&row, &seen, &self.host, &mut self.findings);
            row.seen.push(seen);
        }
        Ok(row)
    }

    /// The job of the next slice, still without a site.
    fn next_job(&mut self) -> Job {
        let SurveyOptions { cells, pairs, duration, seed, .. } = self.options;
        let pairs = pairs.iter().map(|cell| cell.sides().count()).sum::<usize>();
        // Divides the time that is left, without what starting and stopping threads took.
        let left = (cells.len() * Side::ALL.len() + pairs).saturating_sub(self.started).max(1);
        let time = duration.saturating_sub(self.began.elapsed()) / left as u32;
        self.started += 1;
        Job {
            site: 0,
            code: Vec::new(),
            store: 0,
            length: Length::One,
            alternating: None,
            shape: Shape::Tight,
            spacing: SPACING,
            seed: seed.wrapping_add(self.started as u64),
            duration: time.max(SHORTEST),
        }
    }
}

struct Machines {
    vm: SurveyVm,
    threads: PlainThreads,
    pinning: Pinning,
}

impl Machines {
    /// One slice of one side.
    fn slice(&mut self, job: &Job, side: Side, sink: impl FnMut(&[Pass])) -> Result<Slice> {
        let mut pinning = self.pinning;
        if side == Side::SameCpu {
            pinning.writer = pinning.executor;
        }
        match side {
            Side::Plain => self.threads.slice(job, pinning, sink),
            Side::Vcpu => self.vm.slice(job, Writer::Vcpu, pinning, sink),
            _ => self.vm.slice(job, Writer::Host, pinning, sink),
        }
    }
}
