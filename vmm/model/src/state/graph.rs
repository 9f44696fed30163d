//! The explored graph: states by number in breadth-first order, edges with their actor.

use std::slice;

use super::Actor;

/// Target of an edge whose execution ended in a violation.
pub const ENDED: u32 = u32::MAX;

/// An edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Edge {
    /// Number of the state it leads to, or [`ENDED`].
    pub to: u32,
    /// Whose transition it is.
    pub actor: Actor,
    /// It changed memory that others read.
    pub writes: bool,
}

/// States and edges of a finished search.
#[derive(Debug, Default)]
pub struct Graph {
    /// `edges[starts[s]..starts[s + 1]]` leave state *s*.
    starts: Vec<usize>,
    edges: Vec<Edge>,
    /// For each state: everything is done.
    complete: Vec<bool>,
    /// For each state: bit *i* = executor *i* has interrupts off.
    held: Vec<u8>,
}

impl Graph {
    /// Adds the next state; its edges follow.
    pub fn state(&mut self, complete: bool, held: u8) {
        self.starts.push(self.edges.len());
        self.complete.push(complete);
        self.held.push(held);
    }

    /// Adds an edge of the last state.
    pub fn edge(&mut self, edge: Edge) {
        self.edges.push(edge);
    }

    /// Number of states.
    pub fn states(&self) -> usize {
        self.starts.len()
    }

    /// True before the first state.
    pub fn is_empty(&self) -> bool {
        self.starts.is_empty()
    }

    /// Edges that leave a state.
    pub fn edges(&self, state: u32) -> &[Edge] {
        let state = state as usize;
        let end = self.starts.get(state + 1).copied().unwrap_or(self.edges.len());
        &self.edges[self.starts[state]..end]
    }

    /// True if everything is done in a state.
    pub fn complete(&self, state: u32) -> bool {
        self.complete[state as usize]
    }

    /// True if an executor has interrupts off in a state.
    pub fn held(&self, state: u32, executor: usize) -> bool {
        self.held[state as usize] & (1 << executor) != 0
    }

    /// For each state, whether some schedule from it completes or ends.
    pub fn can_finish(&self) -> Vec<bool> {
        let mut sources = vec![0u32; self.edges.len()];
        let mut heads = vec![0usize; self.states() + 1];
        for edge in self.edges.iter().filter(|edge| edge.to != ENDED) {
            heads[edge.to as usize + 1] += 1;
        }
        for index in 1..heads.len() {
            heads[index] += heads[index - 1];
        }
        let mut cursor = heads.clone();
        let mut finishes = self.complete.clone();
        for state in 0..self.states() as u32 {
            for edge in self.edges(state) {
                if edge.to == ENDED {
                    finishes[state as usize] = true;
                } else {
                    let slot = &mut cursor[edge.to as usize];
                    sources[*slot] = state;
                    *slot += 1;
                }
            }
        }
        let mut work: Vec<u32> =
            (0..self.states() as u32).filter(|&state| finishes[state as usize]).collect();
        while let Some(state) = work.pop() {
            for &source in &sources[heads[state as usize]..heads[state as usize + 1]] {
                if !finishes[source as usize] {
                    finishes[source as usize] = true;
                    work.push(source);
                }
            }
        }
        finishes
    }

    /// Strongly connected components of the states that `keep` accepts (Tarjan, without recursion). Calls `closed` with each
    /// as soon as it is known: its members, and the component of every state that is in one by then.
    pub fn components(
        &self,
        keep: impl Fn(u32) -> bool,
        mut closed: impl FnMut(&[u32], &[u32]),
    ) -> Components {
        const NONE: u32 = u32::MAX;
        /// What is known of a state, side by side: each edge leads to another place in memory.
        #[derive(Clone, Copy)]
        struct Node {
            index: u32,
            low: u32,
            /// It is in a component, or left out.
            closed: bool,
        }
        let count = self.states() as u32;
        let mut nodes: Vec<Node> =
            (0..count).map(|state| Node { index: NONE, low: 0, closed: !keep(state) }).collect();
        let mut components = Components { of: vec![NONE; nodes.len()], count: 0 };
        let mut next_index = 0;
        let mut stack: Vec<u32> = Vec::new();
        let mut calls: Vec<(u32, slice::Iter<'_, Edge>)> = Vec::new();
        for root in 0..count {
            let mut entered = Some(root).filter(|&root| !nodes[root as usize].closed);
            loop {
                if let Some(state) = entered.take() {
                    nodes[state as usize] = Node { index: next_index, low: next_index, closed: false };
                    next_index += 1;
                    stack.push(state);
                    calls.push((state, self.edges(state).iter()));
                }
                let Some((state, edges)) = calls.last_mut() else { break };
                let mut low = nodes[*state as usize].low;
                for edge in edges.by_ref().filter(|edge| edge.to != ENDED) {
                    let node = nodes[edge.to as usize];
                    if !node.closed && node.index == NONE {
                        entered = Some(edge.to);
                        break;
                    }
                    if !node.closed {
                        low = low.min(node.index);
                    }
                }
                let state = *state;
                nodes[state as usize].low = low;
                if entered.is_some() {
                    continue;
                }
                calls.pop();
                if let Some(&(parent, _)) = calls.last() {
                    let parent = &mut nodes[parent as usize];
                    parent.low = parent.low.min(low);
                }
                if low == nodes[state as usize].index {
                    let start = stack.iter().rposition(|&member| member == state).unwrap_or_default();
                    for &member in &stack[start..] {
                        nodes[member as usize].closed = true;
                        components.of[member as usize] = components.count;
                    }
                    closed(&stack[start..], &components.of);
                    stack.truncate(start);
                    components.count += 1;
                }
            }
        }
        components
    }
}

/// Strongly connected components, numbered in reverse topological order: an edge between two of them leads to the
/// lower number.
#[derive(Debug)]
pub struct Components {
    /// The component of each state; `u32::MAX` for states left out.
    pub of: Vec<u32>,
    /// Number of components.
    pub count: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A graph from adjacency lists.
    fn graph(adjacent: &[&[u32]], complete: &[u32]) -> Graph {
        let mut graph = Graph::default();
        for (state, targets) in adjacent.iter().enumerate() {
            graph.state(complete.contains(&(state as u32)), 0);
            for &to in *targets {
                graph.edge(Edge { to, actor: Actor::Patcher, writes: false });
            }
        }
        graph
    }

    #[test]
    fn finishing_is_found_backwards() {
        let graph = graph(&[&[1, 2], &[3], &[2], &[], &[ENDED]], &[3]);
        assert_eq!(graph.can_finish(), [true, true, false, true, true]);
    }

    #[test]
    fn components_come_in_reverse_topological_order() {
        let graph = graph(&[&[1], &[2, 3], &[1], &[4], &[3]], &[]);
        let mut members = Vec::new();
        let Components { of: component, count } =
            graph.components(|_| true, |closed, _| members.extend_from_slice(closed));
        assert_eq!(count, 3);
        assert!(
            members.is_sorted_by_key(|&state| component[state as usize]) && members.len() == 5,
            "{members:?}"
        );
        assert_eq!(component[1], component[2]);
        assert_eq!(component[3], component[4]);
        assert!(component[3] < component[1] && component[1] < component[0]);
        let without = graph.components(|state| state != 3, |_, _| {});
        assert_eq!((without.of[3], without.count), (u32::MAX, 3));
    }
}
