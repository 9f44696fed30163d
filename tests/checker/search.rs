//! Breadth first, over everything.

use rustc_hash::FxHashMap;

use super::case::Case;
use super::fetch::Model;
use super::world::{Bench, Label, Verdict, World};

/// Searches; none if there are more states than this.
pub fn search(case: &Case, model: Model, most: usize) -> Option<Verdict> {
    let bench = Bench::new(case, model);
    let mut verdict = Verdict::default();
    let first = bench.initial();
    let mut worlds = vec![first.clone()];
    let mut known: FxHashMap<World, usize> = FxHashMap::from_iter([(first, 0)]);
    let mut from: Vec<Option<(usize, Label)>> = vec![None];
    // Those from which a state can be reached; and where an execution can end.
    let mut before: Vec<Vec<usize>> = vec![Vec::new()];
    let mut ends = Vec::new();
    let mut at = 0;
    while at < worlds.len() {
        if worlds.len() > most {
            return None;
        }
        let world = worlds[at].clone();
        let mut ended = bench.complete(&world);
        for next in bench.moves(&world) {
            for property in next.violated {
                if verdict.violated.insert(property) {
                    verdict.schedules.push((property, schedule(&from, at, next.label)));
                }
            }
            let Some(world) = next.world else {
                ended = true;
                continue;
            };
            let index = *known.entry(world).or_insert_with_key(|world| {
                worlds.push(world.clone());
                from.push(Some((at, next.label)));
                before.push(Vec::new());
                worlds.len() - 1
            });
            before[index].push(at);
        }
        if ended {
            ends.push(at);
        }
        at += 1;
    }
    // Whatever cannot reach an end is stuck; nobody there writes anything but his own stack for ever.
    let mut completes = vec![false; worlds.len()];
    while let Some(at) = ends.pop() {
        if !std::mem::replace(&mut completes[at], true) {
            ends.extend(&before[at]);
        }
    }
    if let Some(stuck) = completes.iter().position(|completes| !completes) {
        verdict.violated.insert("deadlock");
        let label = from[stuck].map_or(Label::Patcher(0, 0), |(_, label)| label);
        let origin = from[stuck].map_or(0, |(origin, _)| origin);
        verdict.schedules.push(("deadlock", schedule(&from, origin, label)));
    }
    verdict.states = worlds.len();
    Some(verdict)
}

fn schedule(from: &[Option<(usize, Label)>], mut at: usize, last: Label) -> Vec<Label> {
    let mut moves = vec![last];
    while let Some((origin, label)) = from[at] {
        moves.push(label);
        at = origin;
    }
    moves.reverse();
    moves
}
