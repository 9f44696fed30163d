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

/// Measures one executor: the longest path to a way out in the condensation, for either count of edges. Components come
/// in reverse topological order, so a component's successors are finished before it.
pub fn measure(graph: &Graph, executor: usize) -> Stall {
    let own = Actor::Executor(executor as u8);
    let mut longest: Vec<Option<Stall>> = Vec::new();
    let mut stall = Stall::default();
    let keep = |state: u32| graph.held(state, executor);
    graph.components(keep, |members, component| {
        let here = longest.len() as u32;
        let mut through: Option<Stall> = None;
        for edge in members.iter().flat_map(|&state| graph.edges(state)).filter(|edge| edge.to != ENDED) {
            let rest = match component[edge.to as usize] {
                u32::MAX => Some(Stall::default()),
                there if there == here => None,
                there => longest[there as usize],
            };
            if let Some(rest) = rest {
                through.get_or_insert_default().raise(rest, edge.actor, own);
            }
        }
        stall.raise(through.unwrap_or_default(), own, own);
        longest.push(through);
    });
    stall
}

impl Stall {
    /// Takes a path of an edge and the rest into account.
    fn raise(&mut self, rest: Stall, actor: Actor, own: Actor) {
        self.others = self.others.max(rest.others + u32::from(actor != own));
        self.patcher = self.patcher.max(rest.patcher + u32::from(actor == Actor::Patcher));
    }
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
