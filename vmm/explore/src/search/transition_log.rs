//! Every transition of a search, in the order in which the states were expanded. Progress and stalls are decided on
//! them once all are known.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU32, Ordering};

use crossmod_model::checks::progress;
use crossmod_model::checks::stall::{self, Stall};
use crossmod_model::property::Property;
use crossmod_model::state::graph::{ENDED, Edge, Graph};
use crossmod_model::state::{Actor, Id};

use super::Counterexample;
use super::chunk::{Chunk, DONE};
use super::evidence::walk;
use super::system::{Reduction, System};
use super::table::Tables;
use super::visited::{Visited, place};
use crate::error::Result;

/// Most states of a graph that is measured for stalls: the windows of every executor are a graph of their own,
/// several times the size.
pub const STALL_LIMIT: usize = 200_000;

/// Sources, numbers of transitions, targets.
#[derive(Default)]
pub(super) struct Log {
    parts: Vec<(Vec<u32>, Vec<u16>, Vec<AtomicU32>)>,
    bytes: usize,
}

impl Log {
    /// Takes over what a chunk has recorded.
    pub(super) fn take<const N: usize>(&mut self, chunk: &mut Chunk<N>) {
        let Chunk { sources, counts, to, .. } = chunk;
        self.bytes += 4 * sources.len() + 2 * counts.len() + 4 * to.capacity();
        let room = to.len();
        let to = std::mem::replace(to, Vec::with_capacity(room));
        self.parts.push((std::mem::take(sources), std::mem::take(counts), to));
    }

    /// Memory in use, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Calls `each` with every state, whether everything is done in it, and where its transitions lead.
    fn for_each(&self, mut each: impl FnMut(u32, bool, &[AtomicU32])) {
        for (sources, counts, to) in &self.parts {
            let mut start = 0;
            for (&source, &count) in sources.iter().zip(counts) {
                let end = start + usize::from(count & !DONE);
                each(source, count & DONE != 0, &to[start..end]);
                start = end;
            }
        }
    }

    /// The globals of the states in which everything is done.
    pub(super) fn completed<const N: usize>(&self, visited: &Visited<N>) -> BTreeSet<u32> {
        let mut globals = BTreeSet::new();
        self.for_each(|source, done, _| {
            if done {
                globals.insert(visited.get(source)[0]);
            }
        });
        globals
    }

    /// The state that was expanded last among those in which everything is done.
    pub(super) fn last_completed(&self) -> Option<u32> {
        let mut last = None;
        self.for_each(|source, done, _| last = if done { Some(source) } else { last });
        last
    }

    /// True if from every state some schedule completes or ends. Goes over the transitions from the last to
    /// the first until nothing changes: nearly all of them lead to states that were expanded later.
    fn all_finish<const N: usize>(&self, visited: &Visited<N>) -> bool {
        let mut finishes: Vec<Vec<u64>> =
            visited.shards.iter().map(|shard| vec![0; shard.len().div_ceil(64)]).collect();
        loop {
            let (mut changed, mut unfinished) = (false, false);
            for (sources, counts, to) in self.parts.iter().rev() {
                let mut end = to.len();
                for (&source, &count) in sources.iter().zip(counts).rev() {
                    let start = end - usize::from(count & !DONE);
                    let (shard, local) = place(source);
                    if finishes[shard][local / 64] >> (local % 64) & 1 == 0 {
                        let leads = |to: &AtomicU32| {
                            let to = to.load(Ordering::Relaxed);
                            let (shard, local) = place(to);
                            to == ENDED || finishes[shard][local / 64] >> (local % 64) & 1 == 1
                        };
                        if count & DONE != 0 || to[start..end].iter().any(leads) {
                            finishes[shard][local / 64] |= 1 << (local % 64);
                            changed = true;
                        } else {
                            unfinished = true;
                        }
                    }
                    end = start;
                }
            }
            if !unfinished || !changed {
                return !unfinished;
            }
        }
    }

    /// Violations of progress, each with a schedule to a state of a closed set.
    pub(super) fn progress<S: System, const N: usize>(
        &self,
        system: &mut S,
        tables: &mut Tables<S>,
        visited: &Visited<N>,
    ) -> Result<BTreeMap<Property, Counterexample<S::Transition>>> {
        let mut found = BTreeMap::new();
        if self.all_finish(visited) {
            return Ok(found);
        }
        let (graph, numbers) = self.graph(tables, visited);
        for (state, violate) in progress::decide(&graph).found() {
            let (schedule, state) = walk(system, tables, visited, numbers[state as usize])?;
            let violation = violate(&system.describe(&state));
            found.insert(violation.property, Counterexample { violation, schedule });
        }
        Ok(found)
    }

    /// All states, in the order in which they were expanded, as a graph; and their numbers.
    fn graph<S: System, const N: usize>(
        &self,
        tables: &Tables<S>,
        visited: &Visited<N>,
    ) -> (Graph, Vec<u32>) {
        let order = Order::of(self, visited);
        let mut graph = Graph::default();
        self.for_each(|source, done, to| {
            graph.state(done, 0);
            let mut to = to.iter().map(|to| to.load(Ordering::Relaxed));
            // Nothing is missing in the tables: the search expanded this state.
            let _ = tables.expand(visited.get(source), |transition| {
                let to = to.next().filter(|&to| to != ENDED).map_or(ENDED, |to| order.get(to));
                graph.edge(Edge { to, actor: transition.actor, writes: transition.writes });
            });
        });
        (graph, order.numbers)
    }

    /// The stall of each executor; empty for large graphs. Interchangeable executors have the same.
    pub(super) fn stalls<S: System, const N: usize>(
        &self,
        system: &S,
        tables: &Tables<S>,
        visited: &Visited<N>,
    ) -> Vec<Stall> {
        // Without reduction the search cannot start again without stalls, and so the limit is higher.
        let limit = if tables.reduction() == Reduction::Full { STALL_LIMIT } else { 8 * STALL_LIMIT };
        if visited.len() > limit {
            return Vec::new();
        }
        let order = Order::of(self, visited);
        let orbits = system.orbits();
        let count = orbits.iter().max().map_or(0, |&last| last + 1);
        let measured = |orbit| stall::measure(&self.windows(system, tables, visited, &order, orbit), 0);
        let stalls: Vec<Stall> = (0..count).map(measured).collect();
        orbits.iter().map(|&orbit| stalls[usize::from(orbit)]).collect()
    }

    /// The windows of an orbit as a graph: pairs of a state and an executor that has interrupts off in it, which is
    /// executor 0 of the graph.
    fn windows<S: System, const N: usize>(
        &self,
        system: &S,
        tables: &Tables<S>,
        visited: &Visited<N>,
        order: &Order,
        orbit: u8,
    ) -> Graph {
        // The windows of the state at a place in the order are `windows[starts[place]..starts[place + 1]]`.
        let (mut windows, mut starts) = (Vec::new(), vec![0]);
        for &source in &order.numbers {
            let start = windows.len();
            for &executor in &visited.get(source)[1..] {
                let inside = tables.held(executor) && system.orbit_of(Id::new(executor)) == orbit;
                if inside && !windows[start..].contains(&executor) {
                    windows.push(executor);
                }
            }
            starts.push(windows.len());
        }
        // The state behind all windows: interrupts are on again.
        let open = windows.len() as u32;
        let window = |place: u32, executor: u32| {
            let start = starts[place as usize];
            let among = &windows[start..starts[place as usize + 1]];
            among.iter().position(|&other| other == executor).map_or(open, |at| (start + at) as u32)
        };
        let mut graph = Graph::default();
        let mut place = 0;
        self.for_each(|source, _, to| {
            let state = visited.get(source);
            for &executor in &windows[starts[place]..starts[place + 1]] {
                graph.state(false, 1);
                let twins = state[1..].iter().filter(|&&other| other == executor).count();
                let mut to = to.iter().map(|to| to.load(Ordering::Relaxed));
                let _ = tables.expand(state, |transition| {
                    let Some(to) = to.next().filter(|&to| to != ENDED) else { return };
                    let to = order.get(to);
                    let mut edge = |after: u32, actor: Actor| {
                        graph.edge(Edge { to: window(to, after), actor, writes: false });
                    };
                    const ITSELF: Actor = Actor::Executor(0);
                    const OTHER: Actor = Actor::Executor(1);
                    match transition.actor {
                        Actor::Patcher => {
                            edge(tables.after_patcher(transition.number, executor), Actor::Patcher);
                        }
                        Actor::Executor(slot) if state[1 + usize::from(slot)] != executor => {
                            edge(executor, OTHER);
                        }
                        Actor::Executor(_) => {
                            edge(transition.number, ITSELF);
                            if twins > 1 {
                                edge(executor, OTHER);
                            }
                        }
                    }
                });
            }
            place += 1;
        });
        graph.state(false, 0);
        graph
    }
}

/// The states in the order in which they were expanded.
struct Order {
    /// Their numbers.
    numbers: Vec<u32>,
    /// The place of each state of each shard.
    places: Vec<Vec<u32>>,
}

impl Order {
    fn of<const N: usize>(log: &Log, visited: &Visited<N>) -> Order {
        let mut places: Vec<Vec<u32>> = visited.shards.iter().map(|shard| vec![0; shard.len()]).collect();
        let mut numbers = Vec::new();
        log.for_each(|source, _, _| {
            let (shard, local) = place(source);
            places[shard][local] = numbers.len() as u32;
            numbers.push(source);
        });
        Order { numbers, places }
    }

    /// The place of a state.
    fn get(&self, number: u32) -> u32 {
        let (shard, local) = place(number);
        self.places[shard][local]
    }
}
