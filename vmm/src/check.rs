//! From a scenario to a verdict with evidence: `crossmod check` as a function.

use std::collections::BTreeMap;
use std::time::Duration;

use thiserror::Error;

use crate::explore::engine::Oracle;
use crate::explore::{self, Ended, Found, Limits, Manner, Memo, MemoStats, Model, Move, Stalls, Tick};
use crate::fetch::FetchModel;
use crate::host::Host;
use crate::machine::{self, Capabilities, Feature, Image, Machine, MachineError, SHARED_LEN};
use crate::plan::{Plan, Ring};
use crate::property::Property;
use crate::report::{Bounds, Counts, Finding, Report, Status};
use crate::scenario::{ErrorKind, Options, Scenario, ScenarioError};
use crate::schedule::{self, Pct, Random, Strategy};
use crate::trace::{self, FORMAT, Trace, TraceError, TraceMove};

/// How to look.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Mode {
    /// Every interleaving.
    Exhaustive,
    /// Random walks.
    Random {
        /// How many.
        runs: u64,
    },
    /// Probabilistic concurrency testing.
    Pct {
        /// How many runs.
        runs: u64,
        /// Ordering constraints of the violations looked for.
        depth: usize,
    },
}

/// Options of a check.
#[derive(Debug, Clone, Copy)]
pub struct CheckOptions {
    /// Forces the ring of every executor.
    pub ring: Option<Ring>,
    /// The fetch model, instead of the first that the scenario asks for.
    pub fetch: Option<FetchModel>,
    /// How to look.
    pub mode: Mode,
    /// When to give up.
    pub limits: Limits,
    /// For sampling, and for choosing which remembered transitions are executed again.
    pub seed: u64,
    /// One use of a remembered list of successors in this many is executed again and compared; 0 = none.
    pub recheck: u32,
    /// Remember transitions. Without it each is executed whenever it is used, and compared with its first time.
    pub memo: bool,
    /// Threads of a search.
    pub workers: usize,
    /// Whether a search takes the alternatives that only stalls need.
    pub stalls: Stalls,
    /// Treat states as one that differ by an exchange of executors that the scenario treats alike.
    pub symmetry: bool,
    /// Skip over instructions that no other actor can tell from their neighbours.
    pub reduce: bool,
    /// Search twice and compare.
    pub verify: bool,
    /// Show the schedule with the fewest context switches instead of the shortest.
    pub readable: bool,
    /// Width of rendered schedules, in characters.
    pub width: usize,
}

impl Default for CheckOptions {
    fn default() -> Self {
        CheckOptions {
            ring: None,
            fetch: None,
            mode: Mode::Exhaustive,
            limits: Limits::default(),
            seed: 1,
            recheck: 1024,
            memo: true,
            workers: std::thread::available_parallelism().map_or(1, |count| count.get()),
            stalls: Stalls::Auto,
            symmetry: true,
            reduce: true,
            verify: false,
            readable: false,
            width: 140,
        }
    }
}

/// Why there is no verdict.
#[derive(Debug, Error)]
pub enum CheckError {
    /// The scenario cannot be used.
    #[error(transparent)]
    Scenario(#[from] ScenarioError),
    /// The machine failed.
    #[error(transparent)]
    Machine(#[from] MachineError),
    /// The trace cannot be used.
    #[error(transparent)]
    Trace(#[from] TraceError),
    /// Crossmod contradicts itself; the message says where.
    #[error("{0}")]
    Inconsistent(String),
}

/// Result of replaying a trace file.
#[derive(Debug)]
pub struct ReplayReport {
    /// The schedule in columns.
    pub rendering: String,
    /// First difference, if any: its place and what differs.
    pub difference: Option<String>,
    /// Steps executed on KVM.
    pub steps: u64,
}

/// Checks scenarios, on machines that are made once.
pub struct Checker {
    oracle: Machine,
    live: BTreeMap<usize, Machine>,
    host: Host,
    capabilities: Capabilities,
    planted_bug: bool,
}

impl Checker {
    /// Opens KVM, and finds out what it can do.
    pub fn new() -> Result<Checker, MachineError> {
        Checker::on(Host::read(), machine::capabilities()?)
    }

    /// As if on a host of which these are the facts. What this one really lacks fails when it is used.
    pub fn on(host: Host, capabilities: Capabilities) -> Result<Checker, MachineError> {
        let mut oracle = Machine::oracle()?;
        oracle.set_real_smis(capabilities.has(Feature::Smi));
        Ok(Checker { oracle, live: BTreeMap::new(), host, capabilities, planted_bug: false })
    }

    /// For the self-test of the comparison of two hosts; see [`Machine::plant_bug`].
    #[doc(hidden)]
    pub fn plant_bug(&mut self) {
        self.planted_bug = true;
        self.oracle.plant_bug();
    }

    /// What this host can do.
    pub fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    /// The host.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// What the host had to do by itself so far.
    pub fn assists(&self) -> crate::machine::Assists {
        self.oracle.assists()
    }

    /// Checks one scenario.
    pub fn check(
        &mut self,
        scenario: &Scenario,
        options: &CheckOptions,
        mut tick: impl FnMut(Tick),
    ) -> Result<Report, CheckError> {
        let plan = match scenario.plan(&Options { ring: options.ring, fetch: options.fetch }) {
            Ok(plan) => plan,
            Err(error) if error.kind() == ErrorKind::Unsupported => {
                return Ok(Report::skipped(&scenario.name, &error.to_string()).under(options.fetch));
            }
            Err(error) => return Err(error.into()),
        };
        if let Some(reason) = self.lacking(&plan)? {
            return Ok(Report::skipped(&scenario.name, &reason));
        }
        let mut report = self.look(&plan, options, &mut tick)?;
        if options.verify && report.ended != Some(Ended::Interrupted) {
            let again = self.look(&plan, options, &mut tick)?;
            if again.ended == Some(Ended::Interrupted) {
                return Err(MachineError::Interrupted.into());
            }
            if again.digest != report.digest {
                return Err(CheckError::Inconsistent(format!(
                    "two searches of {} differ: {} and {}",
                    plan.name, report.digest, again.digest
                )));
            }
            report.verified = true;
        }
        for index in 0..report.findings.len() {
            self.prove(&plan, scenario, options, &mut report.findings[index])?;
        }
        Ok(report)
    }

    /// Why this host cannot run a plan, if so.
    fn lacking(&mut self, plan: &Plan) -> Result<Option<String>, MachineError> {
        match self.capabilities.lacking(plan) {
            Some(reason) => Ok(Some(reason)),
            None => self.oracle.cannot_execute_site(plan),
        }
    }

    /// Searches or samples; the findings have no evidence yet.
    fn look(
        &mut self,
        plan: &Plan,
        options: &CheckOptions,
        tick: &mut dyn FnMut(Tick),
    ) -> Result<Report, CheckError> {
        let exhaustive = options.mode == Mode::Exhaustive;
        // A search has tables of its own, and executes a sample of what it looks up there.
        let memo = match (exhaustive, options.memo) {
            (true, _) => Memo::new(0, options.seed),
            (false, true) => Memo::new(options.recheck, options.seed),
            (false, false) => Memo::disabled(),
        };
        let manner = Manner {
            workers: options.workers,
            symmetry: options.symmetry,
            recheck: if options.memo { options.recheck } else { 1 },
            seed: options.seed,
            stalls: options.stalls,
        };
        let emulated = self.host.emulated;
        let time = |elapsed: Duration| (!emulated).then_some(elapsed.as_secs_f64());
        let oracle = Oracle::new(&mut self.oracle, plan)?;
        let mut model = Model::new(plan, oracle, memo, options.reduce)?;
        let begun = std::time::Instant::now();
        let mut report = Report::new(plan, Bounds::of(plan));
        if plan.events.smi > 0 && !self.capabilities.has(Feature::Smi) {
            report.modelled.push("smi");
        }
        let (found, ended) = match options.mode {
            Mode::Exhaustive => {
                let search = explore::explore(&mut model, options.limits, manner, tick)?;
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
                report.outcomes = search.outcomes.iter().map(|outcome| name_of(&model, outcome)).collect();
                report.outcomes.dedup();
                report.set_digest(search.states_digest, &search.found);
                (search.found, search.ended)
            }
            Mode::Random { runs } => {
                let mut strategy = Random::new(options.seed);
                sample(&mut model, &mut strategy, runs, &mut report)?
            }
            Mode::Pct { runs, depth } => {
                // How long runs are is not known beforehand: a few random ones tell, doubled for safety.
                let probe = schedule::Limits { runs: 32, length: RUN_LIMIT };
                let (probe, _) =
                    schedule::sample(&mut model, &mut Random::new(options.seed), probe, |_, _| {})?;
                let mut strategy = Pct::new(plan.executors.len(), depth, 2 * probe.longest, options.seed);
                sample(&mut model, &mut strategy, runs, &mut report)?
            }
        };
        if report.sampled.is_some() {
            report.counts.seconds = time(begun.elapsed());
            report.counts.memo = model.memo_stats();
        }
        let mut findings = Vec::new();
        for (property, Found { violation, schedule }) in found {
            let mut schedule = schedule;
            if options.readable
                && let Some(better) =
                    explore::fewest_switches(&mut model, property, &schedule, options.limits)?
            {
                schedule = better;
            }
            let schedule = model.expand(&schedule, property)?;
            let schedule = explore::without_surplus(&mut model, &violation, schedule)?;
            findings.push(Finding {
                expected: plan.expect.contains(&property),
                violation,
                switches: switches(&schedule),
                schedule,
                rendering: String::new(),
                trace: None,
            });
        }
        report.conclude(plan, findings, ended);
        Ok(report)
    }

    /// Executes a finding again: once by the oracle without a memo, once live with a vCPU for each executor.
    /// Both must agree in every state; the live run gives the evidence.
    fn prove(
        &mut self,
        plan: &Plan,
        scenario: &Scenario,
        options: &CheckOptions,
        finding: &mut Finding,
    ) -> Result<(), CheckError> {
        let property = finding.violation.property;
        let mut states = Vec::with_capacity(finding.schedule.len());
        let oracle = Oracle::new(&mut self.oracle, plan)?;
        let mut model = Model::new(plan, oracle, Memo::disabled(), false)?;
        let mut state = model.initial()?;
        let initial = model.digest(&state);
        for &step in &finding.schedule {
            state = model.apply(&state, step)?.next;
            states.push(model.digest(&state));
        }
        drop(model);
        let replayed = self.run_live(plan, &finding.schedule)?;
        if let Some(index) = first_difference(&states, &replayed.states) {
            return Err(CheckError::Inconsistent(format!(
                "{}: {property} is not reproduced: the live run {} move {} of {} (`{}`)",
                plan.name,
                if replayed.impossible == Some(index) { "cannot make" } else { "differs after" },
                index + 1,
                finding.schedule.len(),
                finding.schedule[index],
            )));
        }
        if replayed.initial != initial || !replayed.shows(property) {
            return Err(CheckError::Inconsistent(format!(
                "{}: {property} is not reproduced by its own schedule",
                plan.name
            )));
        }
        finding.rendering = trace::render(plan, &replayed.rows, options.width);
        let moves = finding.schedule.iter().zip(&replayed.states);
        finding.trace = Some(Trace {
            format: FORMAT,
            crossmod: env!("CARGO_PKG_VERSION").into(),
            scenario: scenario.name.clone(),
            text: scenario.in_one_piece()?.text,
            fetch: plan.fetch.to_string(),
            ring: options.ring.map(Ring::number),
            plan: plan.digest(),
            image: Image::digest(),
            host: self.host.line(),
            violation: finding.violation.clone(),
            initial: trace::hex(initial),
            moves: moves
                .map(|(step, state)| TraceMove { step: step.to_string(), state: trace::hex(*state) })
                .collect(),
        });
        Ok(())
    }

    fn run_live(&mut self, plan: &Plan, schedule: &[Move]) -> Result<trace::Replayed, MachineError> {
        let count = plan.executors.len();
        let live = match self.live.entry(count) {
            std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::btree_map::Entry::Vacant(entry) => {
                let mut live = Machine::live(count)?;
                live.set_real_smis(self.capabilities.has(Feature::Smi));
                if self.planted_bug {
                    live.plant_bug();
                }
                entry.insert(live)
            }
        };
        trace::run(live, &mut self.oracle, plan, schedule)
    }

    /// Replays a trace live and compares every state.
    pub fn replay(&mut self, trace: &Trace, width: usize) -> Result<ReplayReport, CheckError> {
        let plan = trace.plan()?;
        let schedule = trace.schedule()?;
        if let Some(reason) = self.lacking(&plan)? {
            return Err(MachineError::NotHere(reason).into());
        }
        let replayed = self.run_live(&plan, &schedule)?;
        let mut difference = None;
        if trace::hex(replayed.initial) != trace.initial {
            difference = Some("the initial state differs".to_owned());
        } else if let Some(index) = (0..schedule.len()).find(|&index| {
            replayed.states.get(index).map(|&state| trace::hex(state)).as_ref()
                != trace.moves.get(index).map(|step| &step.state)
        }) {
            let step = &trace.moves[index].step;
            difference = Some(if replayed.impossible == Some(index) {
                format!("move {} (`{step}`) is not possible in the state before it", index + 1)
            } else {
                format!("the state after move {} (`{step}`) differs", index + 1)
            });
        } else if !replayed.shows(trace.violation.property) {
            difference = Some(format!(
                "the schedule runs as recorded but does not violate `{}`",
                trace.violation.property
            ));
        }
        let rendering = trace::render(&plan, &replayed.rows, width);
        Ok(ReplayReport { rendering, difference, steps: replayed.steps })
    }
}

/// Most moves in one sampled run.
const RUN_LIMIT: usize = 100_000;

fn sample(
    model: &mut Model<'_, Oracle<'_>>,
    strategy: &mut dyn Strategy,
    runs: u64,
    report: &mut Report,
) -> Result<(BTreeMap<Property, Found>, Ended), MachineError> {
    let limits = schedule::Limits { runs, length: RUN_LIMIT };
    let (sampled, found) = schedule::sample(model, strategy, limits, |_, _| {})?;
    report.counts.transitions = sampled.moves;
    report.set_digest(u128::from(sampled.moves), &found);
    let ended = if sampled.runs < runs { Ended::Interrupted } else { Ended::Exhausted };
    report.sampled = Some(sampled);
    Ok((found, ended))
}

fn name_of(model: &Model<'_, Oracle<'_>>, outcome: &explore::PassOutcome) -> String {
    let version = match (outcome.old, outcome.new) {
        (true, true) => "old = new",
        (true, false) => "old",
        (false, true) => "new",
        (false, false) => "neither",
    };
    let how = if outcome.trapped { " through the trap" } else { "" };
    format!("{}: {version}{how}", model.pass_context(outcome.label))
}

fn switches(schedule: &[Move]) -> usize {
    schedule.windows(2).filter(|pair| pair[0].actor() != pair[1].actor()).count()
}

fn first_difference(left: &[u128], right: &[u128]) -> Option<usize> {
    if left == right {
        return None;
    }
    Some(
        left.iter().zip(right).position(|(left, right)| left != right).unwrap_or(left.len().min(right.len())),
    )
}

const _: () = assert!(SHARED_LEN < 256, "offsets of stores are kept in a byte");
/// The counts of a memo that was not used.
pub(crate) const NO_MEMO: MemoStats =
    MemoStats { moves: 0, outcome_hits: 0, step_hits: 0, executed: 0, rechecked: 0 };

/// The status that a search's end and its findings amount to.
pub(crate) fn status(plan: &Plan, findings: &[Finding], ended: Ended, sampled: bool) -> (Status, bool) {
    let surplus = findings.iter().any(|finding| !finding.expected);
    let missing =
        plan.expect.iter().any(|property| !findings.iter().any(|f| f.violation.property == *property));
    let status = if !findings.is_empty() {
        Status::Hazard
    } else if sampled || ended != Ended::Exhausted {
        Status::NotDecided
    } else {
        Status::Safe
    };
    // What was not searched through may hold what is missing; what was found and not expected stays found.
    let as_expected = !surplus && if sampled { true } else { !missing && ended == Ended::Exhausted };
    (status, as_expected)
}
