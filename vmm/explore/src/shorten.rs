//! Takes out of a schedule what it does not need, and brings together what belongs together.
//!
//! A search with reduction counts a move of an executor as one, however many instructions it goes on through,
//! and its executors stand in front of a visible instruction where they could have stopped earlier: a shortest
//! schedule of reduced moves has instructions to spare once it is spelt out. The result here can lose no single
//! move; in the tests it is as long as the shortest schedule without reduction, which is not proven in general.

use crossmod_model::property::{Property, Violation};

use super::model::Model;
use super::state::Transition;
use crate::error::EngineError;

/// Leaves out what one actor does for a while, or a single move, last ones first, as long as the schedule remains
/// possible and its last move still shows this violation. Progress properties belong to a state, which has to
/// be reached as it is.
pub fn without_surplus(
    model: &mut Model<'_>,
    violation: &Violation,
    mut schedule: Vec<Transition>,
) -> Result<Vec<Transition>, EngineError> {
    if matches!(violation.property, Property::Deadlock | Property::Livelock) {
        return Ok(schedule);
    }
    let reduce = std::mem::replace(&mut model.reduce, false);
    let result =
        shorten(model, violation, &mut schedule).and_then(|()| gather(model, violation, &mut schedule));
    model.reduce = reduce;
    result.map(|()| schedule)
}

fn shorten(
    model: &mut Model<'_>,
    violation: &Violation,
    schedule: &mut Vec<Transition>,
) -> Result<(), EngineError> {
    // A pass or a handler can be left out as a whole or not at all.
    const SPANS: [usize; 12] = [32, 24, 16, 12, 10, 8, 7, 6, 4, 3, 2, 1];
    loop {
        let before = schedule.len();
        for span in SPANS.into_iter().filter(|&span| span < before) {
            let mut first = schedule.len();
            while first > 0 {
                first -= 1;
                if let Some(shorter) = leave_out(schedule, first, span)
                    && shows(model, violation, &shorter)?
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

/// The schedule without `span` moves of one actor, the first of them at `first`; the last move stays.
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

/// Brings moves of one actor together where that is possible and saves context switches. The length stays.
fn gather(
    model: &mut Model<'_>,
    violation: &Violation,
    schedule: &mut Vec<Transition>,
) -> Result<(), EngineError> {
    let switches =
        |schedule: &[Transition]| schedule.windows(2).filter(|two| two[0].actor() != two[1].actor()).count();
    let mut known = switches(schedule);
    let mut index = 1;
    // The last move shows the violation, and stays the last.
    while index + 1 < schedule.len() {
        let actor = schedule[index].actor();
        let earlier = schedule[..index].iter().rposition(|step| step.actor() == actor);
        if let Some(earlier) = earlier.filter(|&earlier| earlier + 1 < index) {
            let mut other = schedule.clone();
            let step = other.remove(index);
            other.insert(earlier + 1, step);
            if switches(&other) < known && shows(model, violation, &other)? {
                known = switches(&other);
                *schedule = other;
                index = earlier + 1;
            }
        }
        index += 1;
    }
    Ok(())
}

/// True if the schedule is possible and its last move is the first that shows the violation.
fn shows(model: &mut Model<'_>, violation: &Violation, schedule: &[Transition]) -> Result<bool, EngineError> {
    let mut state = model.initial()?;
    let mut moves = Vec::new();
    for (index, step) in schedule.iter().enumerate() {
        model.moves(&state, &mut moves)?;
        if !moves.contains(step) {
            return Ok(false);
        }
        let applied = model.apply(&state, *step)?;
        let shown = model.violations(applied.violations).contains(violation);
        if shown || applied.ended {
            return Ok(shown && index + 1 == schedule.len());
        }
        state = applied.next;
    }
    Ok(false)
}
