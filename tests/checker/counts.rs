//! Exact numbers of states and transitions of the checker, for a case that can be counted by hand.

use super::case::{Case, Executor, JMP32, NOP5, Step};
use super::fetch::COHERENT;
use super::search::search;

/// One executor, one pass, one store and nothing else.
fn one_store(offset: usize) -> Case {
    Case {
        old: vec![NOP5],
        new: vec![JMP32],
        offset,
        executors: vec![Executor { passes: 1, interior: None }],
        resume: None,
        armed: false,
        counting: false,
        nmis: 0,
        amd: false,
        steps: vec![Step::Store { at: 0, bytes: JMP32.bytes.to_vec() }],
    }
}

/// States and transitions.
fn counted(offset: usize) -> [usize; 2] {
    let verdict = search(&one_store(offset), COHERENT, 1000).unwrap();
    [verdict.states, verdict.transitions]
}

/// The executor begins its pass, fetches, and with the new instruction passes the target of the jump. The patcher makes
/// p = 2 moves: the store and the declaration of completion. Where a pass begins it is noted whether p was 2 (a).
///
/// | the executor is      | distinct states                       |   |
/// |----------------------|---------------------------------------|---|
/// | outside              | p = 0, 1, 2                           | 3 |
/// | at the site          | not a: p = 0, 1, 2; a: p = 2          | 4 |
/// | at the jump's target | not a: p = 1, 2; a: p = 2             | 3 |
/// | done                 | a is forgotten; old: p = 0, 1, 2; new: p = 1, 2 | 5 |
///
/// The executor has a move in 3 + 4 + 3 of these 15 states, the patcher in those with p < 2: 2 + 2 + 1 + 3.
#[test]
fn one_store_in_one_piece() {
    assert_eq!(counted(0x100), [15, 18]);
}

/// Two pieces A and B, in either order: the patcher has done nothing, A, B, AB, BA, or one of the last two and the
/// declaration (AB!, BA!): 7 possibilities. A fetch after exactly one piece is torn and ends the schedule.
///
/// | the executor is      | distinct states                                         |    |
/// |----------------------|---------------------------------------------------------|----|
/// | outside              | any                                                     | 7  |
/// | at the site          | not a: any; a: AB!, BA!                                 | 9  |
/// | at the jump's target | not a: AB, BA, AB!, BA!; a: AB!, BA!                    | 6  |
/// | done                 | old: any; new: AB, BA, AB!, BA!                         | 11 |
///
/// The executor has a move in 7 + 9 + 6 of these 33 states. From *any*, the patcher has 2 + 1 + 1 + 1 + 1 moves, from AB,
/// BA, AB!, BA! it has 2: 6 + 6 + 2 + 8.
#[test]
fn one_store_in_two_pieces() {
    assert_eq!(counted(0x13e), [33, 44]);
}
