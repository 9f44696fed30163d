//! Live replay of a schedule.

use super::render::{Row, describe};
use crate::engine::ReplayEngine;
use crate::explore::error::EngineError;
use crate::explore::{Memo, Model, Reduction, Transition};
use crate::machine::Machine;
use crate::plan::Plan;
use crate::property::{Property, Violation};

/// What a replay did.
#[derive(Debug)]
pub struct Replayed {
    /// Hash of the initial state.
    pub initial: u128,
    /// Hash of the state after each transition.
    pub states: Vec<u128>,
    /// What each transition does, for people.
    pub rows: Vec<Row>,
    /// What the last transition violated.
    pub violations: Vec<Violation>,
    /// First transition (from 0) that is not possible in the state before it, if any; the replay stops there.
    pub impossible: Option<usize>,
    /// Steps executed on KVM.
    pub steps: u64,
}

impl Replayed {
    /// True if the schedule ran to its end and showed the property. Progress properties belong to the graph:
    /// for them, being where no schedule completes from is all that a replay can show.
    pub fn shows(&self, property: Property) -> bool {
        self.impossible.is_none()
            && (matches!(property, Property::Deadlock | Property::Livelock)
                || self.violations.iter().any(|violation| violation.property == property))
    }
}

/// Executes a schedule of single instructions: each executor on its own vCPU of `live`, memory never
/// restored, nothing remembered. `aside` executes old and new alone, for comparison of outcomes.
pub fn run(
    live: &mut Machine,
    aside: &mut Machine,
    plan: &Plan,
    schedule: &[Transition],
) -> Result<Replayed, EngineError> {
    let before = live.assists().steps;
    let mut engine = ReplayEngine::new(live, aside, plan)?;
    let mut model = Model::new(plan, &mut engine, Memo::disabled())?;
    let mut state = model.initial()?;
    let mut replayed = Replayed {
        initial: model.digest(&state),
        states: Vec::with_capacity(schedule.len()),
        rows: Vec::with_capacity(schedule.len()),
        violations: Vec::new(),
        impossible: None,
        steps: 0,
    };
    let mut transitions = Vec::new();
    for (index, &step) in schedule.iter().enumerate() {
        model.transitions(&state, Reduction::None, &mut transitions)?;
        if !transitions.contains(&step) {
            replayed.impossible = Some(index);
            break;
        }
        let mut row = describe(&mut model, &state, step)?;
        let applied = model.apply(&state, step, Reduction::None)?;
        replayed.violations = model.violations(applied.violations).to_vec();
        row.violations = replayed.violations.clone();
        row.site = model.history_of(&applied.next).current().to_vec();
        if let Transition::Execute(slot, view) = step
            && replayed.violations.iter().any(|violation| violation.property == Property::Torn)
        {
            row.aftermath = Some(model.aftermath(&state, usize::from(slot), view)?);
        }
        replayed.rows.push(row);
        replayed.states.push(model.digest(&applied.next));
        state = applied.next;
    }
    drop(model);
    replayed.steps = live.assists().steps - before;
    Ok(replayed)
}
