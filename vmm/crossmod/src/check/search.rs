//! The search, or the sample, behind a report.

use std::time::{Duration, Instant};

use super::{CheckError, CheckOptions, Checker, Mode};
use crate::engine::SteppingEngine;
use crate::explore::error::{EngineError, StopToken};
use crate::explore::{
    self, Counterexample, Ended, Limits, Memo, MemoStats, Model, Reduction, SearchOptions, SearchProgress,
};
use crate::machine::{Feature, stop_requested};
use crate::plan::Plan;
use crate::report::{Bounds, Counts, Finding, Report};
use crate::schedule::{self, Found, Pct, Random, Strategy};

/// Every search and sample stops on a signal.
const STOP: StopToken = StopToken::new(stop_requested);

impl Checker {
    /// Searches or samples; the findings have no evidence yet.
    pub(super) fn search(
        &mut self,
        plan: &Plan,
        options: &CheckOptions,
        until: Option<Instant>,
        tick: &mut dyn FnMut(SearchProgress),
    ) -> Result<Report, CheckError> {
        let exhaustive = options.mode == Mode::Exhaustive;
        // A search has tables of its own, and executes a sample of what it looks up there.
        let memo = match (exhaustive, options.memo) {
            (true, _) => Memo::new(0, options.seed),
            (false, true) => Memo::new(options.recheck, options.seed),
            (false, false) => Memo::disabled(),
        };
        let reduction = if options.reduce { Reduction::Full } else { Reduction::None };
        let search_options = SearchOptions {
            workers: options.workers,
            symmetry: options.symmetry,
            recheck: if options.memo { options.recheck } else { 1 },
            seed: options.seed,
            stalls: options.stalls,
            reduction,
        };
        let emulated = self.host.emulated;
        let time = |elapsed: Duration| (!emulated).then_some(elapsed.as_secs_f64());
        let mut engine = SteppingEngine::new(&mut self.oracle, plan)?;
        let mut model = Model::new(plan, &mut engine, memo)?;
        let begun = Instant::now();
        let limits = || {
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            Limits {
                timeout: options.limits.timeout.into_iter().chain(left).min(),
                stop: STOP,
                ..options.limits
            }
        };
        let mut report = Report::new(plan, Bounds::of(plan));
        if plan.events.smi > 0 && !self.capabilities.has(Feature::Smi) {
            report.modelled.push("smi".into());
        }
        let (found, ended) = match options.mode {
            Mode::Exhaustive => {
                let search = explore::explore(&mut model, limits(), search_options, tick)?;
                report.counts = Counts {
                    states: search.states as u64,
                    expanded: search.expanded as u64,
                    transitions: search.transitions,
                    depth: search.depth,
                    seconds: time(search.elapsed),
                    memory: search.memory as u64,
                    lookups: search.lookups[0],
                    memo: MemoStats { rechecked: search.lookups[1], ..model.memo_stats() },
                };
                report.stalls = search.stalls;
                report.outcomes = model.outcomes().iter().map(|outcome| name_of(&model, outcome)).collect();
                report.outcomes.dedup();
                report.set_digest(search.states_digest, &search.found);
                (search.found, search.ended)
            }
            Mode::Random { runs } => {
                let mut strategy = Random::new(options.seed);
                sample(&mut model, &mut strategy, reduction, (runs, until), &mut report)?
            }
            Mode::Pct { runs, depth } => {
                // The length of runs is not known beforehand: that of a few random ones, doubled for safety.
                let probe = schedule::Limits { runs: 32, length: RUN_LIMIT, until, stop: STOP };
                let (probe, _) = schedule::sample(
                    &mut model,
                    &mut Random::new(options.seed),
                    reduction,
                    probe,
                    |_, _| {},
                )?;
                let mut strategy = Pct::new(plan.executors.len(), depth, 2 * probe.longest, options.seed);
                sample(&mut model, &mut strategy, reduction, (runs, until), &mut report)?
            }
        };
        if report.sampled.is_some() {
            report.counts.seconds = time(begun.elapsed());
            report.counts.memo = model.memo_stats();
        }
        report.unreached = model.unreached().into_iter().map(str::to_owned).collect();
        let mut findings = Vec::new();
        for (property, Counterexample { violation, schedule }) in found {
            let mut schedule = schedule;
            if options.readable
                && let Some(better) =
                    explore::fewest_switches(&mut model, property, &schedule, reduction, limits())?
            {
                schedule = better;
            }
            let schedule = model.expand(&schedule, property, reduction)?;
            let schedule = explore::without_surplus(&mut model, &violation, schedule)?;
            findings.push(Finding {
                expected: plan.expect.contains(&property),
                violation,
                switches: explore::context_switches(&schedule),
                schedule,
                rendering: String::new(),
                trace: None,
            });
        }
        report.conclude(plan, findings, ended);
        Ok(report)
    }
}

/// Most transitions in one sampled run.
const RUN_LIMIT: usize = 100_000;

fn sample(
    model: &mut Model<'_>,
    strategy: &mut dyn Strategy,
    reduction: Reduction,
    (runs, until): (u64, Option<Instant>),
    report: &mut Report,
) -> Result<(Found, Ended), EngineError> {
    let limits = schedule::Limits { runs, length: RUN_LIMIT, until, stop: STOP };
    let (sampled, found) = schedule::sample(model, strategy, reduction, limits, |_, _| {})?;
    report.counts.transitions = sampled.moves;
    report.set_digest(u128::from(sampled.moves), &found);
    let ended = match (sampled.runs < runs, stop_requested()) {
        (false, _) => Ended::Exhausted,
        (true, true) => Ended::Interrupted,
        (true, false) => Ended::Timeout,
    };
    report.sampled = Some(sampled);
    Ok((found, ended))
}

fn name_of(model: &Model<'_>, outcome: &explore::PassOutcome) -> String {
    let version = match (outcome.old, outcome.new) {
        (true, true) => "old = new",
        (true, false) => "old",
        (false, true) => "new",
        (false, false) => "neither",
    };
    let how = if outcome.trapped { " through the trap" } else { "" };
    format!("{}: {version}{how}", model.pass_context(outcome.label))
}
