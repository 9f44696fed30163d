//! The semantics: which moves a state has and what each does. Instructions and deliveries are executed by
//! an [`Engine`]; everything else (patcher, broadcasts, bookkeeping, checks) is here.

use std::rc::Rc;

use crossmod_abi::vector;
use rustc_hash::FxHashMap;

use super::engine::Engine;
use super::env::{Env, Piece, Text, pieces};
use super::intern::{Interner, content_digest};
use super::memo::{Memo, MemoStats};
use super::monitor::{Executor, FUNCTIONS, Monitor, function_bit};
use super::numbering::Facts;
use super::state::{Move, State};
use crate::cpu::Cpu;
use crate::machine::{MAX_CPUS, MachineError, PassLabels};
use crate::plan::{OpKind, Plan, Ring, Role, Start};
use crate::property::{Property, Violation};

/// Aligned block that a store writes and a fetch reads in one go under the coherent fetch model.
pub const COHERENT_ATOM: u64 = 64;
/// Instructions that old or new alone may take from CALL to return.
pub(super) const REFERENCE_LIMIT: usize = 64;

/// The semantics of one plan on one engine.
pub struct Model<'p, E> {
    pub(super) plan: &'p Plan,
    pub(super) engine: E,
    pub(super) labels: Labels,
    pub(super) pieces: Vec<Piece>,
    pub(super) cpus: Interner<Cpu>,
    pub(super) executors: Interner<Executor>,
    pub(super) facts: Vec<Facts>,
    pub(super) envs: Interner<Env>,
    /// History of the site in each environment, shared by those with equal commits.
    pub(super) texts: Vec<Rc<Text>>,
    pub(super) texts_by_commits: FxHashMap<Vec<u8>, Rc<Text>>,
    pub(super) violations: Interner<Vec<Violation>>,
    pub(super) references: FxHashMap<(u32, u8), (u32, u32)>,
    pub(super) memo: Memo,
    pub(super) reduce: bool,
    pub(super) frees_targets: bool,
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
    /// A pass ended.
    pub outcome: Option<PassOutcome>,
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

impl<'p, E: Engine> Model<'p, E> {
    /// The semantics of a plan; `memo` decides how results are remembered, `reduce` whether an executor's
    /// move goes on through instructions that no other actor can tell from their neighbours (see
    /// [`Model::visible`]).
    pub fn new(plan: &'p Plan, engine: E, memo: Memo, reduce: bool) -> Result<Model<'p, E>, MachineError> {
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
            pieces: pieces(plan, COHERENT_ATOM),
            cpus: Interner::default(),
            executors: Interner::default(),
            facts: Vec::new(),
            envs: Interner::default(),
            texts: Vec::new(),
            texts_by_commits: FxHashMap::default(),
            violations,
            references: FxHashMap::default(),
            memo,
            reduce,
            frees_targets: plan.program.iter().any(|op| matches!(op.kind, OpKind::FreeTarget(_))),
        })
    }

    /// The state before the patcher's first step.
    pub fn initial(&mut self) -> Result<State, MachineError> {
        let reduce = std::mem::replace(&mut self.reduce, false);
        let initial = self.initial_state();
        self.reduce = reduce;
        initial
    }

    fn initial_state(&mut self) -> Result<State, MachineError> {
        let env = self.intern_env(Env::initial(self.plan));
        let mut state = State {
            pc: 0,
            nmi: self.plan.events.nmi,
            irq: self.plan.events.irq,
            smi: self.plan.events.smi,
            mce: self.plan.events.mce,
            mask: 0,
            env,
            executors: [0; MAX_CPUS],
        };
        for (slot, executor) in self.plan.executors.iter().enumerate() {
            let entry = self.engine.image().label(match executor.role {
                Role::Loop => "exec_loop",
                Role::Lock => "exec_lock",
                Role::LockIrqOff => "exec_lock_irqoff",
            })?;
            let cpu = Cpu::at(entry, self.plan.site.address, executor.passes, executor.ring == Ring::User);
            let cpu = self.intern_cpu(cpu);
            state.executors[slot] = self.intern_executor(Executor { cpu, monitor: Monitor::default() });
            if let Start::Interior(offset) = executor.start {
                let place = self.plan.site.address + offset as u64;
                for _ in 0..REFERENCE_LIMIT {
                    if self.cpu_of(&state, slot).regs.rip == place {
                        break;
                    }
                    state = self.apply(&state, Move::Execute(slot as u8))?.next;
                }
                let rip = self.cpu_of(&state, slot).regs.rip;
                if rip != place {
                    let what = format!("executor {slot} does not come to site+{offset} by running old");
                    return Err(MachineError::Contract { rip, what });
                }
            }
        }
        Ok(state)
    }

    /// The moves of a state, in a fixed order.
    pub fn moves(&self, state: &State, moves: &mut Vec<Move>) {
        moves.clear();
        self.patcher_moves(state, moves);
        for slot in 0..self.plan.executors.len() {
            let facts = &self.facts[state.executors[slot] as usize];
            let index = slot as u8;
            if !facts.parked {
                moves.push(Move::Execute(index));
            }
            if facts.interrupts_on {
                let pending =
                    FUNCTIONS.into_iter().filter(|&function| facts.pending & function_bit(function) != 0);
                moves.extend(pending.map(|function| Move::Ipi(index, function)));
                if state.irq > 0 {
                    moves.push(Move::Irq(index));
                }
            }
            // Raised while unmasked, an NMI is delivered at once: holding it back is raising it later. Only
            // while NMIs are masked is raising a move of its own; a second one then coalesces.
            if facts.nmi_masked {
                if !facts.nmi_latched && state.nmi > 0 {
                    moves.push(Move::RaiseNmi(index));
                }
            } else if facts.nmi_latched || state.nmi > 0 {
                moves.push(Move::Nmi(index));
            }
            if state.smi > 0 {
                moves.push(Move::Smi(index));
            }
            // Nothing masks a machine check; one during another would shut the CPU down, and is not explored.
            if state.mce > 0 && !self.monitor_of(state, slot).inside(vector::MC) {
                moves.push(Move::MachineCheck(index));
            }
        }
    }

    /// Performs a move.
    pub fn apply(&mut self, state: &State, step: Move) -> Result<Applied, MachineError> {
        match step {
            Move::Patcher => self.apply_patcher(state),
            Move::Piece(piece) => self.apply_piece(state, piece),
            Move::Observe(slot) => {
                let next = State { mask: state.mask | 1 << slot, ..*state };
                Ok(Applied::quiet(next, false))
            }
            Move::RaiseNmi(slot) => {
                let mut executor = self.executors.get(state.executors[usize::from(slot)]).clone();
                executor.monitor.nmi_latched = true;
                let mut next = State { nmi: state.nmi - 1, ..*state };
                next.executors[usize::from(slot)] = self.intern_executor(executor);
                Ok(Applied::quiet(next, false))
            }
            Move::Execute(slot)
            | Move::Ipi(slot, _)
            | Move::Nmi(slot)
            | Move::Irq(slot)
            | Move::Smi(slot)
            | Move::MachineCheck(slot) => {
                let slot = usize::from(slot);
                let outcome = self.executor_step(slot, state.executors[slot], state.env, step)?;
                let mut next = State { env: outcome.env, ..*state };
                next.executors[slot] = outcome.executor;
                match step {
                    Move::Irq(_) => next.irq -= 1,
                    Move::Smi(_) => next.smi -= 1,
                    Move::MachineCheck(_) => next.mce -= 1,
                    Move::Nmi(_) if !self.facts[state.executors[slot] as usize].nmi_latched => next.nmi -= 1,
                    _ => {}
                }
                Ok(Applied {
                    next,
                    violations: outcome.violations,
                    ended: outcome.ended,
                    writes: outcome.writes,
                    outcome: outcome.outcome,
                })
            }
        }
    }

    /// The single-instruction moves behind the moves of a reduced schedule, up to the one that violates
    /// `property` (to the end for properties that belong to the graph).
    pub fn expand(&mut self, schedule: &[Move], property: Property) -> Result<Vec<Move>, MachineError> {
        let mut state = self.initial()?;
        let reduce = std::mem::replace(&mut self.reduce, false);
        let mut moves = Vec::new();
        let mut run = |model: &mut Self| -> Result<(), MachineError> {
            for &step in schedule {
                let mut next = Some(step);
                while let Some(step) = next.take() {
                    let applied = model.apply(&state, step)?;
                    state = applied.next;
                    moves.push(step);
                    let shown =
                        model.violations(applied.violations).iter().any(|found| found.property == property);
                    if applied.ended || shown {
                        return Ok(());
                    }
                    let more =
                        |slot: &u8| reduce && !model.visible(state.executors[usize::from(*slot)], state.env);
                    next = step.executor().filter(more).map(Move::Execute);
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
        usize::from(state.pc) == self.plan.program.len()
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
        parts[0] = self.envs.digest(state.env);
        for (slot, part) in parts[1..=self.plan.executors.len()].iter_mut().enumerate() {
            *part = self.executors.digest(state.executors[slot]);
        }
        let budgets = (state.nmi, state.irq, state.smi, state.mce);
        content_digest(&(state.pc, budgets, state.mask, &parts[..=self.plan.executors.len()]))
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
    pub fn engine(&self) -> &E {
        &self.engine
    }

    /// The vCPU of an executor.
    pub fn cpu_of(&self, state: &State, slot: usize) -> &Cpu {
        self.cpus.get(self.executors.get(state.executors[slot]).cpu)
    }

    /// The bookkeeping of an executor.
    pub fn monitor_of(&self, state: &State, slot: usize) -> &Monitor {
        &self.executors.get(state.executors[slot]).monitor
    }

    /// The environment of a state.
    pub fn env_of(&self, state: &State) -> &Env {
        self.envs.get(state.env)
    }

    /// Name of a pass label.
    pub fn pass_context(&self, label: u8) -> &str {
        &self.labels.passes[usize::from(label)].context
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
    pub fn text(&self, env: u32) -> Rc<Text> {
        Rc::clone(&self.texts[env as usize])
    }
}

impl Applied {
    pub(super) fn quiet(next: State, writes: bool) -> Applied {
        Applied { next, violations: 0, ended: false, writes, outcome: None }
    }
}
