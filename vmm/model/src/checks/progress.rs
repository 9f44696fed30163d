//! `deadlock` and `livelock`: from every reachable state some schedule completes. Decided on the finished
//! graph by going backwards from completion; spinning executors always have transitions, so having some proves
//! nothing. What cannot finish ends in closed sets of states: a set in which memory that others read keeps
//! changing is a livelock, any other a deadlock.

use crate::property::{Property, Violation};
use crate::state::graph::{Components, ENDED, Graph};

/// The first state (breadth-first) of a closed set without completion, of either kind.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Of a set in which nothing is written.
    pub deadlock: Option<u32>,
    /// Of a set in which memory that others read keeps changing.
    pub livelock: Option<u32>,
}

/// Decides both on a finished graph.
pub fn decide(graph: &Graph) -> Progress {
    let finishes = graph.can_finish();
    if finishes.iter().all(|&finishes| finishes) {
        return Progress::default();
    }
    let stuck = |state: u32| !finishes[state as usize];
    let Components { of: component, count, .. } = graph.components(stuck, |_, _| {});
    let (mut closed, mut writes) = (vec![true; count as usize], vec![false; count as usize]);
    let states = || (0..graph.states() as u32).filter(|&state| stuck(state));
    for state in states() {
        let here = component[state as usize];
        for edge in graph.edges(state) {
            if edge.to == ENDED || component[edge.to as usize] != here {
                closed[here as usize] = false;
            } else {
                writes[here as usize] |= edge.writes;
            }
        }
    }
    let first = |wanted: bool| {
        states().find(|&state| {
            let here = component[state as usize] as usize;
            closed[here] && writes[here] == wanted
        })
    };
    Progress { deadlock: first(false), livelock: first(true) }
}

impl Progress {
    /// The states to show, each with what makes a violation of a text that says who waits for what.
    pub fn found(&self) -> impl Iterator<Item = (u32, fn(&str) -> Violation)> {
        let deadlock: fn(&str) -> Violation =
            |waits| Violation::new(Property::Deadlock, format!("no schedule completes from here: {waits}"));
        let livelock: fn(&str) -> Violation = |waits| {
            let detail = format!("no schedule completes from here, though memory keeps changing: {waits}");
            Violation::new(Property::Livelock, detail)
        };
        let deadlock = self.deadlock.map(|state| (state, deadlock));
        deadlock.into_iter().chain(self.livelock.map(|state| (state, livelock)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::Actor;
    use crate::state::graph::Edge;

    fn graph(edges: &[(u32, u32, bool)], states: u32, complete: u32) -> Graph {
        let mut graph = Graph::default();
        for state in 0..states {
            graph.state(state == complete, 0);
            for &(_, to, writes) in edges.iter().filter(|&&(from, ..)| from == state) {
                graph.edge(Edge { to, actor: Actor::Patcher, writes });
            }
        }
        graph
    }

    #[test]
    fn a_spin_without_writes_is_a_deadlock_and_with_writes_a_livelock() {
        let spin = [(0, 1, true), (0, 2, true), (2, 3, false), (3, 2, false)];
        assert_eq!(decide(&graph(&spin, 4, 1)), Progress { deadlock: Some(2), livelock: None });
        let busy = [(0, 1, true), (0, 2, true), (2, 3, false), (3, 2, true)];
        assert_eq!(decide(&graph(&busy, 4, 1)), Progress { deadlock: None, livelock: Some(2) });
    }

    #[test]
    fn a_spin_that_may_end_is_neither() {
        let edges = [(0, 0, false), (0, 1, true)];
        assert_eq!(decide(&graph(&edges, 2, 1)), Progress::default());
    }

    #[test]
    fn a_state_without_moves_is_a_deadlock() {
        assert_eq!(decide(&graph(&[(0, 1, false)], 2, 9)), Progress { deadlock: Some(1), livelock: None });
    }
}
