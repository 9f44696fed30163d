//! A run: executors, rounds of the patcher, and injected events.

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crossmod_abi::{PAGE, va};

use super::alone::alone;
use super::finding::{Circumstances, Recorder, StressFinding};
use super::judge::{ExecutorJudge, StressCounts, StressState};
use super::results::{Stress, StressError};
use super::round::Patching;
use super::stressable::{Refusal, stressable};
use super::versions::Versions;
use crate::freerun::messages::{Messages, Rates, injecting};
use crate::host::Host;
use crate::layout::initial_text;
use crate::linux::hex;
use crate::machine::free::stress::{PatcherHandle, StressConfig, StressVm, Waited};
use crate::machine::free::{Injector, Message};
use crate::machine::{MachineError, Result, allowed_cpus, pin};
use crate::plan::{Function, Plan};
use crate::property::Property;

/// How to run.
#[derive(Debug, Clone)]
pub struct StressOptions {
    /// Number of vCPUs, instead of the scenario's. If there are fewer CPUs besides the patcher's, they share them.
    pub executors: Option<usize>,
    /// Duration.
    pub duration: Duration,
    /// Most rounds.
    pub rounds: u64,
    /// NMIs and device interrupts per second.
    pub rates: Rates,
    /// Seed of pauses and injection.
    pub seed: u64,
    /// Directory for findings.
    pub findings: PathBuf,
    /// How the scenario is named on the command line.
    pub argument: String,
}

/// The progress of a run.
#[derive(Debug, Clone, Copy)]
pub struct StressProgress {
    /// Rounds.
    pub rounds: u64,
    /// Passes.
    pub passes: u64,
    /// Completed part of the time or of the rounds, from 0 to 1.
    pub part: f64,
}

/// Runs a scenario. Calls `found` with the first finding of each property, after it was written to disk.
///
/// # Errors
///
/// [`StressError::NotStressable`] and [`StressError::Output`] before any round; [`StressError::Lost`] if a finding cannot
/// be written; [`StressError::Machine`] if the run is impossible on this host, or fails, or messages were lost, or a signal
/// came before the first round.
pub fn stress(
    plan: &Plan,
    options: &StressOptions,
    found: &(dyn Fn(&StressFinding, &Path) + Sync),
    tick: impl FnMut(StressProgress),
) -> Result<Stress, StressError> {
    stressable(plan).map_err(StressError::NotStressable)?;
    let cpus = allowed_cpus();
    let &[own, ref others @ ..] = &cpus[..] else {
        return Err(MachineError::NotHere("there is no CPU that this process may use".into()).into());
    };
    let output = |source| StressError::Output { path: options.findings.clone(), source };
    std::fs::create_dir_all(&options.findings).map_err(output)?;
    // Before the calling thread is pinned: the host counts the CPUs that the process may use.
    let host = Host::read();
    let places = if others.is_empty() { &cpus[..] } else { others };
    let versions = Versions::of(plan, |text| alone(plan, text, places))?;
    let versions = versions.map_err(|reason| {
        let remedy = "choose another pair of versions, or explore it".into();
        StressError::NotStressable(Refusal { reason, remedy })
    })?;
    let executors = options.executors.unwrap_or(plan.executors.len().min(places.len()));
    let run = circumstances(plan, options, host, executors);
    let recorder = Recorder::new(&options.findings, &plan.name, found);
    let shared = StressState::new(plan, &versions, &recorder, &run, &options.argument);
    let began = Instant::now();
    pin(own);
    let (rounds, ended, [nmi, irq], mut counts) =
        measure(options, &shared, (places, executors), began, tick)?;
    counts.deadlock += u64::from(ended == Waited::Stuck);
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
        interrupted: ended == Waited::Interrupted,
        findings,
        run,
    })
}

/// Runs executors, the patcher on the calling thread, and a thread that injects events. Returns the number of complete
/// rounds, the end of the last one, NMIs and device interrupts, and what executors showed.
fn measure(
    options: &StressOptions,
    shared: &StressState<'_>,
    (places, executors): (&[usize], usize),
    began: Instant,
    mut tick: impl FnMut(StressProgress),
) -> Result<(u64, Waited, [Messages; 2], StressCounts)> {
    let vm = StressVm::new(StressConfig {
        executors,
        site: shared.plan.site.address,
        text: shared.versions.text(shared.plan, 0),
        landing: shared.versions.landing(shared.plan),
        nmi_runs_site: shared.plan.events.nmi_runs_site,
        irq_runs_site: shared.plan.events.irq_runs_site,
    })?;
    let judges = (0..executors).map(|executor| ExecutorJudge::new(shared, executor)).collect();
    let patch = |handle: &mut PatcherHandle<'_>, injector: Injector<'_>| {
        let rounds = || rounds(options, shared, handle, began, &mut tick);
        let (rounds, crowded) = injecting(injector, options.rates, options.seed, rounds)?;
        let (rounds, ended) = rounds?;
        // Executors that do not answer, or were stopped by the signal, owe what was pending.
        let settled = ended == Waited::Done && settle(handle)?;
        let messages = |message| Messages::of(injector, message, crowded, settled);
        Ok((rounds, ended, [messages(Message::Nmi)?, messages(Message::Irq)?]))
    };
    let ((rounds, ended, messages), judges) = vm.run(places, judges, patch)?;
    let mut counts = StressCounts::default();
    judges.iter().for_each(|judge| counts += judge.counts);
    Ok((rounds, ended, messages, counts))
}

fn rounds(
    options: &StressOptions,
    shared: &StressState<'_>,
    handle: &mut PatcherHandle<'_>,
    began: Instant,
    tick: &mut impl FnMut(StressProgress),
) -> Result<(u64, Waited)> {
    let random = fastrand::Rng::with_seed(options.seed);
    let mut patching = Patching { shared, handle, random };
    let (mut rounds, mut reported) = (0, Instant::now());
    let mut ended = patching.reset(0)?;
    while ended == Waited::Done && rounds < options.rounds && began.elapsed() < options.duration {
        if patching.handle.stopped() || shared.recorder.failed() {
            return Ok((rounds, Waited::Interrupted));
        }
        ended = patching.round(rounds)?;
        rounds += u64::from(ended == Waited::Done);
        if reported.elapsed() > Duration::from_millis(100) {
            reported = Instant::now();
            let time = began.elapsed().as_secs_f64() / options.duration.as_secs_f64();
            let part = time.max(rounds as f64 / options.rounds as f64).min(1.0);
            tick(StressProgress { rounds, passes: shared.passes.load(Ordering::Relaxed), part });
        }
    }
    Ok((rounds, ended))
}

/// Waits until every executor has taken what was pending. Returns false if one does not answer. An NMI is taken before an
/// interrupt that was sent after it.
fn settle(handle: &mut PatcherHandle<'_>) -> Result<bool> {
    for _ in 0..3 {
        handle.broadcast(Function::Sync, handle.everyone())?;
        if handle.wait_acks(handle.everyone()) != Waited::Done {
            return Ok(false);
        }
    }
    Ok(true)
}

fn circumstances(plan: &Plan, options: &StressOptions, host: Host, executors: usize) -> Circumstances {
    let text = initial_text(plan);
    let start = (plan.site.address - va::SITE) as usize;
    let end = start + plan.site.len();
    Circumstances {
        crossmod: env!("CARGO_PKG_VERSION"),
        tier: crate::freerun::TIER,
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
