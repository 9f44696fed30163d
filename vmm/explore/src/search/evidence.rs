//! From a state's number to a schedule that leads there.
//!
//! The search keeps for each state the one it was first reached from, and no transitions: walking forward in the
//! system finds them again. The walk also undoes symmetry. A packed state has the executors of an orbit in order; the
//! walk has them in their own slots, and takes the transition whose result, packed, is the next state.

use std::collections::BTreeMap;

use crossmod_model::property::{Property, Violation};

use super::Counterexample;
use super::chunk::Chunk;
use super::system::System;
use super::table::Tables;
use super::visited::Visited;
use crate::error::{EngineError, Result};

/// For each property the first state from which a transition violates it.
#[derive(Default)]
pub(super) struct Evidence {
    first: BTreeMap<Property, u32>,
}

impl Evidence {
    /// Notes what a chunk met; chunks come in the order of their states.
    pub(super) fn note<const N: usize>(&mut self, system: &impl System, chunk: &Chunk<N>) {
        for &(violations, source) in &chunk.violating {
            for violation in system.violations(violations) {
                self.first.entry(violation.property).or_insert(source);
            }
        }
    }

    /// The violations with their schedules.
    pub(super) fn found<S: System, const N: usize>(
        &self,
        system: &mut S,
        tables: &mut Tables<S>,
        visited: &Visited<N>,
    ) -> Result<BTreeMap<Property, Counterexample<S::Transition>>> {
        let mut found = BTreeMap::new();
        let mut transitions = Vec::new();
        for (&property, &source) in &self.first {
            let (mut schedule, state) = walk(system, tables, visited, source)?;
            system.transitions(&state, tables.reduction(), &mut transitions)?;
            let mut shown = None;
            for &transition in &transitions {
                let applied = system.apply(&state, transition, tables.reduction())?;
                let of = |found: &&Violation| found.property == property;
                if let Some(violation) = system.violations(applied.violations).iter().find(of) {
                    shown = Some((transition, violation.clone()));
                    break;
                }
            }
            let Some((transition, violation)) = shown else {
                return Err(lost(&format!("a violation of {property}")));
            };
            schedule.push(transition);
            found.insert(property, Counterexample { violation, schedule });
        }
        Ok(found)
    }
}

/// A schedule to a state, and the state with every executor in its own slot.
pub(super) fn walk<S: System, const N: usize>(
    system: &mut S,
    tables: &mut Tables<S>,
    visited: &Visited<N>,
    number: u32,
) -> Result<(Vec<S::Transition>, S::State)> {
    let mut path = vec![number];
    let mut at = number;
    while visited.parent(at) != at {
        at = visited.parent(at);
        path.push(at);
    }
    let mut state = system.initial()?;
    let (mut schedule, mut transitions) = (Vec::new(), Vec::new());
    for &next in path.iter().rev().skip(1) {
        system.transitions(&state, tables.reduction(), &mut transitions)?;
        let mut taken = None;
        for &transition in &transitions {
            let applied = system.apply(&state, transition, tables.reduction())?;
            if !applied.ended && tables.pack(system, &applied.next) == *visited.get(next) {
                taken = Some((transition, applied.next));
                break;
            }
        }
        let Some((transition, after)) = taken else { return Err(lost("a state")) };
        schedule.push(transition);
        state = after;
    }
    Ok((schedule, state))
}

fn lost(what: &str) -> EngineError {
    EngineError::Inconsistent(format!("{what} that the search met is not met by its own schedule"))
}
