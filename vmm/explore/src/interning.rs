//! Numbers for the parts of a state, and what is derived from a part once.

use std::rc::Rc;

use crossmod_abi::vector;
use crossmod_model::property::Violation;
use crossmod_model::state::ghost::{Executor, GhostState};
use crossmod_model::state::shared_state::{SharedState, SiteHistory};
use crossmod_model::x86::cpu::Cpu;

use super::intern::content_digest;
use super::model::Model;

/// What is asked of an executor often.
#[derive(Debug, Clone, Copy)]
pub(super) struct ExecutorSummary {
    pub(super) parked: bool,
    pub(super) interrupts_on: bool,
    pub(super) nmi_masked: bool,
    pub(super) nmi_latched: bool,
    pub(super) acknowledged: bool,
    pub(super) pending: u16,
    /// Neither RIP nor a saved RIP is inside the site.
    pub(super) outside: bool,
    /// Nor in the code at a target.
    pub(super) off_targets: bool,
    /// Bit *i*: its word *i* is 0.
    pub(super) zero: u8,
    pub(super) observed: bool,
}

impl Model<'_> {
    pub(super) fn intern_cpu(&mut self, cpu: Cpu) -> u32 {
        self.cpus.intern(cpu, content_digest)
    }

    pub(super) fn intern_violations(&mut self, violations: Vec<Violation>) -> u32 {
        self.violations.intern(violations, |_| 0)
    }

    pub(super) fn intern_env(&mut self, env: SharedState) -> u32 {
        let index = self.envs.intern(env, content_digest);
        if self.texts.len() <= index as usize {
            let env = self.envs.get(index);
            let text = match self.texts_by_commits.get(&env.commits) {
                Some(text) => Rc::clone(text),
                None => {
                    let text = Rc::new(SiteHistory::of(self.plan, &self.pieces, env));
                    self.texts_by_commits.insert(env.commits.clone(), Rc::clone(&text));
                    text
                }
            };
            self.texts.push(text);
        }
        index
    }

    pub(super) fn intern_executor(&mut self, executor: Executor) -> u32 {
        let cpus = &self.cpus;
        let index = self.executors.intern(executor, |executor| {
            // By content: the numbers of vCPUs depend on the order in which they were met.
            let GhostState {
                class,
                serialised,
                clocks,
                observed,
                pending,
                nmi_latched,
                seen_new,
                passes,
                contexts,
            } = &executor.ghost;
            let passes: Vec<_> = passes
                .iter()
                .map(|pass| {
                    let crossmod_model::state::ghost::Pass {
                        label,
                        entry,
                        begun,
                        new_before,
                        after_done,
                        ran_new,
                        trapped,
                        depth,
                    } = pass;
                    let judged = (*begun, *new_before, *after_done, *ran_new, *trapped);
                    (*label, cpus.digest(*entry), judged, *depth)
                })
                .collect();
            let events = (*class, *serialised, clocks, *observed, *pending, *nmi_latched, *seen_new);
            content_digest(&(cpus.digest(executor.cpu), events, passes, contexts))
        });
        if self.facts.len() <= index as usize {
            let Executor { cpu, ghost } = self.executors.get(index);
            let cpu = self.cpus.get(*cpu);
            let site = &self.plan.site;
            // Behind one site's end another may begin: whoever is under way there is not outside.
            let under_way = site.parts.len() > 1 && ghost.passes.iter().any(|pass| pass.begun);
            let inside = |rip: u64| site.inside(rip) || (under_way && site.contains(rip));
            let pads = &self.plan.pads;
            let target = |rip: u64| pads.iter().any(|pad| (pad.address..pad.address + 4).contains(&rip));
            let anywhere = |place: &dyn Fn(u64) -> bool| {
                let saved = |context: &crossmod_model::state::ghost::Context| {
                    cpu.frame(context.frame).is_some_and(|frame| place(frame.rip))
                        && context.vector != vector::DB
                };
                place(cpu.regs.rip) || ghost.contexts.iter().any(saved)
            };
            self.facts.push(ExecutorSummary {
                parked: cpu.regs.rip == self.labels.park,
                interrupts_on: cpu.regs.interrupts_on(),
                nmi_masked: cpu.regs.nmi_masked,
                nmi_latched: ghost.nmi_latched,
                acknowledged: cpu.acknowledged(),
                pending: ghost.pending,
                observed: ghost.observed,
                outside: !anywhere(&inside),
                off_targets: !anywhere(&|rip| inside(rip) || target(rip)),
                zero: (0..self.plan.each.len() as u8)
                    .filter(|&word| cpu.word(word) == 0)
                    .fold(0, |mask, word| mask | 1 << word),
            });
        }
        index
    }
}
