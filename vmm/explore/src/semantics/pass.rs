//! Passes through the site: where they begin and end, and what their outcome is compared with.

use std::rc::Rc;

use crossmod_model::checks::{multi_site, order, wrong_resume};
use crossmod_model::layout::SHARED_LEN;
use crossmod_model::plan::{Code, Declared, Plan};
use crossmod_model::property::Violation;
use crossmod_model::state::Id;
use crossmod_model::state::ghost::{Executor, GhostState, Pass};
use crossmod_model::state::shared_state::SharedState;
use crossmod_model::step::{Landing, Stimulus};
use crossmod_model::x86::cpu::{Cpu, reg};
use crossmod_model::x86::decode;

use super::access::load;
use super::memo::References;
use super::{Model, PassOutcome, REFERENCE_LIMIT};
use crate::error::{EngineError, Result};

impl Model<'_> {
    /// Adds a pass if the instruction that was just executed is its CALL.
    pub(super) fn call_pass(&mut self, executor: &mut Executor, cpu: &Cpu) {
        let Some(label) = self.labels.passes.iter().position(|pass| pass.begin == cpu.regs.rip) else {
            return;
        };
        let entry = self.interned.add_cpu(cpu.without_mailbox());
        let ghost = &mut executor.ghost;
        ghost.passes.push(Pass {
            label: label as u8,
            entry,
            begun: false,
            new_before: 0,
            after_done: 0,
            ran_new: 0,
            trapped: false,
            depth: ghost.contexts.len() as u8,
        });
    }

    /// At a fetch of the site: begins the innermost pass, unless it has begun before.
    pub(super) fn begin_pass(&self, ghost: &mut GhostState, shared_state: Id<SharedState>) {
        let (new_before, after_done) = (ghost.seen_new, self.interned.shared_states[shared_state].done);
        if let Some(pass) = ghost.passes.last_mut().filter(|pass| !pass.begun) {
            (pass.begun, pass.new_before, pass.after_done) = (true, new_before, after_done);
        }
    }

    /// At a part of several instructions: notes that this pass has run new code.
    pub(super) fn note_version(&self, executor: &mut Executor, rip: u64, version: Option<Declared>) {
        let site = &self.plan.site;
        let (Some(Declared::New), Some(pass)) = (version, executor.ghost.passes.last_mut()) else { return };
        let Some(number) = site.part((rip - site.address) as usize) else { return };
        let part = &site.parts[number];
        let inside = |code: &Code| code.boundaries.iter().filter(|&&at| part.contains(at)).count();
        if inside(&site.old) > 1 || inside(&site.new) > 1 {
            pass.ran_new |= 1 << number;
        }
    }

    /// If the step ended the innermost pass: notes its outcome, and returns what that violates.
    pub(super) fn end_pass(&mut self, executor: &mut Executor, landed: &Cpu) -> Result<Vec<Violation>> {
        let ghost = &mut executor.ghost;
        let Some(pass) = ghost.passes.last().cloned() else { return Ok(Vec::new()) };
        let label = &self.labels.passes[usize::from(pass.label)];
        if landed.regs.rip != label.end || ghost.contexts.len() != usize::from(pass.depth) {
            return Ok(Vec::new());
        }
        ghost.passes.pop();
        let references = self.references(pass.entry, pass.label)?;
        let end = landed.without_mailbox();
        let same = |&versions: &u8| {
            let reference = references[usize::from(versions)];
            reference.is_some_and(|reference| wrong_resume::same(&end, &self.interned.cpus[reference]))
        };
        let matching: Vec<u8> = (0..references.len() as u8).filter(same).collect();
        let everything = references.len() - 1;
        let mut violations = Vec::new();
        if matching.is_empty() {
            let alone = |versions: usize| references[versions].map(|end| &self.interned.cpus[end]);
            violations.push(wrong_resume::at_pass_end(&end, alone(0), alone(everything)));
        } else if matching.iter().all(|&versions| self.forbidden(versions)) {
            violations.push(multi_site::at_pass_end(&self.plan.site, &matching));
        } else {
            for part in 0..self.plan.site.parts.len() {
                let new = |versions: &u8| versions >> part & 1 == 1;
                if matching.iter().all(new) {
                    executor.ghost.seen_new |= 1 << part;
                } else if !matching.iter().any(new) {
                    violations.extend(order::at_pass_end(&pass, part));
                }
            }
        }
        let outcome = PassOutcome {
            label: pass.label,
            old: matching.contains(&0),
            new: matching.contains(&(everything as u8)),
            trapped: pass.trapped,
        };
        self.outcomes.insert(outcome);
        Ok(violations)
    }

    /// True for combinations of versions that the scenario forbids.
    fn forbidden(&self, versions: u8) -> bool {
        let shows = |(part, declared): (usize, &Option<Declared>)| match declared {
            Some(Declared::New) => versions >> part & 1 == 1,
            Some(_) => versions >> part & 1 == 0,
            None => true,
        };
        self.plan.forbidden.iter().any(|combination| combination.iter().enumerate().all(shows))
    }

    /// The ends of a pass from this entry when each combination of the parts' versions runs alone, by its number: bit
    /// *i* says that part *i* is new. A forbidden one need not come to an end.
    fn references(&mut self, entry: Id<Cpu>, label: u8) -> Result<References> {
        if let Some(known) = self.memo.references.get(&(entry, label)) {
            return Ok(Rc::clone(known));
        }
        let plan: &Plan = self.plan;
        let count = 1u8 << plan.site.parts.len();
        let mut ends = Vec::new();
        for versions in 0..count {
            let name = match versions {
                0 => "old".to_owned(),
                all if all == count - 1 => "new".to_owned(),
                mixed => format!("mixed ({mixed:b})"),
            };
            match self.run_alone(entry, label, &plan.site.combination(versions), &name) {
                Ok(end) => ends.push(Some(end)),
                Err(EngineError::Contract { .. }) if self.forbidden(versions) => ends.push(None),
                Err(error) => return Err(error),
            }
        }
        let ends: References = ends.into();
        self.memo.references.insert((entry, label), Rc::clone(&ends));
        Ok(ends)
    }

    fn run_alone(&mut self, entry: Id<Cpu>, label: u8, text: &[u8], name: &str) -> Result<Id<Cpu>> {
        let start = self.interned.cpus[entry].clone();
        let end = self.labels.passes[usize::from(label)].end;
        let mut cpu = start.clone();
        for _ in 0..REFERENCE_LIMIT {
            if cpu.regs.rip == end && cpu.regs.gpr[reg::RSP] == start.regs.gpr[reg::RSP] {
                return Ok(self.interned.add_cpu(cpu));
            }
            let rip = cpu.regs.rip;
            let lost = |what: &str| EngineError::Contract {
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
        Err(EngineError::Contract { rip: cpu.regs.rip, what })
    }
}
