//! The parts of a state by number, and what is derived from a part once.

use std::rc::Rc;

use crossmod_abi::{private, vector};
use crossmod_model::plan::Plan;
use crossmod_model::property::Violation;
use crossmod_model::state::Id;
use crossmod_model::state::ghost::{Context, Executor, GhostState, Pass};
use crossmod_model::state::shared_state::{Piece, SharedState, SiteHistory, pieces};
use crossmod_model::state::store_buffer::Pending;
use crossmod_model::x86::cpu::{Cpu, Regs};
use rustc_hash::FxHashMap;

use crate::intern::{Interner, content_digest};
use crate::search::system::{Flags, ViolationSet};

/// The executor has acknowledged the last broadcast.
pub(super) const ACKNOWLEDGED: Flags = Flags(Flags::OWN);
/// The patcher's quiescence has observed it.
pub(super) const OBSERVED: Flags = Flags(Flags::OWN << 1);

/// Its word with this number is 0.
pub(super) fn zero(word: u8) -> Flags {
    Flags(Flags::OWN << (2 + word))
}

/// Offset of such a word in the executor's own page.
pub(super) fn own_word(word: u8) -> u64 {
    private::WORD + 4 * u64::from(word)
}

/// Facts about an executor that are needed often.
#[derive(Debug, Clone, Copy)]
pub(super) struct ExecutorSummary {
    pub(super) flags: Flags,
    pub(super) parked: bool,
    pub(super) interrupts_on: bool,
    pub(super) nmi_masked: bool,
    pub(super) nmi_latched: bool,
    pub(super) pending: u16,
    /// Stores are in its buffer.
    pub(super) stores: bool,
    /// Neither RIP nor a saved RIP is inside the site.
    pub(super) outside: bool,
    /// Nor in the code at a target.
    pub(super) off_targets: bool,
}

/// All vCPUs, executors, shared states and lists of violations that were met.
pub(super) struct Interned<'p> {
    plan: &'p Plan,
    pub(super) pieces: Vec<Piece>,
    park: u64,
    pub(super) cpus: Interner<Cpu>,
    pub(super) executors: Interner<Executor>,
    summaries: Vec<ExecutorSummary>,
    pub(super) shared_states: Interner<SharedState>,
    /// History of the site in each shared state; shared states with the same commits have the same one.
    histories: Vec<Rc<SiteHistory>>,
    histories_by_commits: FxHashMap<Vec<u8>, Rc<SiteHistory>>,
    pub(super) violations: Interner<Vec<Violation>>,
}

impl<'p> Interned<'p> {
    /// vCPUs that are known already, and the empty list of violations. Executors stop at the address `park`.
    pub(super) fn new(plan: &'p Plan, park: u64, cpus: Interner<Cpu>) -> Interned<'p> {
        let mut violations = Interner::default();
        violations.intern(Vec::new(), |_| 0);
        Interned {
            plan,
            pieces: pieces(plan),
            park,
            cpus,
            executors: Interner::default(),
            summaries: Vec::new(),
            shared_states: Interner::default(),
            histories: Vec::new(),
            histories_by_commits: FxHashMap::default(),
            violations,
        }
    }

    pub(super) fn summary(&self, id: Id<Executor>) -> &ExecutorSummary {
        &self.summaries[id.index()]
    }

    pub(super) fn history(&self, id: Id<SharedState>) -> &Rc<SiteHistory> {
        &self.histories[id.index()]
    }

    pub(super) fn add_cpu(&mut self, cpu: Cpu) -> Id<Cpu> {
        self.cpus.intern(cpu, |cpu| {
            let Cpu { regs, private } = cpu;
            let Regs { gpr, rip, rflags, cr2, cs, ss, nmi_masked } = *regs;
            content_digest(&((gpr, rip, rflags, cr2, cs, ss, nmi_masked), &**private))
        })
    }

    pub(super) fn add_violations(&mut self, violations: Vec<Violation>) -> ViolationSet {
        self.violations.intern(violations, |_| 0)
    }

    pub(super) fn add_shared_state(&mut self, shared_state: SharedState) -> Id<SharedState> {
        let id = self.shared_states.intern(shared_state, |shared_state| {
            let SharedState { shared, commits, descriptor_freed, pads_freed, done, sent } = shared_state;
            content_digest(&(*shared, commits, *descriptor_freed, *pads_freed, *done, *sent))
        });
        if self.histories.len() <= id.index() {
            let shared_state = &self.shared_states[id];
            let history = match self.histories_by_commits.get(&shared_state.commits) {
                Some(history) => Rc::clone(history),
                None => {
                    let history = Rc::new(SiteHistory::of(self.plan, &self.pieces, shared_state));
                    self.histories_by_commits.insert(shared_state.commits.clone(), Rc::clone(&history));
                    history
                }
            };
            self.histories.push(history);
        }
        id
    }

    pub(super) fn add_executor(&mut self, executor: Executor) -> Id<Executor> {
        let cpus = &self.cpus;
        let id = self.executors.intern(executor, |executor| executor_digest(cpus, executor));
        if self.summaries.len() <= id.index() {
            self.summaries.push(self.summarize(&self.executors[id]));
        }
        id
    }

    fn summarize(&self, Executor { cpu, buffer, ghost }: &Executor) -> ExecutorSummary {
        let cpu = &self.cpus[*cpu];
        let site = &self.plan.site;
        // Behind one site's end another may begin: an executor whose pass is under way there is not outside.
        let under_way = site.parts.len() > 1 && ghost.passes.iter().any(|pass| pass.begun);
        let inside = |rip: u64| site.inside(rip) || (under_way && site.contains(rip));
        let pads = &self.plan.pads;
        let target = |rip: u64| pads.iter().any(|pad| (pad.address..pad.address + 4).contains(&rip));
        let anywhere = |place: &dyn Fn(u64) -> bool| {
            let saved = |context: &Context| {
                cpu.frame(context.frame).is_some_and(|frame| place(frame.rip)) && context.vector != vector::DB
            };
            place(cpu.regs.rip) || ghost.contexts.iter().any(saved)
        };
        let parked = cpu.regs.rip == self.park;
        let interrupts_on = cpu.regs.interrupts_on();
        let acknowledged = buffer.before(private::ACK).map_or(cpu.acknowledged(), |before| before != 0);
        let flags = Flags::FINISHED.when(parked && ghost.pending == 0 && buffer.is_empty())
            | Flags::HELD.when(!interrupts_on)
            | ACKNOWLEDGED.when(acknowledged)
            | OBSERVED.when(ghost.observed);
        // What the patcher finds.
        let word = |word: u8| buffer.before(own_word(word)).unwrap_or_else(|| cpu.word(word));
        let words = 0..self.plan.each.len() as u8;
        ExecutorSummary {
            flags: words.fold(flags, |flags, number| flags | zero(number).when(word(number) == 0)),
            parked,
            interrupts_on,
            nmi_masked: cpu.regs.nmi_masked,
            nmi_latched: ghost.nmi_latched,
            pending: ghost.pending,
            stores: !buffer.is_empty(),
            outside: !anywhere(&inside),
            off_targets: !anywhere(&|rip| inside(rip) || target(rip)),
        }
    }
}

/// Content hash of an executor. vCPUs enter by their own content.
fn executor_digest(cpus: &Interner<Cpu>, Executor { cpu, buffer, ghost }: &Executor) -> u128 {
    let GhostState { orbit, serialised, clocks, observed, pending, nmi_latched, seen_new, passes, contexts } =
        ghost;
    let passes: Vec<_> = passes
        .iter()
        .map(|pass| {
            let Pass { label, entry, begun, new_before, after_done, ran_new, trapped, depth } = *pass;
            let judged = (begun, new_before, after_done, ran_new, trapped);
            (label, cpus.digests()[entry.index()], judged, depth)
        })
        .collect();
    let contexts: Vec<_> = contexts
        .iter()
        .map(|context| {
            let Context { vector, frame, foreign } = *context;
            (vector, frame, foreign)
        })
        .collect();
    let events = (*orbit, *serialised, clocks, *observed, *pending, *nmi_latched, *seen_new);
    let digest = content_digest(&(cpus.digests()[cpu.index()], events, passes, contexts));
    if buffer.is_empty() {
        return digest;
    }
    let stores: Vec<_> = buffer
        .0
        .iter()
        .map(|pending| match *pending {
            Pending::Shared { offset, len, value } => (0u8, offset, len, value),
            Pending::Text { store } => (1, store, 0, 0),
            Pending::Own { offset, before } => (2, offset, 0, u64::from(before)),
        })
        .collect();
    content_digest(&(digest, stores))
}

#[cfg(test)]
mod tests {
    use crossmod_model::state::store_buffer::StoreBuffer;

    use super::*;

    /// The digest of an executor inside a pass and a handler, among vCPUs that were met in this order.
    fn digest(met: [u64; 3]) -> u128 {
        let mut cpus = Interner::default();
        let mut id = |rip| cpus.intern(Cpu::at(rip, 0, 1, false), |cpu| content_digest(&cpu.regs.rip));
        met.into_iter().for_each(|value| {
            id(value);
        });
        let pass = Pass {
            label: 0,
            entry: id(2),
            begun: true,
            new_before: 0,
            after_done: 0,
            ran_new: 0,
            trapped: false,
            depth: 0,
        };
        let context = Context { vector: vector::NMI, frame: 8, foreign: false };
        let ghost = GhostState { passes: vec![pass], contexts: vec![context], ..GhostState::default() };
        let executor = Executor { cpu: id(1), buffer: StoreBuffer::default(), ghost };
        executor_digest(&cpus, &executor)
    }

    #[test]
    fn a_digest_does_not_depend_on_the_order_of_exploration() {
        assert_eq!(digest([1, 2, 3]), digest([3, 2, 1]));
        assert_eq!(digest([1, 2, 3]), digest([2, 1, 3]));
    }
}
