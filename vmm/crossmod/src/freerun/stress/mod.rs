//! Stress: a scenario at full speed, again and again.
//!
//! Each *round* begins with the old version in place and every executor serialised for it. The host performs the
//! scenario's steps; executors pass through the site meanwhile without pause; at the end all are held, and the
//! old version is put back. Versions carry numbers in the bytes of their branch where it has room for them, so
//! that a pass says which round its bytes are of, byte by byte: what is stale does not hide behind a later round
//! that looks the same. A version without room for one is taken for the newest of its kind, so that it is never seen
//! stale; where neither version has room, `stale` and `order` are not claimed.
//!
//! What differs from the scenario as it is explored:
//!
//! * Everything runs at ring 3, the ring that is native on every KVM, also the passes of interrupt handlers. These
//!   begin with a return to ring 3, which serialises: a handler shows torn bytes, hardly ever stale ones.
//! * Traps, and handlers that run the site, go through the host, which takes tens of microseconds: with interrupts
//!   off, as behind the gate.
//! * The fetch model is the CPU's. `assume-synchronised` does nothing; `delay` waits 5 microseconds a move.
//! * Only what an outcome tells is seen: `torn`, `stale`, `order`, `unclaimed-trap`, `wrong-resume`, `lifetime`, and
//!   `deadlock` where nothing comes for three seconds. A mix of bytes that does what old or new does goes unnoticed.
//! * Budgets of events are rates; passes are as many as there is time for.

mod finding;
mod round;
mod sense;
mod versions;
mod watch;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crossmod_abi::{PAGE, va};
use serde::Serialize;
use thiserror::Error;

pub use super::messages::{Messages, Rates};
pub use finding::{Finding, write};
pub use sense::Refusal;
pub use watch::Counts;

use super::messages::inject;
use crate::host::Host;
use crate::layout::initial_text;
use crate::linux::hex;
use crate::machine::free::{Course, Ground, Hands, Injector, Message, Pass, Trap, Waited, Watch};
use crate::machine::{MachineError, allowed_cpus, pin};
use crate::plan::{Function, Plan};
use crate::property::Property;
use finding::{Circumstances, Recorder};
use round::{Ended, Patching};
use versions::Versions;
use watch::{Observer, Shared};

/// How long to run, and how.
#[derive(Debug, Clone)]
pub struct Options {
    /// vCPUs, instead of the scenario's; more than CPUs beside the patcher's share them.
    pub executors: Option<usize>,
    /// For how long.
    pub duration: Duration,
    /// Stop after so many rounds, if not before.
    pub rounds: u64,
    /// NMIs and device interrupts a second; without it, 1000 of each kind that the scenario has a budget for.
    pub rates: Rates,
    /// Seed of pauses and injection.
    pub seed: u64,
    /// Where findings are written.
    pub findings: PathBuf,
    /// How the scenario is named on the command line.
    pub argument: String,
}

/// Why there is no result.
#[derive(Debug, Error)]
pub enum StressError {
    /// The scenario makes no sense at full speed.
    #[error("{}", .0.reason)]
    NoSense(Refusal),
    /// The directory for findings cannot be made: nothing was run.
    #[error("{}: {source}", path.display())]
    Output {
        /// Where to.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A finding could not be written, and the run was ended.
    #[error("{}: {source}", path.display())]
    Lost {
        /// Where to.
        path: PathBuf,
        /// Why.
        source: io::Error,
        /// All findings until then, of which some may be on disk.
        findings: Vec<Finding>,
    },
    /// The machine failed.
    #[error(transparent)]
    Machine(#[from] MachineError),
}

/// A run.
#[derive(Debug, Clone, Serialize)]
pub struct Stress {
    /// What is the same for all findings.
    #[serde(flatten)]
    pub run: Circumstances,
    /// Title of the scenario.
    pub title: String,
    /// Properties that the scenario expects to be violated.
    pub expect: Vec<Property>,
    /// Properties that this run could have seen violated.
    pub claims: Vec<Property>,
    /// Neither version carries a number.
    pub two_valued: bool,
    /// More executors than CPUs beside the patcher's.
    pub overcommitted: bool,
    /// How long it ran.
    pub seconds: f64,
    /// Rounds that are complete.
    pub rounds: u64,
    /// Passes and traps.
    pub counts: Counts,
    /// NMIs.
    pub nmi: Messages,
    /// Device interrupts.
    pub irq: Messages,
    /// Ended by a signal.
    pub interrupted: bool,
    /// The first finding of each property.
    pub findings: Vec<Finding>,
}

impl Stress {
    /// True if nothing was seen that the scenario does not expect, or that nothing explains.
    pub fn held(&self) -> bool {
        self.unexpected().is_empty() && self.counts.ahead == 0
    }

    /// Properties that were seen violated and that the scenario does not expect.
    pub fn unexpected(&self) -> Vec<Property> {
        let found = self.findings.iter().map(|finding| finding.event.property);
        found.filter(|property| !self.expect.contains(property)).collect()
    }
}

/// How far a run is.
#[derive(Debug, Clone, Copy)]
pub struct SearchProgress {
    /// Rounds.
    pub rounds: u64,
    /// Passes.
    pub passes: u64,
    /// Part of the time or of the rounds that is over, from 0 to 1.
    pub part: f64,
}

/// Runs a scenario. `found` is told of the first finding of each property once it is on disk.
///
/// # Errors
///
/// [`StressError::NoSense`] and [`StressError::Output`] before any round; [`StressError::Lost`] if a finding cannot be
/// written; [`StressError::Machine`] if it cannot run here, or fails, or if messages are lost, and for an interruption
/// before the first round.
pub fn stress(
    plan: &Plan,
    options: &Options,
    found: &(dyn Fn(&Finding, &Path) + Sync),
    mut tick: impl FnMut(SearchProgress),
) -> Result<Stress, StressError> {
    sense::sense(plan).map_err(StressError::NoSense)?;
    let cpus = allowed_cpus();
    let &[own, ref others @ ..] = &cpus[..] else {
        return Err(MachineError::NotHere("this needs a CPU for this process to use".into()).into());
    };
    let output = |source| StressError::Output { path: options.findings.clone(), source };
    std::fs::create_dir_all(&options.findings).map_err(output)?;
    // Before the calling thread is bound: it counts the CPUs that the process may use.
    let host = Host::read();
    let places = if others.is_empty() { &cpus[..] } else { others };
    let versions = Versions::of(plan, |ground| alone(plan, ground.text(), ground.landing(), places))?;
    let versions = versions.map_err(|reason| {
        StressError::NoSense(Refusal {
            reason,
            remedy: "choose another pair of versions, or explore it".into(),
        })
    })?;
    let executors = options.executors.unwrap_or(plan.executors.len().min(places.len()));
    let run = circumstances(plan, options, host, executors);
    let recorder = Recorder::new(&options.findings, &plan.name, found);
    let shared = Shared {
        plan,
        versions: &versions,
        recorder: &recorder,
        run: &run,
        argument: &options.argument,
        armed: AtomicBool::new(plan.handler.armed_at_start),
        freed: AtomicBool::new(false),
        done: AtomicU64::new(0),
        begun: AtomicU64::new(0),
        round: AtomicU64::new(0),
        passes: AtomicU64::new(0),
    };
    let course = Course::new(Ground {
        executors,
        site: plan.site.address,
        text: versions.text(plan, 0),
        landing: versions.landing(plan),
        nmi_runs_site: plan.events.nmi_runs_site,
        irq_runs_site: plan.events.irq_runs_site,
    })?;
    let observers = (0..executors).map(|executor| Observer::new(&shared, executor)).collect();
    let began = Instant::now();
    pin(own);
    let patch = |hands: &mut Hands<'_>, injector: Injector<'_>| {
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let sender = scope.spawn(|| inject(injector, options.rates, options.seed, &stop));
            let rounds = rounds(options, &shared, hands, began, &mut tick);
            stop.store(true, Ordering::Relaxed);
            let crowded = sender.join().expect("the sender has nothing that can panic")?;
            let (rounds, ended) = rounds?;
            // Executors that do not answer, or were stopped by the signal, owe what was pending.
            let settled = ended == Ended::Complete && settle(hands)?;
            let messages = |message| Messages::of(injector, message, crowded, settled);
            let messages = [messages(Message::Nmi)?, messages(Message::Irq)?];
            Ok((rounds, ended, messages))
        })
    };
    let ((rounds, ended, [nmi, irq]), observers) = course.run(places, observers, patch)?;
    let mut counts = Counts::default();
    observers.iter().for_each(|observer| counts.add(&observer.counts));
    counts.deadlock += u64::from(ended == Ended::Stuck);
    drop(observers);
    let two_valued = versions.two_valued();
    let visible = |&property: &Property| {
        counts.of(property).is_some()
            && !(two_valued && matches!(property, Property::Stale | Property::Order))
    };
    let claims = Property::ALL.into_iter().filter(visible).collect();
    let (findings, failed) = recorder.finish();
    if let Some((path, source)) = failed {
        return Err(StressError::Lost { path, source, findings });
    }
    Ok(Stress {
        title: plan.title.clone(),
        expect: plan.expect.clone(),
        claims,
        two_valued,
        overcommitted: executors > others.len(),
        seconds: began.elapsed().as_secs_f64(),
        rounds,
        counts,
        nmi,
        irq,
        interrupted: ended == Ended::Interrupted,
        findings,
        run,
    })
}

fn rounds(
    options: &Options,
    shared: &Shared<'_>,
    hands: &mut Hands<'_>,
    began: Instant,
    tick: &mut impl FnMut(SearchProgress),
) -> Result<(u64, Ended), MachineError> {
    let random = fastrand::Rng::with_seed(options.seed);
    let mut patching = Patching { shared, hands, random };
    let (mut rounds, mut told) = (0, Instant::now());
    let mut ended = patching.reset(0)?;
    while ended == Ended::Complete && rounds < options.rounds && began.elapsed() < options.duration {
        if patching.hands.stopped() || shared.recorder.failed() {
            return Ok((rounds, Ended::Interrupted));
        }
        ended = patching.round(rounds)?;
        rounds += u64::from(ended == Ended::Complete);
        if told.elapsed() > Duration::from_millis(100) {
            told = Instant::now();
            let time = began.elapsed().as_secs_f64() / options.duration.as_secs_f64();
            let part = time.max(rounds as f64 / options.rounds as f64).min(1.0);
            tick(SearchProgress { rounds, passes: shared.passes.load(Ordering::Relaxed), part });
        }
    }
    Ok((rounds, ended))
}

/// True once every executor has taken what was pending: an NMI comes before an interrupt that was sent after it.
fn settle(hands: &mut Hands<'_>) -> Result<bool, MachineError> {
    for _ in 0..3 {
        hands.broadcast(Function::Sync, hands.everyone())?;
        if hands.wait_acks(hands.everyone()) != Waited::Done {
            return Ok(false);
        }
    }
    Ok(true)
}

fn circumstances(plan: &Plan, options: &Options, host: Host, executors: usize) -> Circumstances {
    let text = initial_text(plan);
    let start = (plan.site.address - va::SITE) as usize;
    let end = start + plan.site.len();
    Circumstances {
        crossmod: env!("CARGO_PKG_VERSION"),
        tier: super::TIER,
        scenario: plan.name.clone(),
        plan: plan.digest(),
        host,
        seed: options.seed,
        executors,
        offset: plan.site.address % PAGE,
        bytes_before: hex(&text[start.saturating_sub(16)..start]),
        bytes_after: hex(&text[end..text.len().min(end + 16)]),
    }
}

/// What a pass leaves in EAX where nobody patches, or why it leaves nothing.
fn alone(
    plan: &Plan,
    text: Vec<u8>,
    landing: Vec<u8>,
    places: &[usize],
) -> Result<Result<u32, String>, MachineError> {
    let course = Course::new(Ground {
        executors: 1,
        site: plan.site.address,
        text,
        landing,
        nmi_runs_site: false,
        irq_runs_site: false,
    })?;
    let ready = AtomicBool::new(false);
    let (_, looks) = course.run(places, vec![Look { ready: &ready, seen: None }], |hands, _| {
        while !ready.load(Ordering::Relaxed) && !hands.stopped() {
            std::thread::yield_now();
        }
        Ok(())
    })?;
    // An executor that failed is an error already: nothing but a signal is left.
    looks.into_iter().find_map(|look| look.seen).ok_or(MachineError::Interrupted)
}

/// Takes the first batch.
struct Look<'a> {
    ready: &'a AtomicBool,
    seen: Option<Result<u32, String>>,
}

impl Look<'_> {
    fn see(&mut self, seen: Result<u32, String>) {
        self.seen.get_or_insert(seen);
        self.ready.store(true, Ordering::Relaxed);
    }
}

impl Watch for Look<'_> {
    fn passes(&mut self, passes: &[Pass]) {
        let Some(first) = passes.first().map(|pass| pass.value as u32) else { return };
        let same = passes.iter().all(|pass| pass.value as u32 == first);
        self.see(if same { Ok(first) } else { Err("does not leave the same in EAX each time".into()) });
    }

    fn trap(&mut self, _: u64) -> Trap {
        self.see(Err("raises #BP".into()));
        Trap::Abandon
    }

    fn fault(&mut self, what: &str, rip: u64) {
        self.see(Err(format!("meets {what} at {rip:#x}")));
    }

    fn handler_begins(&mut self) {}

    fn handler_ends(&mut self, _: bool, _: Option<u64>) {}
}
