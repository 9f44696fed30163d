//! `stall`: how long a protocol can keep an executor from its own work. It is a figure, not a property.
//!
//! A window is a part of a schedule in which one executor has interrupts off, and at the end of which it has them
//! on again. Its length is the number of transitions of the *other* actors in it. The figure is the longest window
//! of all schedules, on the graph with cycles collapsed, so that spinning does not count. A window that ends in a
//! violation or a deadlock is reported as such. The patcher's transitions are also counted alone: for them the
//! protocol makes the executor wait, whereas a scheduler can delay any executor by the others'.

use serde::{Deserialize, Serialize};

use crate::state::Actor;
use crate::state::graph::{ENDED, Graph};

/// The longest windows of one executor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Stall {
    /// Most transitions of all other actors in one window.
    pub others: u32,
    /// Most transitions of the patcher in one window.
    pub patcher: u32,
}

/// Measures one executor.
pub fn measure(graph: &Graph, executor: usize) -> Stall {
    let (component, count) = graph.components(|state| graph.held(state, executor));
    let own = Actor::Executor(executor as u8);
    Stall {
        others: longest(graph, &component, count, |actor| actor != own),
        patcher: longest(graph, &component, count, |actor| actor == Actor::Patcher),
    }
}

/// Longest path in the condensation to a way out, counting the edges of some actors. Components are numbered in
/// reverse topological order, so a component's successors are finished before it.
fn longest(graph: &Graph, component: &[u32], count: u32, counts: impl Fn(Actor) -> bool) -> u32 {
    let mut members: Vec<(u32, u32)> = component
        .iter()
        .enumerate()
        .filter(|&(_, &component)| component != u32::MAX)
        .map(|(state, &component)| (component, state as u32))
        .collect();
    members.sort_unstable();
    let mut length: Vec<Option<u32>> = vec![None; count as usize];
    for (here, state) in members {
        for edge in graph.edges(state) {
            if edge.to == ENDED {
                continue;
            }
            let there = component[edge.to as usize];
            let rest = if there == u32::MAX { Some(0) } else { length[there as usize] };
            if there != here {
                let through = rest.map(|rest| rest + u32::from(counts(edge.actor)));
                length[here as usize] = length[here as usize].max(through);
            }
        }
    }
    length.into_iter().flatten().max().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::graph::Edge;

    #[test]
    fn spinning_counts_nothing_and_the_others_moves_count() {
        // Executor 0 held in 1..=4; it spins in {1, 2}; the patcher moves 1 -> 3, executor 1 moves 3 -> 4.
        let [zero, one] = [0, 1].map(Actor::Executor);
        let patcher = Actor::Patcher;
        let edges = [(0, 1, patcher), (1, 2, zero), (2, 1, zero), (1, 3, patcher), (3, 4, one), (4, 5, zero)];
        let mut graph = Graph::default();
        for state in 0..6u32 {
            graph.state(state == 5, u8::from((1..=4).contains(&state)));
            for &(_, to, actor) in edges.iter().filter(|&&(from, ..)| from == state) {
                graph.edge(Edge { to, actor, writes: false });
            }
        }
        assert_eq!(measure(&graph, 0), Stall { others: 2, patcher: 1 });
        assert_eq!(measure(&graph, 1), Stall::default());
    }
}
