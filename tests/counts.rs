//! Exact numbers of states, transitions and schedules of the explorer, for plans that can be counted by hand.

use std::collections::HashMap;

use crossmod::CheckOptions;
use crossmod::engine::SteppingEngine;
use crossmod::explore::{Memo, Model, Reduction, State, System};
use crossmod::machine::Machine;
use crossmod::scenario::Options;

use crate::bench::{check, inline, options, walk};
use crate::kvm;

/// One executor with one pass, and one store.
fn store_at(offset: u64) -> crossmod::Scenario {
    inline(
        "one-store",
        &format!(
            "protocol = \"plain_store\"\n[site]\nold = \"nop5\"\nnew = \"jmp32\"\noffset = {offset:#x}\n\
             [executors]\ncount = 1\npasses = 1\n"
        ),
    )
}

/// States and transitions, as the explorer counts them.
fn explored(offset: u64, reduce: bool) -> [u64; 2] {
    let report = check(&store_at(offset), &CheckOptions { reduce, ..options() });
    [report.counts.states, report.counts.transitions]
}

/// Schedules: those that complete, and those that end in a violation.
fn schedules(offset: u64) -> [u64; 2] {
    fn from(model: &mut Model<'_>, state: &State, known: &mut HashMap<u128, [u64; 2]>) -> [u64; 2] {
        let key = model.digest(state);
        if let Some(&counts) = known.get(&key) {
            return counts;
        }
        let mut moves = Vec::new();
        model.transitions(state, Reduction::None, &mut moves).unwrap();
        let mut sum = [u64::from(model.complete(state)), 0];
        assert_eq!(moves.is_empty(), sum[0] == 1, "a state is complete exactly if nothing is left to do");
        for step in moves {
            let applied = model.apply(state, step, Reduction::None).unwrap();
            let [complete, ended] = if applied.ended { [0, 1] } else { from(model, &applied.next, known) };
            sum = [sum[0] + complete, sum[1] + ended];
        }
        known.insert(key, sum);
        sum
    }
    let plan = store_at(offset).plan(&Options::default()).unwrap();
    let mut machine = Machine::oracle().unwrap();
    let mut engine = SteppingEngine::new(&mut machine, &plan).unwrap();
    let mut model = Model::new(&plan, &mut engine, Memo::new(0, 1)).unwrap();
    let initial = model.initial().unwrap();
    from(&mut model, &initial, &mut HashMap::new())
}

/// The executor makes 7 moves: XOR, CALL, the site, LEA and RET of a landing pad, DEC, JNZ; then it is parked
/// and makes none. The patcher makes 2: the store and the declaration of completion. Let e be the number of
/// moves the executor has made and p that of the patcher's. What else a state holds is decided by two moments:
/// whether p was 2 at the fetch, where the pass begins (a; kept to the end of the pass), and whether p was 0
/// there (old; EAX tells for ever, through the mark of the pad).
///
/// | e       | distinct states                                                        |      |
/// |---------|------------------------------------------------------------------------|------|
/// | 0, 1, 2 | p = 0, 1, 2                                                            | 3, 3, 3 |
/// | 3, 4    | old: p = 0, 1, 2; new, not a: p = 1, 2; new, a: p = 2                  | 6, 6 |
/// | 5, 6, 7 | a is forgotten; old: p = 0, 1, 2; new: p = 1, 2                        | 5, 5, 5 |
///
/// That is 36 states. Each with e < 7 has a move of the executor: 36 - 5 = 31. Each with p < 2 has one of the
/// patcher: 2, 2, 2, 3, 3, 3, 3, 3 for e = 0 to 7, which is 21. Together 52 transitions.
///
/// No schedule is cut short, so there are as many as ways to place 2 moves among 9: 36.
#[test]
fn one_store_in_one_piece() {
    kvm::required();
    assert_eq!(explored(0x100, false), [36, 52]);
    assert_eq!(walk(&store_at(0x100), |_, _, _| {}), [36, 52]);
    assert_eq!(schedules(0x100), [36, 0]);
}

/// With reduction the executor stops at the site and where it is parked: with where it begins, e = 0, 2, 7 remain,
/// with 3 + 3 + 5 = 11 states; 11 - 5 moves of the executor and 2 + 2 + 3 of the patcher. Where p = 2 the fetch is
/// invisible, too: from e = 0 it is one move to e = 7.
#[test]
fn one_store_in_one_piece_with_reduction() {
    kvm::required();
    assert_eq!(explored(0x100, true), [11, 13]);
}

/// Two pieces A and B, in either order: the patcher has done nothing, A, B, AB, BA, or one of the last two and
/// the declaration (AB!, BA!): 7 possibilities, and the order of commits is part of a state. A fetch after
/// exactly one piece is torn and ends the schedule.
///
/// | e       | distinct states                                                        |      |
/// |---------|------------------------------------------------------------------------|------|
/// | 0, 1, 2 | any                                                                    | 7, 7, 7 |
/// | 3, 4    | old: any; new, not a: AB, BA, AB!, BA!; new, a: AB!, BA!               | 13, 13 |
/// | 5, 6, 7 | old: any; new: AB, BA, AB!, BA!                                        | 11, 11, 11 |
///
/// That is 80 states. The executor moves in 80 - 11 = 69 of them. From *any*, the patcher has 2 + 1 + 1 + 1 + 1
/// moves; from AB, BA, AB!, BA! it has 2: 6, 6, 6, 8, 8, 8, 8, 8 is 58. Together 127 transitions.
///
/// Schedules, for each of the two orders: the fetch is the executor's third move. With k of the patcher's 3
/// moves before it there are C(2 + k, k) ways up to it and C(7 - k, 3 - k) ways from it on: 35 for k = 0, 6 x 5
/// for k = 2, 10 for k = 3, together 75. For k = 1 there are 3 ways up to it and none from it on.
#[test]
fn one_store_in_two_pieces() {
    kvm::required();
    assert_eq!(explored(0x13e, false), [80, 127]);
    assert_eq!(walk(&store_at(0x13e), |_, _, _| {}), [80, 127]);
    assert_eq!(schedules(0x13e), [150, 6]);
}
