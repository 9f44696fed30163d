//! Schedules made shorter and more readable.
//!
//! A search with reduction counts a transition of an executor as one, however many instructions it takes along, and its
//! executors stop in front of a visible instruction where they could have stopped earlier. Once a shortest schedule of
//! reduced transitions is expanded, it therefore has instructions to spare. [`without_surplus`] removes them. No single
//! step can be removed from its result. In the tests it is as long as the shortest schedule without reduction; in
//! general this is not proven.
//!
//! [`fewest_switches`] finds, among all schedules that show a violation, one in which the actor changes least often,
//! and among those a shortest.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crossmod_model::property::{Property, Violation};
use crossmod_model::state::Actor;
use rustc_hash::FxHashMap;

use crate::error::Result;
use crate::search::Limits;
use crate::search::system::{Reduction, System};
use crate::semantics::Model;
use crate::state::Transition;

/// How often a schedule changes from one actor to another.
pub fn context_switches(schedule: &[Transition]) -> usize {
    schedule.windows(2).filter(|two| two[0].actor() != two[1].actor()).count()
}

/// Removes steps of a schedule of single instructions, and brings together the steps of one actor.
///
/// Spans of one actor's steps are removed, last ones first, as long as the schedule remains possible and its last step
/// still shows this violation. Progress properties belong to a state, which has to be reached as it is.
pub fn without_surplus(
    model: &mut Model<'_>,
    violation: &Violation,
    mut schedule: Vec<Transition>,
) -> Result<Vec<Transition>> {
    if matches!(violation.property, Property::Deadlock | Property::Livelock) {
        return Ok(schedule);
    }
    shorten(model, violation, &mut schedule)?;
    gather(model, violation, &mut schedule)?;
    Ok(schedule)
}

fn shorten(model: &mut Model<'_>, violation: &Violation, schedule: &mut Vec<Transition>) -> Result<()> {
    // A pass or a handler can be left out as a whole or not at all.
    const SPANS: [usize; 12] = [32, 24, 16, 12, 10, 8, 7, 6, 4, 3, 2, 1];
    loop {
        let before = schedule.len();
        for span in SPANS.into_iter().filter(|&span| span < before) {
            let mut first = schedule.len();
            while first > 0 {
                first -= 1;
                if let Some(shorter) = leave_out(schedule, first, span)
                    && still_shows(model, violation, &shorter)?
                {
                    *schedule = shorter;
                    first = first.min(schedule.len());
                }
            }
        }
        if schedule.len() == before {
            return Ok(());
        }
    }
}

/// The schedule without `span` steps of one actor, the first of them at `first`. The last step stays.
fn leave_out(schedule: &[Transition], first: usize, span: usize) -> Option<Vec<Transition>> {
    let actor = schedule.get(first)?.actor();
    let mut left = span;
    let mut shorter = schedule[..first].to_vec();
    for (index, step) in schedule.iter().enumerate().skip(first) {
        if left > 0 && step.actor() == actor && index + 1 < schedule.len() {
            left -= 1;
        } else {
            shorter.push(*step);
        }
    }
    (left == 0).then_some(shorter)
}

/// Brings steps of one actor together where that is possible and saves context switches. The length stays.
fn gather(model: &mut Model<'_>, violation: &Violation, schedule: &mut Vec<Transition>) -> Result<()> {
    let mut known = context_switches(schedule);
    let mut index = 1;
    // The last step shows the violation, and stays the last.
    while index + 1 < schedule.len() {
        let actor = schedule[index].actor();
        let earlier = schedule[..index].iter().rposition(|step| step.actor() == actor);
        if let Some(earlier) = earlier.filter(|&earlier| earlier + 1 < index) {
            let mut other = schedule.clone();
            let step = other.remove(index);
            other.insert(earlier + 1, step);
            if context_switches(&other) < known && still_shows(model, violation, &other)? {
                known = context_switches(&other);
                *schedule = other;
                index = earlier + 1;
            }
        }
        index += 1;
    }
    Ok(())
}

/// True if the schedule is possible and its last step is the first that shows the violation.
fn still_shows(model: &mut Model<'_>, violation: &Violation, schedule: &[Transition]) -> Result<bool> {
    let mut state = model.initial()?;
    let mut transitions = Vec::new();
    for (index, step) in schedule.iter().enumerate() {
        model.transitions(&state, Reduction::None, &mut transitions)?;
        if !transitions.contains(step) {
            return Ok(false);
        }
        let applied = model.apply(&state, *step, Reduction::None)?;
        let shown = model.violations(applied.violations).contains(violation);
        if shown || applied.ended {
            return Ok(shown && index + 1 == schedule.len());
        }
        state = applied.next;
    }
    Ok(false)
}

/// A state, the actor that led to it, and how.
#[derive(Clone, Copy)]
struct Node {
    state: u32,
    actor: Option<Actor>,
    goal: bool,
    parent: u32,
    step: Option<Transition>,
}

/// The schedule with the fewest context switches, given one that is `known` to show the violation; `None` if a limit
/// is reached first. The last state of the known one is the goal of progress properties, which belong to a state.
pub fn fewest_switches(
    model: &mut Model<'_>,
    property: Property,
    known: &[Transition],
    reduction: Reduction,
    limits: Limits,
) -> Result<Option<Vec<Transition>>> {
    let initial = model.initial()?;
    let mut goal_state = None;
    if matches!(property, Property::Deadlock | Property::Livelock) {
        let mut state = initial;
        for &step in known {
            state = model.apply(&state, step, reduction)?.next;
        }
        goal_state = Some(state);
    }
    let (mut states, mut numbers) = (vec![initial], FxHashMap::default());
    numbers.insert(initial, 0u32);
    let mut nodes =
        vec![Node { state: 0, actor: None, goal: goal_state == Some(initial), parent: 0, step: None }];
    let mut best: FxHashMap<(u32, Actor), (u32, u32)> = FxHashMap::default();
    let mut queue = BinaryHeap::from([Reverse((0u32, 0u32, 0u32))]);
    let mut transitions = Vec::new();
    while let Some(Reverse((switches, length, number))) = queue.pop() {
        let node = nodes[number as usize];
        if node.goal {
            return Ok(Some(unwind(&nodes, number)));
        }
        if nodes.len() > limits.max_states || limits.stop.requested() {
            return Ok(None);
        }
        let state = states[node.state as usize];
        model.transitions(&state, reduction, &mut transitions)?;
        for &step in &transitions {
            let applied = model.apply(&state, step, reduction)?;
            let goal = model.shows(applied.violations, property) || goal_state == Some(applied.next);
            if applied.ended && !goal {
                continue;
            }
            let switched = u32::from(node.actor.is_some_and(|actor| actor != step.actor()));
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
            nodes.push(Node { state: to, actor: Some(step.actor()), goal, parent: number, step: Some(step) });
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
