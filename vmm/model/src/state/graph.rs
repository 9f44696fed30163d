//! The explored graph: states by number in breadth-first order, edges with their actor.

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

    /// Strongly connected components of the states that `keep` accepts (Tarjan, without recursion).
    pub fn components(&self, keep: impl Fn(u32) -> bool) -> Components {
        const NONE: u32 = u32::MAX;
        let count = self.states();
        let (mut index, mut low) = (vec![NONE; count], vec![0u32; count]);
        let mut components = Components { of: vec![NONE; count], members: Vec::new(), count: 0 };
        let mut next_index = 0;
        let (mut stack, mut calls): (Vec<u32>, Vec<(u32, usize)>) = (Vec::new(), Vec::new());
        for root in (0..count as u32).filter(|&state| keep(state)) {
            if index[root as usize] != NONE {
                continue;
            }
            calls.push((root, 0));
            while let Some(&mut (state, ref mut position)) = calls.last_mut() {
                let at = state as usize;
                if *position == 0 && index[at] == NONE {
                    (index[at], low[at]) = (next_index, next_index);
                    next_index += 1;
                    stack.push(state);
                }
                let edge = self.edges(state).get(*position).copied();
                *position += 1;
                match edge {
                    Some(edge) if edge.to == ENDED || !keep(edge.to) => {}
                    Some(edge) if index[edge.to as usize] == NONE => calls.push((edge.to, 0)),
                    Some(edge) if components.of[edge.to as usize] == NONE => {
                        low[at] = low[at].min(index[edge.to as usize]);
                    }
                    Some(_) => {}
                    None => {
                        calls.pop();
                        if let Some(&(parent, _)) = calls.last() {
                            low[parent as usize] = low[parent as usize].min(low[at]);
                        }
                        if low[at] == index[at] {
                            components.close(state, &mut stack);
                        }
                    }
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
    /// The states that were not left out, by component.
    pub members: Vec<u32>,
    /// Number of components.
    pub count: u32,
}

impl Components {
    /// Makes the next component of the states on the stack down to `root`.
    fn close(&mut self, root: u32, stack: &mut Vec<u32>) {
        while let Some(member) = stack.pop() {
            self.of[member as usize] = self.count;
            self.members.push(member);
            if member == root {
                break;
            }
        }
        self.count += 1;
    }
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
        let Components { of: component, members, count } = graph.components(|_| true);
        assert_eq!(count, 3);
        assert!(members.is_sorted_by_key(|&state| component[state as usize]) && members.len() == 5, "{members:?}");
        assert_eq!(component[1], component[2]);
        assert_eq!(component[3], component[4]);
        assert!(component[3] < component[1] && component[1] < component[0]);
        let without = graph.components(|state| state != 3);
        assert_eq!((without.of[3], without.members.len(), without.count), (u32::MAX, 4, 3));
    }
}
