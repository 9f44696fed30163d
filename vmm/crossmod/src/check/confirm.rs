//! Evidence: a finding is executed again before it is reported, and a trace whenever somebody asks.

use std::collections::btree_map::Entry;

use super::{CheckError, CheckOptions, Checker, ReplayReport};
use crate::engine::SteppingEngine;
use crate::explore::{Memo, Model, Reduction, Transition};
use crate::image::Image;
use crate::machine::{Feature, Machine, MachineError};
use crate::plan::{Plan, Ring};
use crate::report::Finding;
use crate::scenario::Scenario;
use crate::trace::{self, FORMAT, Trace, TraceMove};

impl Checker {
    /// Executes a finding again: once by the oracle without a memo, once live with a vCPU for each executor.
    /// Both must agree in every state; the live run gives the evidence.
    pub(super) fn confirm(
        &mut self,
        plan: &Plan,
        scenario: &Scenario,
        options: &CheckOptions,
        finding: &mut Finding,
    ) -> Result<(), CheckError> {
        let property = finding.violation.property;
        let mut states = Vec::with_capacity(finding.schedule.len());
        let mut engine = SteppingEngine::new(&mut self.oracle, plan)?;
        let mut model = Model::new(plan, &mut engine, Memo::disabled())?;
        let mut state = model.initial()?;
        let initial = model.digest(&state);
        for &step in &finding.schedule {
            state = model.apply(&state, step, Reduction::None)?.next;
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

    fn run_live(&mut self, plan: &Plan, schedule: &[Transition]) -> Result<trace::Replayed, CheckError> {
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

fn first_difference(left: &[u128], right: &[u128]) -> Option<usize> {
    if left == right {
        return None;
    }
    Some(
        left.iter().zip(right).position(|(left, right)| left != right).unwrap_or(left.len().min(right.len())),
    )
}
