//! Every transition of a search, in the order in which the states were expanded; and what is decided on them
//! once all are known: progress, and stalls.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};

use crossmod_model::property::{self, Property, stall, stall::Stall};
use crossmod_model::state::graph::{ENDED, Edge, Graph};
use rustc_hash::FxHashMap;

use super::chunk::{Chunk, DONE};
use super::evidence::walk;
use super::model::Model;
use super::search::Counterexample;
use super::state::State;
use super::table::Tables;
use super::visited::{Visited, place};
use crate::error::EngineError;

/// Graphs of more states than this are not measured for stalls: every executor's windows are a graph of their
/// own, several times the size.
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
    pub(super) fn progress<const N: usize>(
        &self,
        model: &mut Model<'_>,
        tables: &mut Tables,
        visited: &Visited<N>,
    ) -> Result<BTreeMap<Property, Counterexample>, EngineError> {
        let mut found = BTreeMap::new();
        if self.all_finish(visited) {
            return Ok(found);
        }
        let mut order: Vec<Vec<u32>> = visited.shards.iter().map(|shard| vec![0; shard.len()]).collect();
        let mut numbers = Vec::new();
        self.for_each(|source, _, _| {
            let (shard, local) = place(source);
            order[shard][local] = numbers.len() as u32;
            numbers.push(source);
        });
        let mut graph = Graph::default();
        self.for_each(|source, done, to| {
            graph.state(done, 0);
            let mut to = to.iter().map(|to| to.load(Ordering::Relaxed));
            // Everything is in the tables: the search has been here.
            let _ = tables.expand(visited.get(source), |transition| {
                let to = match to.next() {
                    None | Some(ENDED) => ENDED,
                    Some(to) => order[place(to).0][place(to).1],
                };
                graph.edge(Edge { to, actor: transition.actor, writes: transition.writes });
            });
        });
        for (state, violate) in property::decide_progress(&graph).found() {
            let (schedule, state) = walk(model, tables, visited, numbers[state as usize])?;
            let violation = violate(&blocked(model, &state));
            found.insert(violation.property, Counterexample { violation, schedule });
        }
        Ok(found)
    }

    /// The stall of each executor; empty for large graphs. Interchangeable executors have the same.
    ///
    /// Measured on the windows of one class: pairs of a state and what an executor with interrupts off is in it.
    pub(super) fn stalls<const N: usize>(
        &self,
        model: &Model<'_>,
        tables: &Tables,
        visited: &Visited<N>,
    ) -> Vec<Stall> {
        // Without reduction there is nothing to begin anew with: who asks for that gets a little more.
        if visited.len() > if model.reduce { STALL_LIMIT } else { 8 * STALL_LIMIT } {
            return Vec::new();
        }
        let class_of = |executor: u32| model.executors.get(executor).ghost.class;
        let count = model.classes.iter().max().map_or(0, |&last| last + 1);
        let of_class = |class: u8| {
            let mut windows: FxHashMap<(u32, u32), u32> = FxHashMap::default();
            let mut order = Vec::new();
            self.for_each(|source, _, _| {
                for &executor in &visited.get(source)[1..] {
                    if tables.held(executor) && class_of(executor) == class {
                        windows.entry((source, executor)).or_insert_with(|| {
                            order.push((source, executor));
                            order.len() as u32 - 1
                        });
                    }
                }
            });
            // Behind the windows: interrupts are on again.
            let open = order.len() as u32;
            let mut graph = Graph::default();
            for &(source, executor) in &order {
                graph.state(false, 1);
                let state = visited.get(source);
                let twins = state[1..].iter().filter(|&&other| other == executor).count();
                let _ = tables.expand(state, |transition| {
                    let Some(to) = visited.find(transition.to).filter(|_| !transition.ended) else { return };
                    let mut edge = |after: u32, actor: u8| {
                        let to = windows.get(&(to, after)).copied().unwrap_or(open);
                        graph.edge(Edge { to, actor, writes: false });
                    };
                    const PATCHER: u8 = 0;
                    const ITSELF: u8 = 1;
                    const OTHER: u8 = 2;
                    if transition.actor == 0 {
                        edge(tables.after_patcher(state[0], transition.number, executor), PATCHER);
                    } else if state[usize::from(transition.actor)] != executor {
                        edge(executor, OTHER);
                    } else {
                        edge(transition.number, ITSELF);
                        if twins > 1 {
                            edge(executor, OTHER);
                        }
                    }
                });
            }
            graph.state(false, 0);
            stall::measure(&graph, 0)
        };
        let classes: Vec<Stall> = (0..count).map(of_class).collect();
        model.classes.iter().map(|&class| classes[usize::from(class)]).collect()
    }
}

/// Who waits for what, in a state that leads nowhere.
fn blocked(model: &Model<'_>, state: &State) -> String {
    let mut parts = vec![match model.plan().program.get(usize::from(state.global.pc)) {
        Some(op) => format!("the patcher is at step `{}`", op.step),
        None => "the patcher has finished".into(),
    }];
    for slot in 0..model.plan().executors.len() {
        let regs = model.cpu_of(state, slot).regs;
        let place = match model.engine().image().nearest(regs.rip) {
            Some((label, 0)) => label.to_owned(),
            Some((label, offset)) => format!("{label}+{offset:#x}"),
            None => format!("{:#x}", regs.rip),
        };
        let interrupts = if regs.interrupts_on() { "" } else { ", interrupts off" };
        parts.push(format!("CPU {slot} is at {place}{interrupts}"));
    }
    parts.join("; ")
}
