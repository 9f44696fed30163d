//! From a state's number to a schedule that leads there.
//!
//! The search keeps for each state the one it was first reached from, and no moves: they are found again by
//! walking forward in the model. The walk also undoes symmetry. A packed state says what the executors are,
//! in order; the walk has them in their own slots, and takes the move whose result, packed, is the next state.

use std::collections::BTreeMap;

use crossmod_model::property::Property;

use super::chunk::Chunk;
use super::model::Model;
use super::search::Counterexample;
use super::state::{State, Transition};
use super::table::Tables;
use super::visited::Visited;
use crate::error::EngineError;

/// For each property the first state from which a move violates it.
#[derive(Default)]
pub(super) struct Evidence {
    first: BTreeMap<Property, u32>,
}

impl Evidence {
    /// Notes what a chunk met; chunks come in the order of their states.
    pub(super) fn note<const N: usize>(&mut self, model: &Model<'_>, chunk: &Chunk<N>) {
        for &(violations, source) in &chunk.violating {
            for violation in model.violations(violations) {
                self.first.entry(violation.property).or_insert(source);
            }
        }
    }

    /// The violations with their schedules.
    pub(super) fn found<const N: usize>(
        &self,
        model: &mut Model<'_>,
        tables: &mut Tables,
        visited: &Visited<N>,
    ) -> Result<BTreeMap<Property, Counterexample>, EngineError> {
        let mut found = BTreeMap::new();
        let mut moves = Vec::new();
        for (&property, &source) in &self.first {
            let (mut schedule, state) = walk(model, tables, visited, source)?;
            model.moves(&state, &mut moves)?;
            let mut shown = None;
            for &step in &moves {
                let applied = model.apply(&state, step)?;
                let of = |found: &&crossmod_model::property::Violation| found.property == property;
                if let Some(violation) = model.violations(applied.violations).iter().find(of) {
                    shown = Some((step, violation.clone()));
                    break;
                }
            }
            let Some((step, violation)) = shown else {
                return Err(lost(&format!("a violation of {property}")));
            };
            schedule.push(step);
            found.insert(property, Counterexample { violation, schedule });
        }
        Ok(found)
    }
}

/// A schedule to a state, and the state with every executor in its own slot.
pub(super) fn walk<const N: usize>(
    model: &mut Model<'_>,
    tables: &mut Tables,
    visited: &Visited<N>,
    number: u32,
) -> Result<(Vec<Transition>, State), EngineError> {
    let mut path = vec![number];
    let mut at = number;
    while visited.parent(at) != at {
        at = visited.parent(at);
        path.push(at);
    }
    let mut state = model.initial()?;
    let (mut schedule, mut moves) = (Vec::new(), Vec::new());
    for &next in path.iter().rev().skip(1) {
        model.moves(&state, &mut moves)?;
        let mut taken = None;
        for &step in &moves {
            let applied = model.apply(&state, step)?;
            if !applied.ended && tables.pack(model, &applied.next) == *visited.get(next) {
                taken = Some((step, applied.next));
                break;
            }
        }
        let Some((step, after)) = taken else { return Err(lost("a state")) };
        schedule.push(step);
        state = after;
    }
    Ok((schedule, state))
}

fn lost(what: &str) -> EngineError {
    let what = format!("{what} that the search met is not met by its own schedule");
    EngineError::Contract { rip: 0, what }
}
