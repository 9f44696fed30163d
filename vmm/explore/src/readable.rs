//! The most readable counter-example: among all schedules that show a violation, one in which the actor
//! changes least often, and among those a shortest.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crossmod_model::property::Property;
use rustc_hash::FxHashMap;

use super::model::Model;
use super::search::Limits;
use super::state::Transition;
use crate::error::EngineError;

/// No actor has moved yet.
const NOBODY: u8 = u8::MAX;

/// A state, the actor that led to it, and how.
#[derive(Clone, Copy)]
struct Node {
    state: u32,
    actor: u8,
    goal: bool,
    parent: u32,
    step: Option<Transition>,
}

/// Looks for it, starting from a schedule that is known to show the violation (whose last state is the goal
/// where the violation belongs to a state and not to a move). `None` if the limits are met first.
pub fn fewest_switches(
    model: &mut Model<'_>,
    property: Property,
    known: &[Transition],
    limits: Limits,
) -> Result<Option<Vec<Transition>>, EngineError> {
    let initial = model.initial()?;
    let mut goal_state = None;
    if matches!(property, Property::Deadlock | Property::Livelock) {
        let mut state = initial;
        for &step in known {
            state = model.apply(&state, step)?.next;
        }
        goal_state = Some(state);
    }
    let (mut states, mut numbers) = (vec![initial], FxHashMap::default());
    numbers.insert(initial, 0u32);
    let mut nodes =
        vec![Node { state: 0, actor: NOBODY, goal: goal_state == Some(initial), parent: 0, step: None }];
    let mut best: FxHashMap<(u32, u8), (u32, u32)> = FxHashMap::default();
    let mut queue = BinaryHeap::from([Reverse((0u32, 0u32, 0u32))]);
    let mut moves = Vec::new();
    while let Some(Reverse((switches, length, number))) = queue.pop() {
        let node = nodes[number as usize];
        if node.goal {
            return Ok(Some(unwind(&nodes, number)));
        }
        if nodes.len() > limits.max_states || limits.stop.requested() {
            return Ok(None);
        }
        let state = states[node.state as usize];
        model.moves(&state, &mut moves)?;
        for &step in &moves {
            let applied = model.apply(&state, step)?;
            let shows = model.violations(applied.violations).iter().any(|found| found.property == property);
            let goal = shows || goal_state == Some(applied.next);
            if applied.ended && !goal {
                continue;
            }
            let switched = u32::from(node.actor != NOBODY && step.actor() != node.actor);
            let cost = (switches + switched, length + 1);
            let to = *numbers.entry(applied.next).or_insert_with(|| {
                states.push(applied.next);
                states.len() as u32 - 1
            });
            if !goal {
                let known = best.entry((to, step.actor())).or_insert((u32::MAX, u32::MAX));
                if *known <= cost {
                    continue;
                }
                *known = cost;
            }
            nodes.push(Node { state: to, actor: step.actor(), goal, parent: number, step: Some(step) });
            queue.push(Reverse((cost.0, cost.1, (nodes.len() - 1) as u32)));
        }
    }
    Ok(None)
}

fn unwind(nodes: &[Node], mut number: u32) -> Vec<Transition> {
    let mut path = Vec::new();
    while let Node { step: Some(step), parent, .. } = nodes[number as usize] {
        path.push(step);
        number = parent;
    }
    path.reverse();
    path
}
