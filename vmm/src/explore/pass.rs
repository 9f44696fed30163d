//! Passes through the site: where they begin and end, and what their outcome is compared with.

use super::access::load;
use super::engine::{Engine, Executed};
use super::model::{Model, PassOutcome, REFERENCE_LIMIT};
use super::monitor::{Executor, Monitor, Pass};
use super::step::fault_name;
use crate::cpu::{Cpu, reg};
use crate::decode;
use crate::machine::{Landing, MachineError, SHARED_LEN, Stimulus};
use crate::plan::{Plan, Site};
use crate::property::{self, Version, Violation};

impl<E: Engine> Model<'_, E> {
    /// If the instruction that was just executed is the CALL of a pass: there is one now.
    pub(super) fn call_pass(&mut self, executor: &mut Executor, cpu: &Cpu) {
        let Some(label) = self.labels.passes.iter().position(|pass| pass.begin == cpu.regs.rip) else {
            return;
        };
        let entry = self.intern_cpu(cpu.without_ack());
        let monitor = &mut executor.monitor;
        monitor.passes.push(Pass {
            label: label as u8,
            entry,
            begun: false,
            new_before: false,
            after_done: false,
            ran_new: false,
            trapped: false,
            depth: monitor.contexts.len() as u8,
        });
    }

    /// At a fetch of the site: the innermost pass has begun now, if it had not before.
    pub(super) fn begin_pass(&self, monitor: &mut Monitor, env: u32) {
        let (new_before, after_done) = (monitor.seen_new, self.envs.get(env).done);
        if let Some(pass) = monitor.passes.last_mut().filter(|pass| !pass.begun) {
            (pass.begun, pass.new_before, pass.after_done) = (true, new_before, after_done);
        }
    }

    /// At a several-instruction site: new code was run in this pass.
    pub(super) fn note_version(&self, executor: &mut Executor, version: Option<Version>) {
        let Site { old, new, .. } = &self.plan.site;
        let several = old.boundaries.len() > 1 || new.boundaries.len() > 1;
        if let (true, Some(Version::New), Some(pass)) = (several, version, executor.monitor.passes.last_mut())
        {
            pass.ran_new = true;
        }
    }

    /// If the step ended the innermost pass: notes its outcome, and tells what that violates.
    pub(super) fn end_pass(
        &mut self,
        executor: &mut Executor,
        landed: &Cpu,
    ) -> Result<Vec<Violation>, MachineError> {
        let monitor = &mut executor.monitor;
        let Some(pass) = monitor.passes.last().cloned() else { return Ok(Vec::new()) };
        let label = &self.labels.passes[usize::from(pass.label)];
        if landed.regs.rip != label.end || monitor.contexts.len() != usize::from(pass.depth) {
            return Ok(Vec::new());
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
        self.outcomes.insert(outcome);
        Ok(violations)
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
    pub fn aftermath(&mut self, state: &super::State, slot: usize, view: u8) -> Result<String, MachineError> {
        let cpu = self.cpu_of(state, slot).clone();
        let site = self.seen(state, slot, view)?;
        let shared = self.env_of(state).shared;
        Ok(match self.engine.execute_aside(&cpu, Stimulus::Instruction, &site, &shared) {
            Ok(Executed { landing: Landing::Handler(fault), .. }) => {
                format!("the CPU raises {}", fault_name(fault))
            }
            Ok(Executed { cpu: after, .. }) => {
                format!("the CPU executes it and goes on at {:#x}", after.regs.rip)
            }
            Err(error) => format!("executing it ends in: {error}"),
        })
    }
}
