//! Live replay of a schedule.

use crossmod_explore::error::EngineError;
use crossmod_explore::{Memo, Model, Reduction, System, Transition};
use crossmod_kvm::Machine;
use crossmod_model::plan::Plan;
use crossmod_model::property::{Property, Violation};

use super::render::{TraceRow, describe};
use crate::engine::ReplayEngine;

/// The live run of a schedule.
#[derive(Debug, Default)]
pub struct Replayed {
    /// Digest of the initial state.
    pub initial: u128,
    /// Digest of the state after each transition.
    pub states: Vec<u128>,
    /// Each transition in words.
    pub rows: Vec<TraceRow>,
    /// The violations that the last transition showed.
    pub violations: Vec<Violation>,
    /// Index of the first transition that is not enabled in the state before it, if any; the replay stops there.
    pub impossible: Option<usize>,
    /// Steps executed on KVM.
    pub steps: u64,
}

impl Replayed {
    /// True if the schedule ran to its end and showed the violation. Progress properties are properties of the whole graph:
    /// a replay can show only that the schedule reaches the state from which no schedule completes.
    pub fn shows(&self, property: Property) -> bool {
        self.impossible.is_none()
            && (matches!(property, Property::Deadlock | Property::Livelock)
                || self.violations.iter().any(|violation| violation.property == property))
    }
}

/// Executes a schedule of single instructions: each executor on its own vCPU of `live`, without restoring memory and
/// without a memo. `aside` executes the old and the new version alone, to compare outcomes.
///
/// # Errors
///
/// [`EngineError`] if KVM fails, or if memory differs from what the schedule implies.
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
    let mut replayed = Replayed { initial: model.digest(&state), ..Replayed::default() };
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
