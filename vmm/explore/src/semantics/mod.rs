//! The semantics: which transitions a state has and what each does. An [`Engine`] executes instructions and
//! deliveries; everything else (patcher, broadcasts, bookkeeping, checks) is here.

mod access;
mod aftermath;
mod effects;
mod future_effects;
mod interned;
mod memo;
mod orbits;
mod pass;
mod patcher;
mod step;
mod store_buffer;
mod system;
mod window;

use std::collections::BTreeSet;
use std::rc::Rc;

use crossmod_abi::vector;
use crossmod_model::image::PassLabels;
use crossmod_model::layout::MAX_CPUS;
use crossmod_model::plan::{self, Function, OpKind, Plan, Quiet, Ring, Role, Start};
use crossmod_model::property::Property;
use crossmod_model::state::Id;
use crossmod_model::state::ghost::{Executor, GhostState};
use crossmod_model::state::shared_state::{Piece, SharedState, SiteHistory};
use crossmod_model::state::store_buffer::StoreBuffer;
use crossmod_model::x86::cpu::{Cpu, IF, reg};
use rustc_hash::FxHashSet;

use crate::engine::Engine;
use crate::error::{EngineError, Result};
use crate::intern::content_digest;
use crate::search::system::{Applied, Flags, Reduction, System, ViolationSet};
use crate::state::{Global, State, Transition};
use future_effects::{FutureEffects, future_effects};
use interned::{Interned, OBSERVED, zero};
use step::Request;
use store_buffer::Observed;

pub use aftermath::fault_name;
pub use memo::{Memo, MemoStats, Steps};
pub use window::Window;

/// Most instructions that a version alone may take from CALL to return.
const REFERENCE_LIMIT: usize = 64;
/// Most instructions in one reduced transition. An endless loop without a visible instruction thereby remains visible
/// as endless.
const INVISIBLE_LIMIT: usize = 64;

/// The semantics of one plan on one engine.
pub struct Model<'p> {
    plan: &'p Plan,
    engine: &'p mut dyn Engine,
    labels: Labels,
    /// Number of each executor's orbit.
    orbits: Vec<u8>,
    /// For each place in the patcher's program, what may still happen.
    future_effects: Vec<FutureEffects>,
    observed: Observed,
    interned: Interned<'p>,
    memo: Memo,
    outcomes: BTreeSet<PassOutcome>,
    finals: BTreeSet<Vec<u32>>,
    /// Some fetch has met the site, and some has met what a store left there.
    fetched: [bool; 2],
}

/// Addresses of the image that have a meaning for the semantics.
#[derive(Debug, Clone)]
struct Labels {
    refusal: u64,
    passes: Vec<PassLabels>,
}

/// How a pass ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PassOutcome {
    /// Index into the image's pass labels.
    pub label: u8,
    /// It has old's outcome.
    pub old: bool,
    /// It has new's outcome.
    pub new: bool,
    /// It went through the trap.
    pub trapped: bool,
}

impl<'p> Model<'p> {
    /// The semantics of a plan; `memo` decides how results are remembered.
    ///
    /// # Errors
    ///
    /// Fails if the guest image lacks a label.
    pub fn new(plan: &'p Plan, engine: &'p mut dyn Engine, mut memo: Memo) -> Result<Model<'p>> {
        let image = engine.image();
        let labels = Labels { refusal: image.label("bp_unclaimed")?, passes: image.passes()? };
        let cpus = std::mem::take(&mut memo.steps.cpus);
        let interned = Interned::new(plan, image.label("exec_park")?, cpus);
        Ok(Model {
            plan,
            engine,
            labels,
            orbits: orbits::orbits(plan),
            future_effects: future_effects(plan),
            observed: Observed::of(plan),
            interned,
            memo,
            outcomes: BTreeSet::new(),
            finals: BTreeSet::new(),
            fetched: [false; 2],
        })
    }

    /// The steps that were executed, for another search of the same guest.
    pub fn into_steps(self) -> Steps {
        Steps { cpus: self.interned.cpus, results: self.memo.steps.results }
    }

    /// Address of a part of the site.
    fn part_address(&self, number: usize) -> Option<u64> {
        let site = &self.plan.site;
        site.parts.get(number).map(|part| site.address + part.offset as u64)
    }

    /// An executor at the entry of its code.
    fn initial_executor(&mut self, slot: usize, executor: &plan::Executor) -> Result<Id<Executor>> {
        let label = |name| self.engine.image().label(name);
        let entry = match (executor.start, executor.role) {
            (Start::At(address), _) | (_, Role::Program(address)) => address,
            (_, Role::Loop) => label("exec_loop")?,
            (_, Role::Lock) => label("exec_lock")?,
            (_, Role::LockIrqOff) => label("exec_lock_irqoff")?,
        };
        let site = &self.plan.site;
        let first = self.part_address(0).unwrap_or(site.address);
        let mut cpu = Cpu::at(entry, first, executor.passes, executor.ring == Ring::User);
        cpu.regs.gpr[reg::R12 + 1] = self.part_address(1).unwrap_or_default();
        cpu.regs.gpr[reg::R12 + 2] = self.part_address(2).unwrap_or_default();
        if executor.interrupts_off {
            cpu.regs.rflags &= !IF;
        }
        for (number, word) in (0..).zip(&self.plan.each) {
            cpu = cpu.with_word(number, word.value);
        }
        let cpu = self.interned.add_cpu(cpu);
        let clocks = vec![0; self.plan.fetch.clocks(site.address, site.len())];
        let ghost = GhostState { orbit: self.orbits[slot], clocks, ..GhostState::default() };
        Ok(self.interned.add_executor(Executor { cpu, buffer: StoreBuffer::default(), ghost }))
    }

    /// Runs an executor until it comes to an address of the old version.
    fn run_to(&mut self, mut state: State, slot: usize, place: u64) -> Result<State> {
        for _ in 0..REFERENCE_LIMIT {
            if self.cpu_of(&state, slot).regs.rip == place {
                return Ok(state);
            }
            state = self.apply(&state, Transition::Execute(slot as u8, 0), Reduction::None)?.next;
        }
        let offset = (place - self.plan.site.address) as usize;
        Err(EngineError::NotReached { scenario: self.plan.name.clone(), executor: slot, offset })
    }

    /// The transitions of an executor (as if it were in slot 0).
    fn executor_transitions(
        &mut self,
        global: &Global,
        executor: Id<Executor>,
        reduction: Reduction,
    ) -> Result<Vec<Transition>> {
        let mut transitions = Vec::new();
        let summary = *self.interned.summary(executor);
        let sent = self.sent_to(global.shared_state, executor);
        if let Some(op) = self.plan.program.get(usize::from(global.pc))
            && let OpKind::Quiesce(quiet) = op.kind
            && !summary.flags.contain(OBSERVED)
            && match quiet {
                Quiet::Site => summary.outside,
                Quiet::Targets => summary.off_targets,
                Quiet::Each(word) => summary.flags.contain(zero(word)),
            }
        {
            transitions.push(Transition::Observe(0));
        }
        if !summary.parked {
            match self.views(executor, global.shared_state)? {
                None if self.waits_at(executor, self.interned.history(global.shared_state).current()) => {}
                None => transitions.push(Transition::Execute(0, 0)),
                Some(views) => {
                    let all = reduction == Reduction::None;
                    let shown = views.iter().enumerate().filter(|(_, view)| all || !view.dominated);
                    let ready = shown.filter(|(_, view)| !self.waits_at(executor, &view.site));
                    transitions.extend(ready.map(|(index, _)| Transition::Execute(0, index as u8)));
                }
            }
        }
        if summary.stores {
            // Interrupts of every kind wait until the buffer is empty.
            transitions.push(Transition::Commit(0));
            if summary.nmi_masked && !summary.nmi_latched && global.nmi > 0 && sent & Function::Nmi.bit() == 0
            {
                transitions.push(Transition::RaiseNmi(0));
            }
            return Ok(transitions);
        }
        if summary.interrupts_on {
            let pending =
                Function::maskable().filter(|&function| (summary.pending | sent) & function.bit() != 0);
            transitions.extend(pending.map(|function| Transition::Ipi(0, function)));
            if global.irq > 0 {
                transitions.push(Transition::Irq(0));
            }
        }
        // An NMI that is raised while unmasked is delivered at once: holding it back is the same as raising it later.
        // Only while NMIs are masked is raising one a transition of its own; a second one then coalesces.
        let latched = summary.nmi_latched || sent & Function::Nmi.bit() != 0;
        if summary.nmi_masked {
            if !latched && global.nmi > 0 {
                transitions.push(Transition::RaiseNmi(0));
            }
        } else if latched || global.nmi > 0 {
            transitions.push(Transition::Nmi(0));
        }
        if global.smi > 0 {
            transitions.push(Transition::Smi(0));
        }
        // Nothing masks a machine check. One during another shuts the CPU down, which is not explored.
        if global.mce > 0 && !self.interned.executors[executor].ghost.inside(vector::MC) {
            transitions.push(Transition::MachineCheck(0));
        }
        Ok(transitions)
    }

    /// Messages that programs have sent to an executor, one bit for each function.
    fn sent_to(&self, shared_state: Id<SharedState>, executor: Id<Executor>) -> u16 {
        let sent = self.interned.shared_states[shared_state].sent;
        if sent == 0 {
            return 0;
        }
        (sent >> (16 * self.slot_of(executor))) as u16
    }

    /// The first slot of an executor's orbit.
    fn slot_of(&self, executor: Id<Executor>) -> usize {
        self.slot_of_orbit(self.interned.executors[executor].ghost.orbit)
    }

    fn slot_of_orbit(&self, orbit: u8) -> usize {
        self.orbits.iter().position(|&other| other == orbit).unwrap_or_default()
    }

    fn request(
        &self,
        global: &Global,
        slot: usize,
        executor: Id<Executor>,
        transition: Transition,
        reduction: Reduction,
    ) -> Request {
        let Global { shared_state, .. } = *global;
        let after = self.without_event(global, executor, transition);
        let future = FutureEffects::at(&self.future_effects, &after);
        let future = (reduction == Reduction::Full).then_some(future);
        Request { slot, executor, shared_state, transition, future, live: false, recheck: false }
    }

    /// What belongs to no executor, with the event that a transition uses up taken from its budget.
    fn without_event(&self, global: &Global, executor: Id<Executor>, transition: Transition) -> Global {
        let mut next = *global;
        match transition {
            Transition::Irq(_) => next.irq -= 1,
            Transition::Smi(_) => next.smi -= 1,
            Transition::MachineCheck(_) => next.mce -= 1,
            Transition::Nmi(_)
                if !self.interned.summary(executor).nmi_latched
                    && self.sent_to(global.shared_state, executor) & Function::Nmi.bit() == 0 =>
            {
                next.nmi -= 1;
            }
            Transition::RaiseNmi(_) => next.nmi -= 1,
            _ => {}
        }
        next
    }

    /// A transition of one executor: what belongs to no executor afterwards, the executor, and what happened.
    fn executor_transition(
        &mut self,
        global: &Global,
        request: Request,
    ) -> Result<Applied<(Global, Id<Executor>)>> {
        let next = self.without_event(global, request.executor, request.transition);
        let outcome = match request.transition {
            Transition::Observe(_) | Transition::RaiseNmi(_) => {
                let mut executor = self.interned.executors[request.executor].clone();
                match request.transition {
                    Transition::Observe(_) => executor.ghost.observed = true,
                    _ => executor.ghost.nmi_latched = true,
                }
                Applied::quiet((global.shared_state, self.interned.add_executor(executor)))
            }
            _ => self.executor_step(request)?,
        };
        Ok(outcome.map(|(shared_state, executor)| (Global { shared_state, ..next }, executor)))
    }

    /// The single-instruction transitions of a schedule that was found with a reduction, up to the one that violates
    /// `property` (to the end for properties that belong to the graph).
    pub fn expand(
        &mut self,
        schedule: &[Transition],
        property: Property,
        reduction: Reduction,
    ) -> Result<Vec<Transition>> {
        let mut state = self.initial()?;
        let mut expanded = Vec::new();
        for &transition in schedule {
            let (mut next, mut length) = (Some(transition), 0);
            while let Some(single) = next {
                let applied = self.apply(&state, single, Reduction::None)?;
                state = applied.next;
                expanded.push(single);
                length += 1;
                if applied.ended || self.shows(applied.violations, property) {
                    return Ok(expanded);
                }
                next = match single.executor() {
                    Some(slot) if reduction == Reduction::Full && length < INVISIBLE_LIMIT => {
                        self.invisible_next(&state, slot)?
                    }
                    _ => None,
                };
            }
        }
        Ok(expanded)
    }

    /// The instruction of an executor that a reduced transition takes along, if there is one.
    fn invisible_next(&mut self, state: &State, slot: u8) -> Result<Option<Transition>> {
        let future = FutureEffects::at(&self.future_effects, &state.global);
        let executor = state.executors[usize::from(slot)];
        let view = self.invisible(executor, state.global.shared_state, &future)?;
        Ok(match view.map(|view| Transition::Execute(slot, view)) {
            Some(next) if self.apply(state, next, Reduction::None)?.ended => None,
            next => next,
        })
    }

    /// True if a violation of this property is among the violations.
    pub(crate) fn shows(&self, violations: ViolationSet, property: Property) -> bool {
        self.violations(violations).iter().any(|violation| violation.property == property)
    }

    /// True if everything that was to be done is done.
    pub fn complete(&self, state: &State) -> bool {
        let executors = &state.executors[..self.plan.executors.len()];
        self.patcher_finished(&state.global)
            && executors
                .iter()
                .all(|&executor| self.interned.summary(executor).flags.contain(Flags::FINISHED))
    }

    /// Content hash of a state: the same in every run, on every host, for any order of exploration.
    pub fn digest(&self, state: &State) -> u128 {
        let mut parts = [0u128; MAX_CPUS + 1];
        let Global { pc, nmi, irq, smi, mce, mask, shared_state } = state.global;
        let used = self.plan.executors.len();
        parts[0] = self.interned.shared_states.digests()[shared_state.index()];
        for (part, executor) in parts[1..].iter_mut().zip(&state.executors[..used]) {
            *part = self.interned.executors.digests()[executor.index()];
        }
        content_digest(&(pc, (nmi, irq, smi, mce), mask, &parts[..=used]))
    }

    /// The plan.
    pub fn plan(&self) -> &'p Plan {
        self.plan
    }

    /// The engine.
    pub fn engine(&self) -> &dyn Engine {
        self.engine
    }

    /// The vCPU of an executor.
    pub fn cpu_of(&self, state: &State, slot: usize) -> &Cpu {
        &self.interned.cpus[self.interned.executors[state.executors[slot]].cpu]
    }

    /// The bookkeeping of an executor.
    pub fn ghost_of(&self, state: &State, slot: usize) -> &GhostState {
        &self.interned.executors[state.executors[slot]].ghost
    }

    /// The store buffer of an executor.
    pub fn buffer_of(&self, state: &State, slot: usize) -> &StoreBuffer {
        &self.interned.executors[state.executors[slot]].buffer
    }

    /// What all actors share in a state.
    pub fn shared_state_of(&self, state: &State) -> &SharedState {
        &self.interned.shared_states[state.global.shared_state]
    }

    /// The history of the site in a state.
    pub fn history_of(&self, state: &State) -> Rc<SiteHistory> {
        Rc::clone(self.interned.history(state.global.shared_state))
    }

    /// Name of a pass label.
    pub fn pass_context(&self, label: u8) -> &str {
        &self.labels.passes[usize::from(label)].context
    }

    /// How the passes that were executed or remembered so far ended.
    pub fn outcomes(&self) -> &BTreeSet<PassOutcome> {
        &self.outcomes
    }

    /// The values that the plan's final words held at the end of executions.
    pub fn finals(&self) -> &BTreeSet<Vec<u32>> {
        &self.finals
    }

    /// Steps of programs that no executor has come to so far.
    pub fn unreached(&self) -> BTreeSet<&'p str> {
        let rip = |executor: &Executor| self.interned.cpus[executor.cpu].regs.rip;
        let at: FxHashSet<u64> = self.interned.executors.values().iter().map(rip).collect();
        let programs = &self.plan.programs;
        // No executor is ever at a gate's own instruction: an event lands behind it.
        let is_gate = |name: &str| programs.gates.iter().any(|(_, gate)| gate == name);
        let is_step = |name: &str| name.contains('.') && !name.starts_with("pass_") && !is_gate(name);
        let steps = || programs.labels.iter().filter(|(name, _)| is_step(name));
        let reached: FxHashSet<&str> =
            steps().filter(|(_, place)| at.contains(place)).map(|(name, _)| &name[..]).collect();
        steps().map(|(name, _)| &name[..]).filter(|name| !reached.contains(name)).collect()
    }

    /// True if some fetch has met the site.
    pub fn fetches_the_site(&self) -> bool {
        self.fetched[0]
    }

    /// True if some fetch has met an instruction at the site that was not there at the start.
    pub fn fetches_a_store(&self) -> bool {
        self.fetched[1]
    }

    /// True if some schedule has stored to the site.
    pub fn stores_to_the_site(&self) -> bool {
        self.interned.shared_states.values().iter().any(|shared_state| !shared_state.commits.is_empty())
    }

    /// The pieces of the plan's stores.
    pub fn pieces(&self) -> &[Piece] {
        &self.interned.pieces
    }

    /// Counts of the memo.
    pub fn memo_stats(&self) -> MemoStats {
        self.memo.stats
    }

    /// An address by name: the nearest label of the guest, or in hexadecimal.
    pub fn address(&self, address: u64) -> String {
        match self.engine.image().nearest(address) {
            Some((label, 0)) => label.to_owned(),
            Some((label, offset)) => format!("{label}+{offset:#x}"),
            None => format!("{address:#x}"),
        }
    }
}
