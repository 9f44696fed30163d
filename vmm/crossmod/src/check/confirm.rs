//! Evidence: the schedule of a counterexample is executed again before it is reported, and that of a trace on request.

use std::collections::btree_map::Entry;

use crossmod_explore::{Counterexample, Memo, Model, Reduction, System, Transition};
use crossmod_kvm::{Feature, Machine, MachineError};
use crossmod_model::image::Image;
use crossmod_model::plan::{Plan, Ring};
use crossmod_scenario::Scenario;

use super::{CheckError, CheckOptions, Checker, ReplayReport};
use crate::engine::SteppingEngine;
use crate::results::Finding;
use crate::trace::{self, FORMAT, Trace, TraceMove};

impl Checker {
    /// Executes a counterexample twice: on the oracle without a memo, and live with one vCPU for each executor. Both
    /// runs must agree in every state; the live run is the evidence.
    pub(super) fn confirm(
        &mut self,
        plan: &Plan,
        scenario: &Scenario,
        options: &CheckOptions,
        Counterexample { violation, schedule }: Counterexample<Transition>,
    ) -> Result<Finding, CheckError> {
        let property = violation.property;
        let (initial, states) = self.run_on_oracle(plan, &schedule)?;
        let replayed = self.run_live(plan, &schedule)?;
        let inconsistent = |how: &str| {
            Err(CheckError::Inconsistent(format!("{}: {property} is not reproduced{how}", plan.name)))
        };
        if let Some(index) = (0..states.len()).find(|&at| states.get(at) != replayed.states.get(at)) {
            let what = if replayed.impossible == Some(index) { "cannot make" } else { "differs after" };
            let (number, all, step) = (index + 1, schedule.len(), schedule[index]);
            return inconsistent(&format!(": the live run {what} move {number} of {all} (`{step}`)"));
        }
        if replayed.initial != initial || !replayed.shows(property) {
            return inconsistent(" by its own schedule");
        }
        let moves = schedule.iter().zip(&replayed.states);
        let trace = Trace {
            format: FORMAT,
            crossmod: env!("CARGO_PKG_VERSION").into(),
            scenario: scenario.name.clone(),
            text: scenario.in_one_piece()?.text,
            fetch: plan.fetch.to_string(),
            memory: plan.memory,
            ring: options.ring.map(Ring::number),
            plan: plan.digest(),
            image: Image::digest(),
            host: self.host.line(),
            violation: violation.clone(),
            initial: trace::hex(initial),
            moves: moves
                .map(|(step, state)| TraceMove { step: step.to_string(), state: trace::hex(*state) })
                .collect(),
        };
        Ok(Finding {
            expected: plan.expect.contains(&property),
            switches: schedule.windows(2).filter(|pair| pair[0].actor() != pair[1].actor()).count(),
            rendering: trace::render(plan, &replayed.rows, options.width),
            trace: Some(trace),
            violation,
            schedule,
        })
    }

    /// Digests of the initial state and of the state after each step of `schedule`.
    fn run_on_oracle(
        &mut self,
        plan: &Plan,
        schedule: &[Transition],
    ) -> Result<(u128, Vec<u128>), CheckError> {
        let mut engine = SteppingEngine::new(&mut self.oracle, plan)?;
        let mut model = Model::new(plan, &mut engine, Memo::disabled())?;
        let mut state = model.initial()?;
        let initial = model.digest(&state);
        let mut states = Vec::with_capacity(schedule.len());
        for &step in schedule {
            state = model.apply(&state, step, Reduction::None)?.next;
            states.push(model.digest(&state));
        }
        Ok((initial, states))
    }

    pub(super) fn run_live(
        &mut self,
        plan: &Plan,
        schedule: &[Transition],
    ) -> Result<trace::Replayed, CheckError> {
        let count = plan.executors.len();
        let live = match self.live.entry(count) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                let mut live = Machine::live(count)?;
                live.set_real_smis(self.capabilities.has(Feature::Smi));
                entry.insert(live)
            }
        };
        Ok(trace::run(live, &mut self.oracle, plan, schedule)?)
    }

    /// Replays a trace live and compares every state; `width` is that of the rendering, in characters.
    ///
    /// # Errors
    ///
    /// [`CheckError::Trace`] if the trace does not belong to this program, [`CheckError::Machine`] if KVM cannot run it.
    /// A trace that is not reproduced is not an error, but a report with a difference.
    pub fn replay(&mut self, trace: &Trace, width: usize) -> Result<ReplayReport, CheckError> {
        let plan = trace.plan()?;
        let schedule = trace.schedule()?;
        if let Some(reason) = self.lacking(&plan)? {
            return Err(MachineError::NotHere(reason).into());
        }
        let replayed = self.run_live(&plan, &schedule)?;
        let recorded = |index: usize| trace.moves.get(index).map(|step| step.state.as_str());
        let live = |index: usize| replayed.states.get(index).map(|&state| trace::hex(state));
        let differs = (0..schedule.len()).find(|&index| live(index).as_deref() != recorded(index));
        let difference = if trace::hex(replayed.initial) != trace.initial {
            Some("the initial state differs".to_owned())
        } else if let Some(index) = differs {
            let (number, step) = (index + 1, &trace.moves[index].step);
            Some(if replayed.impossible == Some(index) {
                format!("move {number} (`{step}`) is not possible in the state before it")
            } else {
                format!("the state after move {number} (`{step}`) differs")
            })
        } else {
            let property = trace.violation.property;
            let why = || format!("the schedule runs as recorded but does not violate `{property}`");
            (!replayed.shows(property)).then(why)
        };
        let rendering = trace::render(&plan, &replayed.rows, width);
        Ok(ReplayReport { rendering, difference, steps: replayed.steps })
    }
}
