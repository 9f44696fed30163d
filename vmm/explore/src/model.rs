//! The semantics: which moves a state has and what each does. Instructions and deliveries are executed by
//! an [`Engine`]; everything else (patcher, broadcasts, bookkeeping, checks) is here.

use std::collections::BTreeSet;
use std::rc::Rc;

use crossmod_abi::vector;
use crossmod_model::fetch::View;
use crossmod_model::image::PassLabels;
use crossmod_model::layout::MAX_CPUS;
use crossmod_model::plan::{Events, Function, OpKind, Plan, Quiet, Ring, Role, Start};
use crossmod_model::property::{Property, Violation};
use crossmod_model::state::ghost::{Executor, FUNCTIONS, GhostState, function_bit};
use crossmod_model::state::shared_state::{Piece, SharedState, SiteHistory, pieces};
use crossmod_model::x86::cpu::{Cpu, IF, reg};
use rustc_hash::{FxHashMap, FxHashSet};

use super::engine::Engine;
use super::future_effects::{FutureEffects, phases};
use super::intern::{Interner, content_digest};
use super::interning::ExecutorSummary;
use super::memo::{Memo, MemoStats, Outcome};
use super::state::{Global, State, Transition};
use super::symmetry::classes;
use crate::error::EngineError;

/// Instructions that old or new alone may take from CALL to return.
pub(super) const REFERENCE_LIMIT: usize = 64;
/// Most instructions in one reduced move. Code that goes on for ever without a visible instruction is thereby
/// still seen to go on for ever.
pub(super) const INVISIBLE_LIMIT: usize = 64;

/// The semantics of one plan on one engine.
pub struct Model<'p> {
    pub(super) plan: &'p Plan,
    pub(super) engine: &'p mut dyn Engine,
    pub(super) labels: Labels,
    pub(super) pieces: Vec<Piece>,
    pub(super) cpus: Interner<Cpu>,
    pub(super) executors: Interner<Executor>,
    pub(super) facts: Vec<ExecutorSummary>,
    pub(super) envs: Interner<SharedState>,
    /// History of the site in each environment, shared by those with equal commits.
    pub(super) texts: Vec<Rc<SiteHistory>>,
    pub(super) texts_by_commits: FxHashMap<Vec<u8>, Rc<SiteHistory>>,
    pub(super) violations: Interner<Vec<Violation>>,
    pub(super) references: FxHashMap<(u32, u8), Rc<[Option<u32>]>>,
    pub(super) views: FxHashMap<(u32, u32), Rc<[View]>>,
    pub(super) outcomes: BTreeSet<PassOutcome>,
    pub(super) phases: Vec<FutureEffects>,
    pub(super) classes: Vec<u8>,
    pub(super) memo: Memo,
    pub(super) reduce: bool,
}

/// Addresses of the image that have a meaning for the semantics.
#[derive(Debug, Clone)]
pub(super) struct Labels {
    pub(super) park: u64,
    pub(super) refusal: u64,
    pub(super) passes: Vec<PassLabels>,
}

/// What a move led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Applied {
    /// The next state; for an execution that ended, the state as far as it got.
    pub next: State,
    /// Interned list of violations; 0 is none.
    pub violations: u32,
    /// A violation ended this execution.
    pub ended: bool,
    /// Memory that others read was written.
    pub writes: bool,
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
    /// The semantics of a plan; `memo` decides how results are remembered, `reduce` whether an executor's
    /// move goes on through instructions that no other actor can tell from their neighbours (see
    /// `Model::invisible`).
    pub fn new(
        plan: &'p Plan,
        engine: &'p mut dyn Engine,
        memo: Memo,
        reduce: bool,
    ) -> Result<Model<'p>, EngineError> {
        let image = engine.image();
        let labels = Labels {
            park: image.label("exec_park")?,
            refusal: image.label("bp_unclaimed")?,
            passes: image.passes()?,
        };
        let mut violations = Interner::default();
        violations.intern(Vec::new(), |_| 0);
        Ok(Model {
            plan,
            engine,
            labels,
            pieces: pieces(plan),
            cpus: Interner::default(),
            executors: Interner::default(),
            facts: Vec::new(),
            envs: Interner::default(),
            texts: Vec::new(),
            texts_by_commits: FxHashMap::default(),
            violations,
            references: FxHashMap::default(),
            views: FxHashMap::default(),
            outcomes: BTreeSet::new(),
            phases: phases(plan),
            classes: classes(plan),
            memo,
            reduce,
        })
    }

    /// The state before the patcher's first step.
    pub fn initial(&mut self) -> Result<State, EngineError> {
        let reduce = std::mem::replace(&mut self.reduce, false);
        let initial = self.initial_state();
        self.reduce = reduce;
        initial
    }

    fn initial_state(&mut self) -> Result<State, EngineError> {
        let env = self.intern_env(SharedState::initial(self.plan));
        let Events { nmi, irq, smi, mce, .. } = self.plan.events;
        let global = Global { pc: 0, nmi, irq, smi, mce, mask: 0, env };
        let mut state = State { global, executors: [0; MAX_CPUS] };
        let site = &self.plan.site;
        let clocks = self.plan.fetch.clocks(site.address, site.len());
        for (slot, executor) in self.plan.executors.iter().enumerate() {
            let label = |name| self.engine.image().label(name);
            let entry = match (executor.start, executor.role) {
                (Start::At(address), _) | (_, Role::Program(address)) => address,
                (_, Role::Loop) => label("exec_loop")?,
                (_, Role::Lock) => label("exec_lock")?,
                (_, Role::LockIrqOff) => label("exec_lock_irqoff")?,
            };
            let part = |number: usize| site.parts.get(number).map(|part| site.address + part.offset as u64);
            let first = part(0).unwrap_or(site.address);
            let mut cpu = Cpu::at(entry, first, executor.passes, executor.ring == Ring::User);
            cpu.regs.gpr[reg::R12 + 1] = part(1).unwrap_or_default();
            cpu.regs.gpr[reg::R12 + 2] = part(2).unwrap_or_default();
            if executor.interrupts_off {
                cpu.regs.rflags &= !IF;
            }
            for (number, word) in (0..).zip(&self.plan.each) {
                cpu = cpu.with_word(number, word.value);
            }
            let cpu = self.intern_cpu(cpu);
            let ghost =
                GhostState { class: self.classes[slot], clocks: vec![0; clocks], ..GhostState::default() };
            state.executors[slot] = self.intern_executor(Executor { cpu, ghost });
            match executor.start {
                Start::Interior(offset) => state = self.run_to(state, slot, site.address + offset as u64)?,
                Start::Handler => {
                    state = self.run_to(state, slot, first)?;
                    state.executors[slot] = self.trap(slot, state.executors[slot], env)?;
                }
                Start::Outside | Start::At(_) => {}
            }
        }
        Ok(state)
    }

    /// An executor goes on until it comes to an address of the old version.
    fn run_to(&mut self, mut state: State, slot: usize, place: u64) -> Result<State, EngineError> {
        for _ in 0..REFERENCE_LIMIT {
            if self.cpu_of(&state, slot).regs.rip == place {
                return Ok(state);
            }
            state = self.apply(&state, Transition::Execute(slot as u8, 0))?.next;
        }
        let rip = self.cpu_of(&state, slot).regs.rip;
        let what = format!("executor {slot} does not come to {place:#x} by running old");
        Err(EngineError::Contract { rip, what })
    }

    /// The moves of a state, in a fixed order.
    pub fn moves(&mut self, state: &State, moves: &mut Vec<Transition>) -> Result<(), EngineError> {
        moves.clear();
        let (patcher, needs) = self.patcher_moves(&state.global);
        let met = |slot: usize| needs.met(slot, &self.facts[state.executors[slot] as usize]);
        if (0..self.plan.executors.len()).all(met) {
            moves.extend(patcher);
        }
        for slot in 0..self.plan.executors.len() {
            let own = self.executor_moves(&state.global, state.executors[slot])?;
            moves.extend(own.into_iter().map(|step| step.of(slot as u8)));
        }
        Ok(())
    }

    /// The moves of an executor (as if it were in slot 0).
    pub(super) fn executor_moves(
        &mut self,
        global: &Global,
        executor: u32,
    ) -> Result<Vec<Transition>, EngineError> {
        let mut moves = Vec::new();
        let facts = self.facts[executor as usize];
        let sent = self.sent_to(global.env, executor);
        if let Some(op) = self.plan.program.get(usize::from(global.pc))
            && let OpKind::Quiesce(quiet) = op.kind
            && !facts.observed
            && match quiet {
                Quiet::Site => facts.outside,
                Quiet::Targets => facts.off_targets,
                Quiet::Each(word) => facts.zero >> word & 1 == 1,
            }
        {
            moves.push(Transition::Observe(0));
        }
        if !facts.parked {
            match self.views(executor, global.env)? {
                None => moves.push(Transition::Execute(0, 0)),
                Some(views) => {
                    let shown = views.iter().enumerate().filter(|(_, view)| !self.reduce || !view.dominated);
                    moves.extend(shown.map(|(index, _)| Transition::Execute(0, index as u8)));
                }
            }
        }
        if facts.interrupts_on {
            let pending = FUNCTIONS
                .into_iter()
                .filter(|&function| (facts.pending | sent) & function_bit(function) != 0);
            moves.extend(pending.map(|function| Transition::Ipi(0, function)));
            if global.irq > 0 {
                moves.push(Transition::Irq(0));
            }
        }
        // Raised while unmasked, an NMI is delivered at once: holding it back is raising it later. Only
        // while NMIs are masked is raising a move of its own; a second one then coalesces.
        if facts.nmi_masked {
            let latched = facts.nmi_latched || sent & function_bit(Function::Nmi) != 0;
            if !latched && global.nmi > 0 {
                moves.push(Transition::RaiseNmi(0));
            }
        } else if facts.nmi_latched || sent & function_bit(Function::Nmi) != 0 || global.nmi > 0 {
            moves.push(Transition::Nmi(0));
        }
        if global.smi > 0 {
            moves.push(Transition::Smi(0));
        }
        // Nothing masks a machine check; one during another would shut the CPU down, and is not explored.
        if global.mce > 0 && !self.executors.get(executor).ghost.inside(vector::MC) {
            moves.push(Transition::MachineCheck(0));
        }
        Ok(moves)
    }

    /// Messages that programs have sent to an executor, one bit a function.
    fn sent_to(&self, env: u32, executor: u32) -> u16 {
        let sent = self.envs.get(env).sent;
        if sent == 0 {
            return 0;
        }
        (sent >> (16 * self.slot_of(self.executors.get(executor).ghost.class))) as u16
    }

    /// Performs a move.
    pub fn apply(&mut self, state: &State, step: Transition) -> Result<Applied, EngineError> {
        let slot = match step {
            Transition::Patcher | Transition::Piece(_) => return self.apply_patcher(state, step),
            Transition::Observe(slot) | Transition::RaiseNmi(slot) | Transition::Execute(slot, _) => slot,
            Transition::Ipi(slot, _) | Transition::Nmi(slot) | Transition::Irq(slot) => slot,
            Transition::Smi(slot) | Transition::MachineCheck(slot) => slot,
        };
        let slot = usize::from(slot);
        let (global, outcome) = self.executor_move(&state.global, slot, state.executors[slot], step)?;
        let mut next = State { global, ..*state };
        next.executors[slot] = outcome.executor;
        let Outcome { violations, ended, writes, .. } = outcome;
        Ok(Applied { next, violations, ended, writes })
    }

    /// A move of one executor: the part that all share afterwards, and what happened to the executor.
    pub(super) fn executor_move(
        &mut self,
        global: &Global,
        slot: usize,
        number: u32,
        step: Transition,
    ) -> Result<(Global, Outcome), EngineError> {
        let mut next = *global;
        match step {
            Transition::Irq(_) => next.irq -= 1,
            Transition::Smi(_) => next.smi -= 1,
            Transition::MachineCheck(_) => next.mce -= 1,
            Transition::Nmi(_)
                if !self.facts[number as usize].nmi_latched
                    && self.sent_to(global.env, number) & function_bit(Function::Nmi) == 0 =>
            {
                next.nmi -= 1;
            }
            Transition::RaiseNmi(_) => next.nmi -= 1,
            _ => {}
        }
        if matches!(step, Transition::Observe(_) | Transition::RaiseNmi(_)) {
            let mut executor = self.executors.get(number).clone();
            match step {
                Transition::Observe(_) => executor.ghost.observed = true,
                _ => executor.ghost.nmi_latched = true,
            }
            let executor = self.intern_executor(executor);
            return Ok((next, Outcome::quiet(executor, global.env)));
        }
        let phase = FutureEffects::at(&self.phases, &next);
        let outcome = self.executor_step(slot, number, global.env, step, phase)?;
        Ok((Global { env: outcome.env, ..next }, outcome))
    }

    /// The single-instruction moves behind the moves of a reduced schedule, up to the one that violates
    /// `property` (to the end for properties that belong to the graph).
    pub fn expand(
        &mut self,
        schedule: &[Transition],
        property: Property,
    ) -> Result<Vec<Transition>, EngineError> {
        let mut state = self.initial()?;
        let reduce = std::mem::replace(&mut self.reduce, false);
        let mut moves = Vec::new();
        let mut run = |model: &mut Self| -> Result<(), EngineError> {
            for &step in schedule {
                let (mut next, mut length) = (Some(step), 0);
                while let Some(step) = next {
                    let applied = model.apply(&state, step)?;
                    state = applied.next;
                    moves.push(step);
                    length += 1;
                    let shown =
                        model.violations(applied.violations).iter().any(|found| found.property == property);
                    if applied.ended || shown {
                        return Ok(());
                    }
                    next = match step.executor() {
                        Some(slot) if reduce && length < INVISIBLE_LIMIT => {
                            let phase = FutureEffects::at(&model.phases, &state.global);
                            let executor = state.executors[usize::from(slot)];
                            let view = model.invisible(executor, state.global.env, &phase)?;
                            let more = view.map(|view| Transition::Execute(slot, view));
                            match more {
                                Some(more) if model.apply(&state, more)?.ended => None,
                                more => more,
                            }
                        }
                        _ => None,
                    };
                }
            }
            Ok(())
        };
        let result = run(self);
        self.reduce = reduce;
        result.map(|()| moves)
    }

    /// True if everything that was to be done is done.
    pub fn complete(&self, state: &State) -> bool {
        usize::from(state.global.pc) == self.plan.program.len()
            && self.envs.get(state.global.env).sent == 0
            && self.plan.executors.iter().enumerate().all(|(slot, _)| {
                let facts = &self.facts[state.executors[slot] as usize];
                facts.parked && facts.pending == 0
            })
    }

    /// Bit *i*: executor *i* has interrupts off.
    pub fn held(&self, state: &State) -> u8 {
        (0..self.plan.executors.len())
            .filter(|&slot| !self.facts[state.executors[slot] as usize].interrupts_on)
            .fold(0, |mask, slot| mask | 1 << slot)
    }

    /// Content hash of a state: the same in every run, on every host, for any order of exploration.
    pub fn digest(&self, state: &State) -> u128 {
        let mut parts = [0u128; MAX_CPUS + 1];
        let Global { pc, nmi, irq, smi, mce, mask, env } = state.global;
        parts[0] = self.envs.digest(env);
        for (slot, part) in parts[1..=self.plan.executors.len()].iter_mut().enumerate() {
            *part = self.executors.digest(state.executors[slot]);
        }
        content_digest(&(pc, (nmi, irq, smi, mce), mask, &parts[..=self.plan.executors.len()]))
    }

    /// The violations of an [`Applied`].
    pub fn violations(&self, set: u32) -> &[Violation] {
        self.violations.get(set)
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
        self.cpus.get(self.executors.get(state.executors[slot]).cpu)
    }

    /// The bookkeeping of an executor.
    pub fn ghost_of(&self, state: &State, slot: usize) -> &GhostState {
        &self.executors.get(state.executors[slot]).ghost
    }

    /// The environment of a state.
    pub fn env_of(&self, state: &State) -> &SharedState {
        self.envs.get(state.global.env)
    }

    /// Name of a pass label.
    pub fn pass_context(&self, label: u8) -> &str {
        &self.labels.passes[usize::from(label)].context
    }

    /// How the passes that were executed or remembered so far ended.
    pub fn outcomes(&self) -> &BTreeSet<PassOutcome> {
        &self.outcomes
    }

    /// Steps of programs that no executor has come to so far.
    pub fn unreached(&self) -> BTreeSet<&'p str> {
        let at: FxHashSet<u64> = self.cpus.values().iter().map(|cpu| cpu.regs.rip).collect();
        let programs = &self.plan.programs;
        // Nobody stands at a gate's own instruction: an event lands behind it.
        let is_gate = |name: &str| programs.gates.iter().any(|(_, gate)| gate == name);
        let is_step = |name: &str| name.contains('.') && !name.starts_with("pass_") && !is_gate(name);
        let steps = || programs.labels.iter().filter(|(name, _)| is_step(name));
        let reached: FxHashSet<&str> =
            steps().filter(|(_, place)| at.contains(place)).map(|(name, _)| &name[..]).collect();
        steps().map(|(name, _)| &name[..]).filter(|name| !reached.contains(name)).collect()
    }

    /// The pieces of the plan's stores.
    pub fn pieces(&self) -> &[Piece] {
        &self.pieces
    }

    /// Counts of the memo.
    pub fn memo_stats(&self) -> MemoStats {
        self.memo.stats()
    }

    /// Distinct vCPU states, executors and environments met.
    pub fn interned(&self) -> (usize, usize, usize) {
        (self.cpus.len(), self.executors.len(), self.envs.len())
    }

    /// The history of the site in an environment.
    pub fn text(&self, env: u32) -> Rc<SiteHistory> {
        Rc::clone(&self.texts[env as usize])
    }
}

impl Applied {
    pub(super) fn quiet(next: State, writes: bool) -> Applied {
        Applied { next, violations: 0, ended: false, writes }
    }
}
