//! One executor's move: fetch, checks, the step on the engine, bookkeeping.

use crossmod_abi::{PAGE, private, shared, va, vector};
use iced_x86::{Instruction, Mnemonic};

use super::engine::{Engine, Executed};
use super::env::Text;
use super::memo::{Outcome, StepKey, StepResult};
use super::model::{Model, PassOutcome, REFERENCE_LIMIT};
use super::monitor::{Context, Executor, Pass, function_bit, function_vector};
use super::state::Move;
use crate::cpu::{Cpu, reg};
use crate::decode::{self, Access, FETCH_WINDOW};
use crate::machine::{
    FILLER, Landing, MachineError, SHARED_LEN, Shared, Stimulus, in_landing_window, in_site_pages, pad_code,
};
use crate::plan::{Plan, Site};
use crate::property::{self, Fetch, Version, Violation};

/// What a vCPU sees at an address: up to 15 bytes.
#[derive(Debug, Clone, Copy)]
pub struct Window {
    bytes: [u8; FETCH_WINDOW],
    len: usize,
}

impl Window {
    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl<E: Engine> Model<'_, E> {
    /// The bytes at `rip` as a vCPU sees them that sees `site` as the site; `None` where no code is mapped.
    pub fn window(&self, rip: u64, site: &[u8]) -> Option<Window> {
        let mut window = Window { bytes: [FILLER; FETCH_WINDOW], len: FETCH_WINDOW };
        let image = self.engine.image();
        if image.contains(rip) {
            let code = image.code(rip);
            window.bytes[..code.len()].copy_from_slice(code);
            window.len = code.len();
        } else if in_site_pages(rip) || in_landing_window(rip) {
            let put = |window: &mut Window, start: u64, code: &[u8], same: fn(u64) -> u64| {
                for (index, &byte) in code.iter().enumerate() {
                    let distance = same(start + index as u64).wrapping_sub(same(rip));
                    if let Some(slot) = window.bytes.get_mut(distance as usize) {
                        *slot = byte;
                    }
                }
            };
            for pad in &self.plan.pads {
                let here = in_site_pages(rip);
                if here == in_site_pages(pad.address) {
                    // Outside the site pages every address shows the one landing page.
                    let same: fn(u64) -> u64 = if here { |at| at } else { |at| at % PAGE };
                    put(&mut window, pad.address, &pad_code(pad.mark), same);
                }
            }
            put(&mut window, self.plan.site.address, site, |at| at);
        } else {
            return None;
        }
        Some(window)
    }

    /// An executor's move, remembered or computed.
    pub(super) fn executor_step(
        &mut self,
        slot: usize,
        executor: u32,
        env: u32,
        step: Move,
    ) -> Result<Outcome, MachineError> {
        self.memo.stats.moves += 1;
        if !self.memo.enabled() {
            return self.compute(slot, executor, env, step, true);
        }
        // The slot takes no part: identical executors share their outcomes.
        let key = (executor, env, step.encode() & 0xff00 | u16::from(self.reduce));
        if let Some(&known) = self.memo.outcomes.get(&key) {
            self.memo.stats.outcome_hits += 1;
            if self.memo.sample() {
                self.memo.stats.rechecked += 1;
                let again = self.compute(slot, executor, env, step, true)?;
                if again != known {
                    let rip = self.cpus.get(self.executors.get(executor).cpu).regs.rip;
                    let what =
                        format!("a remembered transition differs when executed again: {known:?}, {again:?}");
                    return Err(MachineError::Contract { rip, what });
                }
            }
            return Ok(known);
        }
        let outcome = self.compute(slot, executor, env, step, false)?;
        self.memo.outcomes.insert(key, outcome);
        Ok(outcome)
    }

    /// Whether other actors can tell if they move before or after the executor's next instruction, or the
    /// instruction changes what may be delivered to it.
    ///
    /// An invisible instruction touches registers and the private stack only, and every handler leaves
    /// both as it found them: it commutes with every other actor's move and with the delivery of any event
    /// to its own vCPU. Looking for events and other actors only before visible instructions therefore loses
    /// no outcome and no violation. Visible are: fetches at the site, accesses to the shared page and to
    /// the acknowledgement, serialising instructions (they take in what is committed), returns from
    /// handlers, changes of the interrupt flag, the CALL that begins a pass (it notes whether the patcher has
    /// completed), and landing pads if the plan withdraws one.
    pub fn visible(&self, executor: u32, env: u32) -> bool {
        let executor = self.executors.get(executor);
        let cpu = self.cpus.get(executor.cpu);
        let rip = cpu.regs.rip;
        let image = self.engine.image().contains(rip);
        if rip == self.labels.park
            || rip == self.labels.refusal
            || self.plan.site.contains(rip)
            || self.labels.passes.iter().any(|pass| pass.begin == rip)
            || (!image && self.frees_targets)
        {
            return true;
        }
        let text = &self.texts[env as usize];
        let Some(instruction) =
            self.window(rip, text.current()).and_then(|window| decode::decode(window.bytes(), rip))
        else {
            return true;
        };
        let private = |access: &Access| {
            let (start, end) = (va::PRIVATE + private::TASK_STACK, va::PRIVATE + private::STATE_END);
            access.address >= start && access.address + access.size as u64 <= end
        };
        decode::serialises(&instruction, self.plan.rule)
            || matches!(
                instruction.mnemonic(),
                Mnemonic::Iretq | Mnemonic::Int3 | Mnemonic::Cli | Mnemonic::Sti | Mnemonic::Popfq
            )
            || !decode::accesses(&instruction, &cpu.regs).iter().all(private)
    }

    /// A move of an executor; with reduction, through the invisible instructions behind it.
    fn compute(
        &mut self,
        slot: usize,
        executor: u32,
        env: u32,
        step: Move,
        live: bool,
    ) -> Result<Outcome, MachineError> {
        let mut outcome = self.single(slot, executor, env, step, live)?;
        if !self.reduce {
            return Ok(outcome);
        }
        for _ in 0..REFERENCE_LIMIT {
            if outcome.ended || self.visible(outcome.executor, outcome.env) {
                return Ok(outcome);
            }
            let more = self.single(slot, outcome.executor, outcome.env, Move::Execute(slot as u8), live)?;
            let mut violations = self.violations.get(outcome.violations).clone();
            violations.extend_from_slice(self.violations.get(more.violations));
            outcome = Outcome {
                violations: self.intern_violations(violations),
                writes: outcome.writes || more.writes,
                outcome: more.outcome.or(outcome.outcome),
                ..more
            };
        }
        let rip = self.cpus.get(self.executors.get(outcome.executor).cpu).regs.rip;
        Err(MachineError::Contract { rip, what: "endless code without a visible instruction".into() })
    }

    fn single(
        &mut self,
        slot: usize,
        executor: u32,
        env: u32,
        step: Move,
        live: bool,
    ) -> Result<Outcome, MachineError> {
        let before = self.executors.get(executor).clone();
        match step {
            Move::Ipi(_, function) => {
                let mut after = before.clone();
                after.monitor.pending &= !function_bit(function);
                self.deliver(slot, after, env, function_vector(function), live)
            }
            Move::Irq(_) => self.deliver(slot, before, env, vector::IRQ, live),
            Move::Nmi(_) => {
                let mut after = before;
                after.monitor.nmi_latched = false;
                if let Some(violation) = property::nmi_frame_at_delivery(&after.monitor) {
                    return Ok(self.ended(executor, env, vec![violation]));
                }
                self.deliver(slot, after, env, vector::NMI, live)
            }
            _ => self.instruction(slot, executor, before, env, live),
        }
    }

    fn ended(&mut self, executor: u32, env: u32, violations: Vec<Violation>) -> Outcome {
        let violations = self.intern_violations(violations);
        Outcome { executor, env, violations, ended: true, writes: false, outcome: None }
    }

    fn deliver(
        &mut self,
        slot: usize,
        mut executor: Executor,
        env: u32,
        vector: u8,
        live: bool,
    ) -> Result<Outcome, MachineError> {
        let cpu = self.cpus.get(executor.cpu).clone();
        let stimulus = if vector == vector::NMI { Stimulus::Nmi } else { Stimulus::Interrupt(vector) };
        let key = StepKey { cpu: executor.cpu, event: vector, len: 0, bytes: [0; 15], shared: 0 };
        let result = self.execute(slot, &cpu, stimulus, env, key, None, live)?;
        if result.landing != Landing::Handler(vector) {
            let what = format!("delivery of vector {vector:#x} ended in {:?}", result.landing);
            return Err(MachineError::Contract { rip: cpu.regs.rip, what });
        }
        executor.cpu = result.cpu;
        let frame = self.cpus.get(result.cpu).regs.gpr[reg::RSP];
        executor.monitor.contexts.push(Context { vector, frame });
        let executor = self.intern_executor(executor);
        Ok(Outcome { executor, env, violations: 0, ended: false, writes: false, outcome: None })
    }

    fn instruction(
        &mut self,
        slot: usize,
        number: u32,
        before: Executor,
        env: u32,
        live: bool,
    ) -> Result<Outcome, MachineError> {
        let cpu = self.cpus.get(before.cpu).clone();
        let rip = cpu.regs.rip;
        let text = self.text(env);
        let Some(window) = self.window(rip, text.current()) else {
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
            monitor: &before.monitor,
            rip,
            bytes: window.bytes(),
            instruction: decoded.as_ref(),
            version,
        });
        let Some(instruction) = decoded else {
            if !violations.iter().any(Violation::ends) {
                violations.push(property::wrong_resume_at_fault("an invalid instruction", rip));
            }
            return Ok(self.ended(number, env, violations));
        };
        if let Some(pass) = before.monitor.passes.last()
            && usize::from(pass.depth) == before.monitor.contexts.len()
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
        let access = shared_access(&instruction, &accesses, rip)?;
        let memory = self.envs.get(env).shared;
        let expected = decode::successors(&instruction, &cpu, |at| load(&cpu, &memory, at));
        let stimulus = if decode::is_int3(&instruction) {
            Stimulus::Breakpoint
        } else if decode::needs_planted_stop(&instruction) {
            let Some(&to) = expected.first() else {
                let what = format!("`{}` has no known successor", decode::format(&instruction));
                return Err(MachineError::Contract { rip, what });
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
        if let Some(access) = access.filter(|access| access.reads) {
            key.shared = read_word(&memory, access);
        }
        let result = self.execute(slot, &cpu, stimulus, env, key, access, live)?;

        let mut after = Executor { cpu: result.cpu, monitor: before.monitor };
        let landed = self.cpus.get(result.cpu).clone();
        match result.landing {
            Landing::Boundary if expected.contains(&landed.regs.rip) => {}
            Landing::Handler(vector::BP) if stimulus == Stimulus::Breakpoint => {
                let frame = landed.regs.gpr[reg::RSP];
                after.monitor.contexts.push(Context { vector: vector::BP, frame });
                if let (true, Some(pass)) = (site.contains(rip), after.monitor.passes.last_mut()) {
                    pass.trapped = true;
                }
            }
            Landing::Handler(fault) if !self.engine.image().contains(rip) => {
                let what = format!("`{}` raises {}", decode::format(&instruction), fault_name(fault));
                violations.push(property::wrong_resume_at_fault(&what, rip));
                return Ok(self.ended(number, env, violations));
            }
            landing => {
                let expected: Vec<String> = expected.iter().map(|at| format!("{at:#x}")).collect();
                return Err(MachineError::Misstep {
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
            next_env = self.intern_env(changed);
        }
        if instruction.mnemonic() == Mnemonic::Iretq {
            after.monitor.contexts.pop();
        }
        if decode::serialises(&instruction, self.plan.rule) {
            after.monitor.serialised = text.commits.len() as u8;
        }
        self.begin_pass(&mut after, &cpu, env);
        self.note_version(&mut after, version);
        violations.extend(property::unclaimed_trap_at_step(landed.regs.rip, self.labels.refusal));
        violations.extend(property::interior_at_step(self.plan, &text, landed.regs.rip));
        let (outcome, found) = self.end_pass(&mut after, &landed)?;
        violations.extend(found);
        let ended = violations.iter().any(Violation::ends);
        let violations = self.intern_violations(violations);
        let executor = self.intern_executor(after);
        Ok(Outcome { executor, env: next_env, violations, ended, writes: result.store.is_some(), outcome })
    }

    /// Executes a step, or finds it among the remembered ones.
    #[expect(clippy::too_many_arguments)]
    fn execute(
        &mut self,
        slot: usize,
        cpu: &Cpu,
        stimulus: Stimulus,
        env: u32,
        key: StepKey,
        access: Option<Access>,
        live: bool,
    ) -> Result<StepResult, MachineError> {
        if !live && let Some(&known) = self.memo.steps.get(&key) {
            self.memo.stats.step_hits += 1;
            return Ok(known);
        }
        self.memo.stats.executed += 1;
        let text = self.text(env);
        let memory = self.envs.get(env).shared;
        let Executed { cpu: after, landing, shared } =
            self.engine.execute(slot, cpu, stimulus, text.current(), &memory)?;
        let store = store_of(&memory, &shared, access)
            .map_err(|what| MachineError::Contract { rip: cpu.regs.rip, what })?;
        let result = StepResult { cpu: self.intern_cpu(after), landing, store };
        if self.memo.enabled() {
            self.memo.steps.insert(key, result);
        }
        Ok(result)
    }

    fn begin_pass(&mut self, executor: &mut Executor, cpu: &Cpu, env: u32) {
        let Some(label) = self.labels.passes.iter().position(|pass| pass.begin == cpu.regs.rip) else {
            return;
        };
        let entry = self.intern_cpu(cpu.without_ack());
        let monitor = &mut executor.monitor;
        monitor.passes.push(Pass {
            label: label as u8,
            entry,
            new_before: monitor.seen_new,
            after_done: self.envs.get(env).done,
            ran_new: false,
            trapped: false,
            depth: monitor.contexts.len() as u8,
        });
    }

    /// At a several-instruction site: new code was run in this pass.
    fn note_version(&self, executor: &mut Executor, version: Option<Version>) {
        let Site { old, new, .. } = &self.plan.site;
        let several = old.boundaries.len() > 1 || new.boundaries.len() > 1;
        if let (true, Some(Version::New), Some(pass)) = (several, version, executor.monitor.passes.last_mut())
        {
            pass.ran_new = true;
        }
    }

    /// If the step ended the innermost pass: its outcome.
    fn end_pass(
        &mut self,
        executor: &mut Executor,
        landed: &Cpu,
    ) -> Result<(Option<PassOutcome>, Vec<Violation>), MachineError> {
        let monitor = &mut executor.monitor;
        let Some(pass) = monitor.passes.last().cloned() else { return Ok((None, Vec::new())) };
        let label = &self.labels.passes[usize::from(pass.label)];
        if landed.regs.rip != label.end || monitor.contexts.len() != usize::from(pass.depth) {
            return Ok((None, Vec::new()));
        }
        monitor.passes.pop();
        let (old, new) = self.references(pass.entry, pass.label)?;
        let (is_old, is_new, violation) =
            property::wrong_resume_at_pass_end(&landed.without_ack(), self.cpus.get(old), self.cpus.get(new));
        let mut violations: Vec<Violation> = violation.into_iter().collect();
        match (is_old, is_new) {
            (true, false) => violations.extend(property::order_at_pass_end(&pass)),
            (false, true) => executor.monitor.seen_new = true,
            _ => {}
        }
        let outcome = PassOutcome { label: pass.label, old: is_old, new: is_new, trapped: pass.trapped };
        Ok((Some(outcome), violations))
    }

    /// The ends of a pass from this entry when old, or new, runs alone.
    fn references(&mut self, entry: u32, label: u8) -> Result<(u32, u32), MachineError> {
        if let Some(&known) = self.references.get(&(entry, label)) {
            return Ok(known);
        }
        let plan: &Plan = self.plan;
        let old = self.run_alone(entry, label, &plan.site.old.bytes, "old")?;
        let new = self.run_alone(entry, label, &plan.site.new.bytes, "new")?;
        self.references.insert((entry, label), (old, new));
        Ok((old, new))
    }

    fn run_alone(&mut self, entry: u32, label: u8, text: &[u8], name: &str) -> Result<u32, MachineError> {
        let start = self.cpus.get(entry).clone();
        let end = self.labels.passes[usize::from(label)].end;
        let mut cpu = start.clone();
        for _ in 0..REFERENCE_LIMIT {
            if cpu.regs.rip == end && cpu.regs.gpr[reg::RSP] == start.regs.gpr[reg::RSP] {
                return Ok(self.intern_cpu(cpu));
            }
            let rip = cpu.regs.rip;
            let lost = |what: &str| MachineError::Contract {
                rip,
                what: format!("the {name} version alone, from its CALL: {what}"),
            };
            let window = self.window(rip, text).ok_or_else(|| lost("it jumps to nowhere"))?;
            let instruction =
                decode::decode(window.bytes(), rip).ok_or_else(|| lost("it meets an invalid instruction"))?;
            if let Some(reason) = decode::refused(&instruction) {
                return Err(lost(&format!("`{}` {reason}", decode::format(&instruction))));
            }
            if decode::is_int3(&instruction) {
                return Err(lost("`int3` traps"));
            }
            let expected = decode::successors(&instruction, &cpu, |at| load(&cpu, &[0; SHARED_LEN], at));
            let stimulus = match expected.first() {
                Some(&to) if decode::needs_planted_stop(&instruction) => Stimulus::InstructionTo(to),
                _ => Stimulus::Instruction,
            };
            let done = self.engine.execute_aside(&cpu, stimulus, text, &[0; SHARED_LEN])?;
            if done.landing != Landing::Boundary || !expected.contains(&done.cpu.regs.rip) {
                return Err(lost(&format!("`{}` traps", decode::format(&instruction))));
            }
            cpu = done.cpu;
        }
        let what = format!("the {name} version alone does not return within {REFERENCE_LIMIT} instructions");
        Err(MachineError::Contract { rip: cpu.regs.rip, what })
    }

    /// What the CPU makes of a fetch that ended an execution: executes it after all, for the report.
    pub fn aftermath(&mut self, state: &super::State, slot: usize) -> String {
        let cpu = self.cpu_of(state, slot).clone();
        let text: std::rc::Rc<Text> = self.text(state.env);
        let shared = self.env_of(state).shared;
        match self.engine.execute_aside(&cpu, Stimulus::Instruction, text.current(), &shared) {
            Ok(Executed { landing: Landing::Handler(fault), .. }) => {
                format!("the CPU raises {}", fault_name(fault))
            }
            Ok(Executed { cpu: after, .. }) => {
                format!("the CPU executes it and goes on at {:#x}", after.regs.rip)
            }
            Err(error) => format!("executing it ends in: {error}"),
        }
    }
}

/// Name of an exception vector.
pub fn fault_name(number: u8) -> &'static str {
    match number {
        vector::BP => "#BP",
        vector::DB => "#DB",
        vector::UD => "#UD",
        vector::GP => "#GP",
        vector::PF => "#PF",
        vector::DF => "#DF",
        _ => "an interrupt",
    }
}

/// The one access to the shared page, if any; an error for accesses outside the state.
fn shared_access(
    instruction: &Instruction,
    accesses: &[Access],
    rip: u64,
) -> Result<Option<Access>, MachineError> {
    let mut found = None;
    for access in accesses {
        let (start, end) = (access.address, access.address.wrapping_add(access.size as u64));
        let within = |base: u64, len: u64| start >= base && end <= base + len;
        if within(va::SHARED, shared::STATE_END) && access.size <= 8 {
            if found.replace(*access).is_some() {
                return Err(outside(instruction, rip, "it accesses the shared page twice"));
            }
        } else if access.touches(va::SITE, va::SITE + 2 * PAGE) {
            return Err(outside(instruction, rip, "it accesses patchable addresses as data"));
        } else if !within(va::PRIVATE, private::STATE_END) {
            return Err(outside(
                instruction,
                rip,
                &format!("it accesses {start:#x}, which belongs to no state"),
            ));
        }
    }
    Ok(found)
}

fn outside(instruction: &Instruction, rip: u64, what: &str) -> MachineError {
    MachineError::Contract { rip, what: format!("`{}`: {what}", decode::format(instruction)) }
}

fn read_word(memory: &Shared, access: Access) -> u64 {
    let start = (access.address - va::SHARED) as usize;
    let mut word = [0; 8];
    word[..access.size].copy_from_slice(&memory[start..start + access.size]);
    u64::from_le_bytes(word)
}

/// What a step stored to the shared page; an error if it changed what its decoding does not write.
fn store_of(
    before: &Shared,
    after: &Shared,
    access: Option<Access>,
) -> Result<Option<(u8, u8, u64)>, String> {
    let written = access.filter(|access| access.writes);
    let mut rest = *after;
    let store = written.map(|access| {
        let start = (access.address - va::SHARED) as usize;
        rest[start..start + access.size].copy_from_slice(&before[start..start + access.size]);
        (start as u8, access.size as u8, read_word(after, access))
    });
    if rest == *before { Ok(store) } else { Err("a step changed shared bytes that it does not write".into()) }
}

fn load(cpu: &Cpu, memory: &Shared, address: u64) -> Option<u64> {
    if let Some(value) = cpu.read(address, 8) {
        return Some(value);
    }
    let start = usize::try_from(address.checked_sub(va::SHARED)?).ok()?;
    let bytes = memory.get(start..start.checked_add(8)?)?;
    let mut word = [0; 8];
    word.copy_from_slice(bytes);
    Some(u64::from_le_bytes(word))
}
