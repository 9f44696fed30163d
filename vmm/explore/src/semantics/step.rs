//! One transition of an executor: fetch, checks, the step on the engine, bookkeeping.

use std::rc::Rc;

use crossmod_abi::vector;
use crossmod_model::checks::{self, Fetch, interior, lifetime, nmi_frame, wrong_resume};
use crossmod_model::plan::{Declared, Function};
use crossmod_model::property::Violation;
use crossmod_model::state::Id;
use crossmod_model::state::ghost::{Context, Executor};
use crossmod_model::state::shared_state::{SharedState, SiteHistory};
use crossmod_model::step::{Landing, Stimulus};
use crossmod_model::x86::cpu::{Cpu, reg};
use crossmod_model::x86::decode::{self, INT3};
use iced_x86::Instruction;

use super::access::{Reads, Touched, load, store_of, touched};
use super::aftermath::fault_name;
use super::future_effects::FutureEffects;
use super::memo::{Outcome, StepKey, StepResult, Views};
use super::{INVISIBLE_LIMIT, Model, Transition, Window};
use crate::engine::Executed;
use crate::error::{EngineError, Result};
use crate::search::system::System;

/// In place of a vector, in the key of an event.
const SMI: u8 = 0xff;

/// A transition of an executor that is to be made.
#[derive(Debug, Clone, Copy)]
pub(super) struct Request {
    pub(super) slot: usize,
    pub(super) executor: Id<Executor>,
    pub(super) shared_state: Id<SharedState>,
    pub(super) transition: Transition,
    /// With reduction: what may still happen. The transition then goes on through the invisible instructions behind.
    pub(super) future: Option<FutureEffects>,
    /// Execute every step, whether it is remembered or not.
    pub(super) live: bool,
    /// If the outcome is remembered, compute it again and compare.
    pub(super) recheck: bool,
}

/// A step to be executed.
struct Step<'a> {
    key: StepKey,
    stimulus: Stimulus,
    /// The site as the vCPU sees it.
    site: &'a [u8],
    touched: Touched,
}

/// What an executor has fetched.
struct Fetched {
    /// The executor, with the fetch clocks that this fetch leaves.
    executor: Executor,
    cpu: Cpu,
    history: Rc<SiteHistory>,
    views: Option<Views>,
    view: usize,
    window: Window,
    instruction: Option<Instruction>,
    version: Option<Declared>,
}

impl Fetched {
    fn rip(&self) -> u64 {
        self.cpu.regs.rip
    }

    /// The site as this fetch sees it.
    fn site(&self) -> &[u8] {
        let view = self.views.as_ref().and_then(|views| views.get(self.view));
        view.map_or(self.history.current(), |view| &view.site)
    }
}

impl Model<'_> {
    /// A transition of an executor, remembered or computed.
    pub(super) fn executor_step(&mut self, request: Request) -> Result<Outcome> {
        self.memo.stats.moves += 1;
        if !self.memo.enabled {
            return self.compute(Request { live: true, ..request });
        }
        // The slot takes no part: identical executors share their outcomes.
        let key = (request.executor, request.shared_state, request.transition.of(0), request.future);
        if let Some(&known) = self.memo.outcomes.get(&key) {
            self.memo.stats.outcome_hits += 1;
            if request.recheck || self.memo.sample() {
                self.execute_again(request, known)?;
            }
            return Ok(known);
        }
        let outcome = self.compute(request)?;
        self.memo.outcomes.insert(key, outcome);
        Ok(outcome)
    }

    /// Executes a remembered transition again. A difference is an error of the harness.
    fn execute_again(&mut self, request: Request, known: Outcome) -> Result<()> {
        self.memo.stats.rechecked += 1;
        let again = self.compute(Request { live: true, ..request })?;
        if again == known {
            return Ok(());
        }
        let rip = self.interned.cpus[self.interned.executors[request.executor].cpu].regs.rip;
        let what = format!("a remembered transition differs when executed again: {known:?}, {again:?}");
        Err(EngineError::Contract { rip, what })
    }

    /// A transition of an executor; with reduction, through the invisible instructions behind it.
    fn compute(&mut self, request: Request) -> Result<Outcome> {
        let mut outcome = self.single(&request)?;
        let Some(future) = request.future else { return Ok(outcome) };
        for _ in 1..INVISIBLE_LIMIT {
            if outcome.ended {
                break;
            }
            let (shared_state, executor) = outcome.next;
            let Some(view) = self.invisible(executor, shared_state, &future)? else { break };
            let transition = Transition::Execute(request.slot as u8, view);
            let more = self.single(&Request { executor, shared_state, transition, ..request })?;
            if more.ended {
                // What ends an execution keeps everything else from happening: it is a transition of its own.
                break;
            }
            let mut violations = self.violations(outcome.violations).to_vec();
            violations.extend_from_slice(self.violations(more.violations));
            let violations = self.interned.add_violations(violations);
            outcome = Outcome { violations, writes: outcome.writes || more.writes, ..more };
        }
        Ok(outcome)
    }

    fn single(&mut self, request: &Request) -> Result<Outcome> {
        let Request { executor, shared_state, .. } = *request;
        let mut before = self.interned.executors[executor].clone();
        match request.transition {
            Transition::Ipi(_, function) => {
                before.ghost.pending &= !function.bit();
                let shared_state = self.received(shared_state, before.ghost.orbit, function);
                self.deliver(&Request { shared_state, ..*request }, before, function.vector())
            }
            Transition::Irq(_) => self.deliver(request, before, vector::IRQ),
            Transition::MachineCheck(_) => self.deliver(request, before, vector::MC),
            Transition::Smi(_) => self.smi(request, before),
            Transition::Nmi(_) => {
                before.ghost.nmi_latched = false;
                let shared_state = self.received(shared_state, before.ghost.orbit, Function::Nmi);
                let request = Request { shared_state, ..*request };
                match nmi_frame::at_delivery(&before.ghost) {
                    Some(violation) => Ok(self.ended(&request, vec![violation])),
                    None => self.deliver(&request, before, vector::NMI),
                }
            }
            Transition::Execute(_, view) => self.instruction(request, before, view),
            Transition::Commit(_) => self.reach_memory(request, before),
            Transition::Patcher | Transition::Piece(_) | Transition::Observe(_) | Transition::RaiseNmi(_) => {
                Ok(Outcome::quiet((shared_state, executor)))
            }
        }
    }

    /// The violations end the execution before anything changes.
    fn ended(&mut self, request: &Request, violations: Vec<Violation>) -> Outcome {
        let violations = self.interned.add_violations(violations);
        Outcome { violations, ended: true, ..Outcome::quiet((request.shared_state, request.executor)) }
    }

    fn deliver(&mut self, request: &Request, mut executor: Executor, vector: u8) -> Result<Outcome> {
        let stimulus = match vector {
            vector::NMI => Stimulus::Nmi,
            vector::MC => Stimulus::MachineCheck,
            _ => Stimulus::Interrupt(vector),
        };
        let result = self.event(request, &executor, stimulus, vector)?;
        if result.landing != Landing::Handler(vector) {
            let what = format!("delivery of vector {vector:#x} ended in {:?}", result.landing);
            let rip = self.interned.cpus[executor.cpu].regs.rip;
            return Err(EngineError::Contract { rip, what });
        }
        executor.cpu = result.cpu;
        let frame = self.interned.cpus[result.cpu].regs.gpr[reg::RSP];
        executor.ghost.contexts.push(Context { vector, frame, foreign: false });
        Ok(Outcome::quiet((request.shared_state, self.interned.add_executor(executor))))
    }

    /// An SMI, from its arrival to the end of its RSM: the vCPU is as before, and has serialised (SDM vol. 3, 9.3;
    /// APM vol. 2, 7.6.4). Where KVM has no SMM, the engine leaves it as it is without executing anything.
    fn smi(&mut self, request: &Request, mut executor: Executor) -> Result<Outcome> {
        let result = self.event(request, &executor, Stimulus::Smi, SMI)?;
        if result.landing != Landing::Boundary || result.cpu != executor.cpu {
            let what = format!("an SMI came back to another state, {:?}", result.landing);
            let rip = self.interned.cpus[executor.cpu].regs.rip;
            return Err(EngineError::Contract { rip, what });
        }
        executor.ghost.serialise(self.interned.history(request.shared_state).commits.len() as u8);
        Ok(Outcome::quiet((request.shared_state, self.interned.add_executor(executor))))
    }

    /// A step that no instruction causes.
    fn event(
        &mut self,
        request: &Request,
        executor: &Executor,
        stimulus: Stimulus,
        number: u8,
    ) -> Result<StepResult> {
        let key = StepKey::event(executor.cpu, number);
        let history = Rc::clone(self.interned.history(request.shared_state));
        let (site, touched) = (history.current(), Touched::default());
        self.execute(request, Step { key, stimulus, site, touched })
    }

    /// An executor at the site, once an INT3 of an earlier modification has trapped there. KVM executes the INT3; it is
    /// gone again before the first transition.
    pub(super) fn trap(
        &mut self,
        slot: usize,
        executor: Id<Executor>,
        shared_state: Id<SharedState>,
    ) -> Result<Id<Executor>> {
        let mut after = self.interned.executors[executor].clone();
        let rip = self.interned.cpus[after.cpu].regs.rip;
        let mut site = self.interned.history(shared_state).current().to_vec();
        site[(rip - self.plan.site.address) as usize] = INT3;
        let transition = Transition::Execute(slot as u8, 0);
        let request =
            Request { slot, executor, shared_state, transition, future: None, live: false, recheck: false };
        let key = StepKey::instruction(after.cpu, &[INT3], Reads::default());
        let (stimulus, touched) = (Stimulus::Breakpoint, Touched::default());
        let result = self.execute(&request, Step { key, stimulus, site: &site, touched })?;
        if result.landing != Landing::Handler(vector::BP) {
            let what = format!("an INT3 ended in {:?}", result.landing);
            return Err(EngineError::Contract { rip, what });
        }
        self.begin_pass(&mut after.ghost, shared_state);
        self.trapped(&mut after, result.cpu, rip);
        Ok(self.interned.add_executor(after))
    }

    /// Notes that an INT3 at `rip` has trapped into the #BP handler.
    fn trapped(&self, executor: &mut Executor, cpu: Id<Cpu>, rip: u64) {
        executor.cpu = cpu;
        let frame = self.interned.cpus[cpu].regs.gpr[reg::RSP];
        let at_site = self.plan.site.contains(rip);
        executor.ghost.contexts.push(Context { vector: vector::BP, frame, foreign: !at_site });
        if let (true, Some(pass)) = (at_site, executor.ghost.passes.last_mut()) {
            pass.trapped = true;
        }
    }

    /// The shared state once a message that a program sent has been delivered.
    fn received(&mut self, shared_state: Id<SharedState>, orbit: u8, function: Function) -> Id<SharedState> {
        let bit = SharedState::sent_bit(self.slot_of_orbit(orbit), function.number());
        if self.interned.shared_states[shared_state].sent & bit == 0 {
            return shared_state;
        }
        let mut changed = self.interned.shared_states[shared_state].clone();
        changed.sent &= !bit;
        self.interned.add_shared_state(changed)
    }

    /// One instruction: fetched, judged, executed, committed.
    fn instruction(&mut self, request: &Request, before: Executor, view: u8) -> Result<Outcome> {
        let rip = self.interned.cpus[before.cpu].regs.rip;
        let Some(fetched) = self.fetch(request, before, view)? else {
            let violation = wrong_resume::at_fault("a jump to nowhere", rip);
            return Ok(self.ended(request, vec![violation]));
        };
        let mut violations = self.judge(request, &fetched);
        let ends = violations.iter().any(Violation::ends);
        let Some(instruction) = fetched.instruction.filter(|_| !ends) else {
            return Ok(self.ended(request, violations));
        };
        match self.execute_instruction(request, &fetched, &instruction)? {
            Ok((result, touched)) => self.commit(request, fetched, &instruction, result, touched, violations),
            Err(violation) => {
                violations.push(violation);
                Ok(self.ended(request, violations))
            }
        }
    }

    /// What the executor fetches in one of its views; `None` where no code is mapped.
    fn fetch(&mut self, request: &Request, mut executor: Executor, view: u8) -> Result<Option<Fetched>> {
        let cpu = self.interned.cpus[executor.cpu].clone();
        let rip = cpu.regs.rip;
        let history = Rc::clone(self.interned.history(request.shared_state));
        let views = self.views(request.executor, request.shared_state)?;
        let view = usize::from(view);
        let seen = views.as_ref().and_then(|views| views.get(view));
        if let Some(seen) = seen {
            executor.ghost.clocks.clone_from(&seen.clocks);
            self.begin_pass(&mut executor.ghost, request.shared_state);
        }
        let site = seen.map_or(history.current(), |seen| &seen.site);
        let Some(window) = self.window(rip, site) else { return Ok(None) };
        let instruction = decode::decode(window.bytes(), rip);
        let site = &self.plan.site;
        let version = site.version_at(rip.wrapping_sub(site.address) as usize, window.bytes());
        if views.is_some() {
            let stored = !matches!(version, Some(Declared::Old | Declared::Both));
            self.fetched = [true, self.fetched[1] || stored];
        }
        Ok(Some(Fetched { executor, cpu, history, views, view, window, instruction, version }))
    }

    /// What a fetch violates before its instruction runs. Bytes that are not an instruction always end the execution.
    fn judge(&self, request: &Request, fetched: &Fetched) -> Vec<Violation> {
        let Fetched { executor, cpu, history, window, version, .. } = fetched;
        let (rip, ghost) = (fetched.rip(), &executor.ghost);
        let shared_state = &self.interned.shared_states[request.shared_state];
        let mut violations = checks::at_fetch(&Fetch {
            plan: self.plan,
            shared_state,
            history,
            ghost,
            rip,
            bytes: window.bytes(),
            instruction: fetched.instruction.as_ref(),
            version: *version,
        });
        if self.plan.programs.patch() {
            // Another vCPU's store may have replaced the instruction that this one is inside of.
            violations.extend(interior::at_step(self.plan, history, rip));
        }
        let Some(instruction) = &fetched.instruction else {
            if !violations.iter().any(Violation::ends) {
                violations.push(wrong_resume::at_fault("an invalid instruction", rip));
            }
            return violations;
        };
        if let Some(pass) = ghost.passes.last()
            && usize::from(pass.depth) == ghost.contexts.len()
            && !self.engine.image().contains(rip)
        {
            let (rsp, rise) = (cpu.regs.gpr[reg::RSP], instruction.stack_pointer_increment());
            violations.extend(wrong_resume::at_stack(rsp, rise, &self.interned.cpus[pass.entry]));
        }
        let accesses = decode::accesses(instruction, &cpu.regs);
        violations.extend(accesses.iter().find_map(|access| lifetime::at_access(shared_state, access)));
        violations
    }

    /// Executes the instruction, and checks where it landed. A fault that the site led to is a violation, every other
    /// surprise an error.
    fn execute_instruction(
        &mut self,
        request: &Request,
        fetched: &Fetched,
        instruction: &Instruction,
    ) -> Result<Result<(StepResult, Touched), Violation>> {
        let (cpu, history, rip) = (&fetched.cpu, &fetched.history, fetched.rip());
        let site = &self.plan.site;
        let touched = touched(instruction, &decode::accesses(instruction, &cpu.regs), rip, site)?;
        let memory = self.own_page(request.executor, request.shared_state);
        let expected = decode::successors(instruction, cpu, |at| load(cpu, &memory, at));
        let stimulus = if decode::is_int3(instruction) {
            Stimulus::Breakpoint
        } else if decode::needs_planted_stop(instruction) {
            let Some(&to) = expected.first() else {
                let what = format!("`{}` has no known successor", decode::format(instruction));
                return Err(EngineError::Contract { rip, what });
            };
            if self.window(to, history.current()).is_none() {
                return Ok(Err(wrong_resume::at_fault("a return to nowhere", to)));
            }
            Stimulus::InstructionTo(to)
        } else {
            Stimulus::Instruction
        };
        let reads = touched.reads(&memory, &self.own_text(request.executor, request.shared_state), site);
        let bytes = &fetched.window.bytes()[..instruction.len()];
        let key = StepKey::instruction(fetched.executor.cpu, bytes, reads);
        let result = self.execute(request, Step { key, stimulus, site: fetched.site(), touched })?;
        let landed = self.interned.cpus[result.cpu].regs.rip;
        match result.landing {
            Landing::Boundary if expected.contains(&landed) => Ok(Ok((result, touched))),
            Landing::Handler(vector::BP) if stimulus == Stimulus::Breakpoint => Ok(Ok((result, touched))),
            Landing::Handler(fault) if !self.engine.image().contains(rip) => {
                let what = format!("`{}` raises {}", decode::format(instruction), fault_name(fault));
                Ok(Err(wrong_resume::at_fault(&what, rip)))
            }
            landing => {
                let expected: Vec<String> = expected.iter().map(|at| format!("{at:#x}")).collect();
                Err(EngineError::Misstep {
                    instruction: decode::format(instruction),
                    from: rip,
                    rip: landed,
                    expected: format!("{} ({landing:?})", expected.join(" or ")),
                })
            }
        }
    }

    /// Updates the bookkeeping and the shared state after an instruction, and checks what it has led to.
    fn commit(
        &mut self,
        request: &Request,
        fetched: Fetched,
        instruction: &Instruction,
        result: StepResult,
        touched: Touched,
        mut violations: Vec<Violation>,
    ) -> Result<Outcome> {
        let rip = fetched.rip();
        let Executor { buffer, ghost, .. } = fetched.executor;
        let mut after = Executor { cpu: result.cpu, buffer, ghost };
        let landed = self.interned.cpus[result.cpu].clone();
        if matches!(result.landing, Landing::Handler(_)) {
            self.trapped(&mut after, result.cpu, rip);
        }
        let mut shared_state = request.shared_state;
        let mut writes = false;
        if let Some(store @ (offset, len, value)) = result.store
            && !self.buffer_shared(&mut after, instruction, store)?
        {
            writes = true;
            let mut changed = self.interned.shared_states[shared_state].clone();
            let (at, len) = (usize::from(offset), usize::from(len));
            changed.shared[at..at + len].copy_from_slice(&value.to_le_bytes()[..len]);
            self.device(&mut changed, rip, u64::from(offset), value)?;
            shared_state = self.interned.add_shared_state(changed);
        }
        if touched.text.is_some_and(|access| access.writes) {
            let store = self.store_at(rip)?;
            if !self.buffer_text(&mut after, instruction, store)? {
                writes = true;
                shared_state = self.store_to_site(shared_state, store, &mut after)?;
            }
        }
        if let Some(access) = touched.own.filter(|access| access.writes) {
            self.buffer_own(&mut after, request.executor, instruction, access)?;
        }
        if request.live && !after.buffer.is_empty() {
            self.settle(shared_state)?;
        }
        if decode::serialises(instruction, self.plan.rule) {
            after.ghost.serialise(fetched.history.commits.len() as u8);
        }
        self.call_pass(&mut after, &fetched.cpu);
        self.note_version(&mut after, rip, fetched.version);
        violations.extend(self.arrive(&mut after, instruction, &landed));
        violations.extend(interior::at_step(self.plan, &fetched.history, landed.regs.rip));
        violations.extend(self.end_pass(&mut after, &landed)?);
        let failed = self.plan.programs.checks.iter().any(|check| check.at == landed.regs.rip);
        let ended = failed || violations.iter().any(Violation::ends);
        let violations = self.interned.add_violations(violations);
        let next = (shared_state, self.interned.add_executor(after));
        Ok(Outcome { next, violations, ended, writes })
    }

    /// Executes a step, or finds it among the remembered ones.
    fn execute(&mut self, request: &Request, step: Step<'_>) -> Result<StepResult> {
        let Step { key, stimulus, site, touched } = step;
        if !request.live
            && let Some(known) = self.memo.steps.results.find(&key, &mut self.memo.stats)
        {
            return Ok(known);
        }
        self.memo.stats.executed += 1;
        let cpu = &self.interned.cpus[key.cpu];
        let rip = cpu.regs.rip;
        let memory = self.own_page(request.executor, request.shared_state);
        let text = self.own_text(request.executor, request.shared_state);
        let data = touched.text.map(|_| &text[..]);
        if request.live && !self.interned.executors[request.executor].buffer.is_empty() {
            self.engine.shared_stored(&memory)?;
            self.engine.stored(&text)?;
        }
        let Executed { cpu, landing, shared } =
            self.engine.execute(request.slot, cpu, stimulus, site, &memory, data)?;
        if touched.text.is_some_and(|access| access.writes) {
            self.stored_as_planned(rip, &text)?;
        }
        let store =
            store_of(&memory, &shared, touched.shared).map_err(|what| EngineError::Contract { rip, what })?;
        let result = StepResult { cpu: self.interned.add_cpu(cpu), landing, store };
        if self.memo.enabled {
            self.memo.steps.results.insert(key, result);
        }
        Ok(result)
    }
}
