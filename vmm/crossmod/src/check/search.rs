//! The search, or the sample, behind a report.

use std::time::Instant;

use crossmod_explore::error::{EngineError, StopToken};
use crossmod_explore::schedule::{self, Pct, Random, Strategy};
use crossmod_explore::{
    self as explore, Counterexample, Ended, Limits, Memo, MemoStats, Model, Reduction, SearchOptions,
    SearchProgress, Transition,
};
use crossmod_kvm::{Feature, stop_requested};
use crossmod_model::plan::Plan;
use crossmod_model::property::Property;

use super::vacuous;
use super::{CheckError, CheckOptions, Checker, Mode};
use crate::engine::SteppingEngine;
use crate::results::{FinalValues, Modelled, Outcome, Report, SearchCounts, SiteVersion, Witness};
use crate::trace;

/// Every search and sample stops on a signal.
const STOP: StopToken = StopToken::new(stop_requested);
/// Most transitions in one sampled run.
const RUN_LIMIT: usize = 100_000;

/// The first violation of each property, and how the search ended.
type Found = (schedule::Found, Ended);

impl Checker {
    /// Searches or samples. The report has no findings yet: the counterexamples are still to be confirmed.
    pub(super) fn search(
        &mut self,
        plan: &Plan,
        options: &CheckOptions,
        until: Option<Instant>,
        tick: &mut dyn FnMut(SearchProgress),
    ) -> Result<(Report, Vec<Counterexample<Transition>>), CheckError> {
        let begun = Instant::now();
        let mut engine = SteppingEngine::new(&mut self.oracle, plan)?;
        let mut memo = memo(options);
        if options.memo {
            memo = memo.with_steps(self.known.take(plan));
        }
        let mut model = Model::new(plan, &mut engine, memo)?;
        let mut report = Report::new(plan);
        if plan.events.smi > 0 && !self.capabilities.has(Feature::Smi) {
            report.modelled.push(Modelled::Smi);
        }
        let limits = || {
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            let timeout = options.limits.timeout.into_iter().chain(left).min();
            Limits { timeout, stop: STOP, ..options.limits }
        };
        let seed = options.seed;
        let sampling = |runs| schedule::Limits { runs, length: RUN_LIMIT, until, stop: STOP };
        let (found, ended) = match options.mode {
            Mode::Exhaustive => search_all(&mut model, limits(), options, tick, &mut report)?,
            Mode::Random { runs } => {
                let mut strategy = Random::new(seed);
                sample(&mut model, &mut strategy, reduction(options), sampling(runs), &mut report)?
            }
            Mode::Pct { runs, depth } => {
                // The length of runs is unknown beforehand: a few random runs show it, and the strategy assumes twice
                // that length.
                let (mut random, reduction) = (Random::new(seed), reduction(options));
                let (probe, _) =
                    schedule::sample(&mut model, &mut random, reduction, sampling(32), |_, _| {})?;
                let mut strategy = Pct::new(plan.executors.len(), depth, 2 * probe.longest, seed);
                sample(&mut model, &mut strategy, reduction, sampling(runs), &mut report)?
            }
        };
        report.ended = Some(ended);
        if report.sampled.is_some() {
            report.counts.seconds = Some(begun.elapsed().as_secs_f64());
            report.counts.memo = model.memo_stats();
        }
        if self.host.emulated {
            report.counts.seconds = None;
        }
        report.unreached = model.unreached().into_iter().map(str::to_owned).collect();
        let found = found.into_values().map(|found| minimize(&mut model, found, options, limits()));
        let found = found.collect::<Result<_, _>>()?;
        if options.memo {
            self.known.put(model.into_steps());
        }
        Ok((report, found))
    }
}

fn reduction(options: &CheckOptions) -> Reduction {
    if options.reduce { Reduction::Full } else { Reduction::None }
}

/// A search has tables of its own and executes a sample of its look-ups again; only sampling uses the memo for that.
fn memo(options: &CheckOptions) -> Memo {
    match (options.mode, options.memo) {
        (Mode::Exhaustive, _) => Memo::new(0, options.seed),
        (_, true) => Memo::new(options.recheck, options.seed),
        (_, false) => Memo::disabled(),
    }
}

fn search_all(
    model: &mut Model<'_>,
    limits: Limits,
    options: &CheckOptions,
    tick: &mut dyn FnMut(SearchProgress),
    report: &mut Report,
) -> Result<Found, EngineError> {
    let search_options = SearchOptions {
        workers: options.workers,
        symmetry: options.symmetry,
        recheck: if options.memo { options.recheck } else { 1 },
        seed: options.seed,
        stalls: options.stalls,
        reduction: reduction(options),
        witness: options.witness,
    };
    let search = explore::explore(model, limits, search_options, tick)?;
    report.counts = SearchCounts {
        states: search.states as u64,
        expanded: search.expanded as u64,
        transitions: search.transitions,
        depth: search.depth,
        seconds: Some(search.elapsed.as_secs_f64()),
        memory: search.memory as u64,
        lookups: search.lookups[0],
        memo: MemoStats { rechecked: search.lookups[1], ..model.memo_stats() },
    };
    if let Some(schedule) = search.witness.filter(|_| search.found.is_empty()) {
        // Progress is a property of the graph: no step of the schedule shows it, and all of it is expanded.
        let schedule = model.expand(&schedule, Property::Deadlock, reduction(options))?;
        report.witness = Some(Witness { schedule, rendering: String::new() });
    }
    report.stalls = search.stalls;
    report.outcomes = model.outcomes().iter().map(|outcome| outcome_of(model, outcome)).collect();
    report.outcomes.dedup();
    report.vacuous = vacuous::reasons(model);
    report.finals = model.plan().finals.as_ref().map(|finals| FinalValues {
        words: finals.words.iter().map(|word| trace::word_name(model.plan(), *word)).collect(),
        reached: model.finals().iter().cloned().collect(),
        expected: finals.exactly.clone(),
    });
    report.set_digest(search.states_digest, &search.found);
    Ok((search.found, search.ended))
}

fn sample(
    model: &mut Model<'_>,
    strategy: &mut dyn Strategy,
    reduction: Reduction,
    limits: schedule::Limits,
    report: &mut Report,
) -> Result<Found, EngineError> {
    let (sampled, found) = schedule::sample(model, strategy, reduction, limits, |_, _| {})?;
    report.counts.transitions = sampled.moves;
    report.set_digest(u128::from(sampled.moves), &found);
    let ended = match (sampled.runs < limits.runs, stop_requested()) {
        (false, _) => Ended::Exhausted,
        (true, true) => Ended::Interrupted,
        (true, false) => Ended::Timeout,
    };
    report.sampled = Some(sampled);
    Ok((found, ended))
}

/// The schedule in steps of one instruction each, without steps that the violation does not need.
fn minimize(
    model: &mut Model<'_>,
    found: Counterexample<Transition>,
    options: &CheckOptions,
    limits: Limits,
) -> Result<Counterexample<Transition>, EngineError> {
    let Counterexample { violation, mut schedule } = found;
    if options.readable
        && let Some(better) =
            explore::fewest_switches(model, violation.property, &schedule, reduction(options), limits)?
    {
        schedule = better;
    }
    let schedule = model.expand(&schedule, violation.property, reduction(options))?;
    let schedule = explore::without_surplus(model, &violation, schedule)?;
    Ok(Counterexample { violation, schedule })
}

fn outcome_of(model: &Model<'_>, outcome: &explore::PassOutcome) -> Outcome {
    let version = match (outcome.old, outcome.new) {
        (true, true) => SiteVersion::Either,
        (true, false) => SiteVersion::Old,
        (false, true) => SiteVersion::New,
        (false, false) => SiteVersion::Neither,
    };
    Outcome { context: model.pass_context(outcome.label).to_owned(), version, trapped: outcome.trapped }
}
