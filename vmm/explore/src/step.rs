//! One executor's move: fetch, checks, the step on the engine, bookkeeping.

use crossmod_abi::vector;
use crossmod_model::plan::Function;
use crossmod_model::property::{self, Fetch, Violation};
use crossmod_model::state::ghost::{Context, Executor, function_bit, function_number, function_vector};
use crossmod_model::state::shared_state::SharedState;
use crossmod_model::step::{Landing, Stimulus};
use crossmod_model::x86::cpu::{Cpu, reg};
use crossmod_model::x86::decode::{self, INT3};

use super::access::{Touched, load, read_text, read_word, store_of, touched};
use super::engine::Executed;
use super::future_effects::FutureEffects;
use super::memo::{Outcome, StepKey, StepResult};
use super::model::{INVISIBLE_LIMIT, Model};
use super::state::{Global, Transition};
use crate::error::EngineError;

/// In place of a vector, in [`StepKey::event`].
const SMI: u8 = 0xff;

impl Model<'_> {
    /// An executor's move, remembered or computed.
    pub(super) fn executor_step(
        &mut self,
        slot: usize,
        executor: u32,
        env: u32,
        step: Transition,
        phase: FutureEffects,
    ) -> Result<Outcome, EngineError> {
        self.memo.stats.moves += 1;
        let phase = self.reduce.then_some(phase);
        if !self.memo.enabled() {
            return self.compute(slot, executor, env, step, phase, true);
        }
        // The slot takes no part: identical executors share their outcomes.
        let key = (executor, env, step.of(0), phase);
        if let Some(&known) = self.memo.outcomes.get(&key) {
            self.memo.stats.outcome_hits += 1;
            if self.memo.sample() {
                self.execute_again(slot, executor, env, step, phase, known)?;
            }
            return Ok(known);
        }
        let outcome = self.compute(slot, executor, env, step, phase, false)?;
        self.memo.outcomes.insert(key, outcome);
        Ok(outcome)
    }

    /// Executes a remembered move again; a difference is an error of the harness.
    fn execute_again(
        &mut self,
        slot: usize,
        executor: u32,
        env: u32,
        step: Transition,
        phase: Option<FutureEffects>,
        known: Outcome,
    ) -> Result<(), EngineError> {
        self.memo.stats.rechecked += 1;
        let again = self.compute(slot, executor, env, step, phase, true)?;
        if again == known {
            return Ok(());
        }
        let rip = self.cpus.get(self.executors.get(executor).cpu).regs.rip;
        let what = format!("a remembered transition differs when executed again: {known:?}, {again:?}");
        Err(EngineError::Contract { rip, what })
    }

    /// Executes every move of an executor again and compares it with what is remembered.
    pub(super) fn recheck(&mut self, global: &Global, executor: u32) -> Result<(), EngineError> {
        for step in self.executor_moves(global, executor)? {
            if step.executor().is_none() {
                continue;
            }
            let rate = self.memo.set_rate(1);
            let result = self.executor_move(global, 0, executor, step);
            self.memo.set_rate(rate);
            result?;
        }
        Ok(())
    }

    /// A move of an executor; with reduction, through the invisible instructions behind it.
    fn compute(
        &mut self,
        slot: usize,
        executor: u32,
        env: u32,
        step: Transition,
        phase: Option<FutureEffects>,
        live: bool,
    ) -> Result<Outcome, EngineError> {
        let mut outcome = self.single(slot, executor, env, step, live)?;
        let Some(phase) = phase else { return Ok(outcome) };
        for _ in 1..INVISIBLE_LIMIT {
            if outcome.ended {
                break;
            }
            let Some(view) = self.invisible(outcome.executor, outcome.env, &phase)? else { break };
            let more = Transition::Execute(slot as u8, view);
            let more = self.single(slot, outcome.executor, outcome.env, more, live)?;
            if more.ended {
                // What ends an execution keeps everything else from happening: it is a move of its own.
                break;
            }
            let mut violations = self.violations.get(outcome.violations).clone();
            violations.extend_from_slice(self.violations.get(more.violations));
            outcome = Outcome {
                violations: self.intern_violations(violations),
                writes: outcome.writes || more.writes,
                ..more
            };
        }
        Ok(outcome)
    }

    fn single(
        &mut self,
        slot: usize,
        executor: u32,
        env: u32,
        step: Transition,
        live: bool,
    ) -> Result<Outcome, EngineError> {
        let before = self.executors.get(executor).clone();
        match step {
            Transition::Ipi(_, function) => {
                let mut after = before.clone();
                after.ghost.pending &= !function_bit(function);
                let env = self.received(env, after.ghost.class, function);
                self.deliver(slot, after, env, function_vector(function), live)
            }
            Transition::Irq(_) => self.deliver(slot, before, env, vector::IRQ, live),
            Transition::MachineCheck(_) => self.deliver(slot, before, env, vector::MC, live),
            Transition::Smi(_) => self.smi(slot, before, env, live),
            Transition::Nmi(_) => {
                let mut after = before;
                after.ghost.nmi_latched = false;
                let env = self.received(env, after.ghost.class, Function::Nmi);
                if let Some(violation) = property::nmi_frame_at_delivery(&after.ghost) {
                    return Ok(self.ended(executor, env, vec![violation]));
                }
                self.deliver(slot, after, env, vector::NMI, live)
            }
            Transition::Execute(_, view) => self.instruction(slot, executor, before, env, view, live),
            Transition::Patcher | Transition::Piece(_) | Transition::Observe(_) | Transition::RaiseNmi(_) => {
                Ok(Outcome::quiet(executor, env))
            }
        }
    }

    fn ended(&mut self, executor: u32, env: u32, violations: Vec<Violation>) -> Outcome {
        let violations = self.intern_violations(violations);
        Outcome { executor, env, violations, ended: true, writes: false }
    }

    fn deliver(
        &mut self,
        slot: usize,
        mut executor: Executor,
        env: u32,
        vector: u8,
        live: bool,
    ) -> Result<Outcome, EngineError> {
        let cpu = self.cpus.get(executor.cpu).clone();
        let stimulus = match vector {
            vector::NMI => Stimulus::Nmi,
            vector::MC => Stimulus::MachineCheck,
            _ => Stimulus::Interrupt(vector),
        };
        let key = StepKey { cpu: executor.cpu, event: vector, len: 0, bytes: [0; 15], shared: 0 };
        let text = self.text(env);
        let result =
            self.execute(slot, &cpu, stimulus, text.current(), env, key, Touched::default(), live)?;
        if result.landing != Landing::Handler(vector) {
            let what = format!("delivery of vector {vector:#x} ended in {:?}", result.landing);
            return Err(EngineError::Contract { rip: cpu.regs.rip, what });
        }
        executor.cpu = result.cpu;
        let frame = self.cpus.get(result.cpu).regs.gpr[reg::RSP];
        executor.ghost.contexts.push(Context { vector, frame, foreign: false });
        Ok(Outcome::quiet(self.intern_executor(executor), env))
    }

    /// An executor that stands before the site, once an INT3 of an earlier modification has trapped there. KVM executes
    /// it; it is gone again before the first move.
    pub(super) fn trap(&mut self, slot: usize, executor: u32, env: u32) -> Result<u32, EngineError> {
        let mut after = self.executors.get(executor).clone();
        let cpu = self.cpus.get(after.cpu).clone();
        let rip = cpu.regs.rip;
        let mut seen = self.text(env).current().to_vec();
        seen[(rip - self.plan.site.address) as usize] = INT3;
        let mut key = StepKey { cpu: after.cpu, event: 0, len: 1, bytes: [0; 15], shared: 0 };
        key.bytes[0] = INT3;
        let result =
            self.execute(slot, &cpu, Stimulus::Breakpoint, &seen, env, key, Touched::default(), false)?;
        if result.landing != Landing::Handler(vector::BP) {
            let what = format!("an INT3 ended in {:?}", result.landing);
            return Err(EngineError::Contract { rip, what });
        }
        self.begin_pass(&mut after.ghost, env);
        self.trapped(&mut after, result.cpu, rip);
        Ok(self.intern_executor(after))
    }

    /// The #BP handler is under way, of an INT3 at an address.
    fn trapped(&self, executor: &mut Executor, cpu: u32, rip: u64) {
        executor.cpu = cpu;
        let frame = self.cpus.get(cpu).regs.gpr[reg::RSP];
        let at_site = self.plan.site.contains(rip);
        executor.ghost.contexts.push(Context { vector: vector::BP, frame, foreign: !at_site });
        if let (true, Some(pass)) = (at_site, executor.ghost.passes.last_mut()) {
            pass.trapped = true;
        }
    }

    /// The environment once a message that a program sent has been delivered.
    fn received(&mut self, env: u32, class: u8, function: Function) -> u32 {
        let bit = SharedState::sent_bit(self.slot_of(class), function_number(function));
        if self.envs.get(env).sent & bit == 0 {
            return env;
        }
        let mut changed = self.envs.get(env).clone();
        changed.sent &= !bit;
        self.intern_env(changed)
    }

    /// The first slot of a class.
    pub(super) fn slot_of(&self, class: u8) -> usize {
        self.classes.iter().position(|&other| other == class).unwrap_or_default()
    }

    /// An SMI, from its arrival to the end of its RSM: the vCPU is as before, and has serialised (SDM vol. 3, 9.3;
    /// APM vol. 2, 7.6.4). Where KVM has no SMM, the engine leaves it as it is without executing anything.
    fn smi(
        &mut self,
        slot: usize,
        mut executor: Executor,
        env: u32,
        live: bool,
    ) -> Result<Outcome, EngineError> {
        let cpu = self.cpus.get(executor.cpu).clone();
        let key = StepKey { cpu: executor.cpu, event: SMI, len: 0, bytes: [0; 15], shared: 0 };
        let text = self.text(env);
        let result =
            self.execute(slot, &cpu, Stimulus::Smi, text.current(), env, key, Touched::default(), live)?;
        if result.landing != Landing::Boundary || result.cpu != executor.cpu {
            let what = format!("an SMI came back to another state, {:?}", result.landing);
            return Err(EngineError::Contract { rip: cpu.regs.rip, what });
        }
        executor.ghost.serialise(text.commits.len() as u8);
        Ok(Outcome::quiet(self.intern_executor(executor), env))
    }

    fn instruction(
        &mut self,
        slot: usize,
        number: u32,
        mut before: Executor,
        env: u32,
        view: u8,
        live: bool,
    ) -> Result<Outcome, EngineError> {
        let cpu = self.cpus.get(before.cpu).clone();
        let rip = cpu.regs.rip;
        let text = self.text(env);
        let views = self.views(number, env)?;
        let view = views.as_ref().and_then(|views| views.get(usize::from(view)));
        let seen = view.map_or(text.current(), |view| &view.site);
        if let Some(view) = view {
            before.ghost.clocks.clone_from(&view.clocks);
            self.begin_pass(&mut before.ghost, env);
        }
        let Some(window) = self.window(rip, seen) else {
            return Ok(self.ended(
                number,
                env,
                vec![property::wrong_resume_at_fault("a jump to nowhere", rip)],
            ));
        };
        let decoded = decode::decode(window.bytes(), rip);
        let site = &self.plan.site;
        let version = site
            .contains(rip)
            .then(|| property::version_at(site, (rip - site.address) as usize, window.bytes()));
        let mut violations = property::at_fetch(&Fetch {
            plan: self.plan,
            env: self.envs.get(env),
            text: &text,
            ghost: &before.ghost,
            rip,
            bytes: window.bytes(),
            instruction: decoded.as_ref(),
            version,
        });
        if self.plan.programs.patch() {
            // Another vCPU's store may have taken the place from under it.
            violations.extend(property::interior_at_step(self.plan, &text, rip));
        }
        let Some(instruction) = decoded else {
            if !violations.iter().any(Violation::ends) {
                violations.push(property::wrong_resume_at_fault("an invalid instruction", rip));
            }
            return Ok(self.ended(number, env, violations));
        };
        if let Some(pass) = before.ghost.passes.last()
            && usize::from(pass.depth) == before.ghost.contexts.len()
            && !self.engine.image().contains(rip)
        {
            let (rsp, rise) = (cpu.regs.gpr[reg::RSP], instruction.stack_pointer_increment());
            violations.extend(property::wrong_resume_at_stack(rsp, rise, self.cpus.get(pass.entry)));
        }
        let accesses = decode::accesses(&instruction, &cpu.regs);
        violations.extend(
            accesses.iter().find_map(|access| property::lifetime_at_access(self.envs.get(env), access)),
        );
        if violations.iter().any(Violation::ends) {
            return Ok(self.ended(number, env, violations));
        }
        let access = touched(&instruction, &accesses, rip, site)?;
        let memory = self.envs.get(env).shared;
        let expected = decode::successors(&instruction, &cpu, |at| load(&cpu, &memory, at));
        let stimulus = if decode::is_int3(&instruction) {
            Stimulus::Breakpoint
        } else if decode::needs_planted_stop(&instruction) {
            let Some(&to) = expected.first() else {
                let what = format!("`{}` has no known successor", decode::format(&instruction));
                return Err(EngineError::Contract { rip, what });
            };
            if self.window(to, text.current()).is_none() {
                violations.push(property::wrong_resume_at_fault("a return to nowhere", to));
                return Ok(self.ended(number, env, violations));
            }
            Stimulus::InstructionTo(to)
        } else {
            Stimulus::Instruction
        };
        let mut key =
            StepKey { cpu: before.cpu, event: 0, len: instruction.len() as u8, bytes: [0; 15], shared: 0 };
        key.bytes[..instruction.len()].copy_from_slice(&window.bytes()[..instruction.len()]);
        if let Some(access) = access.shared.filter(|access| access.reads) {
            key.shared = read_word(&memory, access);
        }
        if let Some(access) = access.text.filter(|access| access.reads) {
            key.shared = read_text(&text.data, access, site);
        }
        let result = self.execute(slot, &cpu, stimulus, seen, env, key, access, live)?;

        let mut after = Executor { cpu: result.cpu, ghost: before.ghost };
        let landed = self.cpus.get(result.cpu).clone();
        match result.landing {
            Landing::Boundary if expected.contains(&landed.regs.rip) => {}
            Landing::Handler(vector::BP) if stimulus == Stimulus::Breakpoint => {
                self.trapped(&mut after, result.cpu, rip);
            }
            Landing::Handler(fault) if !self.engine.image().contains(rip) => {
                let what = format!("`{}` raises {}", decode::format(&instruction), fault_name(fault));
                violations.push(property::wrong_resume_at_fault(&what, rip));
                return Ok(self.ended(number, env, violations));
            }
            landing => {
                let expected: Vec<String> = expected.iter().map(|at| format!("{at:#x}")).collect();
                return Err(EngineError::Misstep {
                    instruction: decode::format(&instruction),
                    from: rip,
                    rip: landed.regs.rip,
                    expected: format!("{} ({landing:?})", expected.join(" or ")),
                });
            }
        }
        let mut next_env = env;
        if let Some((offset, len, value)) = result.store {
            let mut changed = self.envs.get(env).clone();
            let at = usize::from(offset);
            changed.shared[at..at + usize::from(len)]
                .copy_from_slice(&value.to_le_bytes()[..usize::from(len)]);
            self.device(&mut changed, rip, u64::from(offset), value)?;
            next_env = self.intern_env(changed);
        }
        let writes_text = access.text.is_some_and(|access| access.writes);
        if writes_text {
            next_env = self.store_to_site(next_env, rip, &mut after)?;
        }
        if decode::serialises(&instruction, self.plan.rule) {
            after.ghost.serialise(text.commits.len() as u8);
        }
        self.call_pass(&mut after, &cpu);
        self.note_version(&mut after, rip, version);
        violations.extend(self.arrive(&mut after, &instruction, &landed));
        violations.extend(property::interior_at_step(self.plan, &text, landed.regs.rip));
        violations.extend(self.end_pass(&mut after, &landed)?);
        let failed = self.plan.programs.checks.iter().any(|check| check.at == landed.regs.rip);
        let ended = failed || violations.iter().any(Violation::ends);
        let violations = self.intern_violations(violations);
        let executor = self.intern_executor(after);
        Ok(Outcome {
            executor,
            env: next_env,
            violations,
            ended,
            writes: result.store.is_some() || writes_text,
        })
    }

    /// Executes a step, or finds it among the remembered ones.
    #[expect(clippy::too_many_arguments)]
    fn execute(
        &mut self,
        slot: usize,
        cpu: &Cpu,
        stimulus: Stimulus,
        seen: &[u8],
        env: u32,
        key: StepKey,
        access: Touched,
        live: bool,
    ) -> Result<StepResult, EngineError> {
        if !live && let Some(&known) = self.memo.steps.get(&key) {
            self.memo.stats.step_hits += 1;
            return Ok(known);
        }
        self.memo.stats.executed += 1;
        let memory = self.envs.get(env).shared;
        let text = self.text(env);
        let data = access.text.map(|_| &text.data[..]);
        let Executed { cpu: after, landing, shared } =
            self.engine.execute(slot, cpu, stimulus, seen, &memory, data)?;
        if access.text.is_some_and(|access| access.writes) {
            self.stored_as_planned(cpu.regs.rip, &text.data)?;
        }
        let store = store_of(&memory, &shared, access.shared)
            .map_err(|what| EngineError::Contract { rip: cpu.regs.rip, what })?;
        let result = StepResult { cpu: self.intern_cpu(after), landing, store };
        if self.memo.enabled() {
            self.memo.steps.insert(key, result);
        }
        Ok(result)
    }
}

/// Name of an exception vector.
pub fn fault_name(number: u8) -> &'static str {
    match number {
        vector::DE => "#DE",
        vector::BP => "#BP",
        vector::DB => "#DB",
        vector::UD => "#UD",
        vector::GP => "#GP",
        vector::PF => "#PF",
        vector::DF => "#DF",
        _ => "an interrupt",
    }
}
