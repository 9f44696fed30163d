//! The semantics as a system that can be searched.

use crossmod_model::property::Violation;
use crossmod_model::state::Id;
use crossmod_model::state::ghost::Executor;

use super::interned::ACKNOWLEDGED;
use super::step::Request;
use super::{Global, Model, State, Transition};
use crate::error::EngineError;
use crate::intern::content_digest;
use crate::search::system::{
    Applied, ExecutorStep, ExecutorSteps, Flags, PatcherStep, PatcherSteps, Reduction, System, ViolationSet,
};

/// Most executors that are met on the way to an acknowledgement.
const WAY_LIMIT: usize = 1000;

impl System for Model<'_> {
    type Global = Global;
    type Executor = Executor;
    type State = State;
    type Transition = Transition;

    fn orbits(&self) -> &[u8] {
        &self.orbits
    }

    fn orbit_of(&self, executor: Id<Executor>) -> u8 {
        self.interned.executor(executor).ghost.orbit
    }

    fn flags(&self, executor: Id<Executor>) -> Flags {
        self.interned.summary(executor).flags
    }

    fn violations(&self, set: ViolationSet) -> &[Violation] {
        self.interned.violations(set)
    }

    fn global_digest(&self, global: &Global) -> u128 {
        let Global { pc, nmi, irq, smi, mce, mask, shared_state } = *global;
        content_digest(&(pc, (nmi, irq, smi, mce), mask, self.interned.shared_state_digest(shared_state)))
    }

    fn executor_digests(&self) -> &[u128] {
        self.interned.executor_digests()
    }

    fn patcher(&mut self, global: &Global) -> Result<PatcherSteps<Global, Transition>, EngineError> {
        let (transitions, guard) = self.patcher_transitions(global);
        let touches = self.patcher_touches(global);
        let mut steps = Vec::new();
        for transition in transitions {
            let (global, writes) = self.patcher_global(global, transition)?;
            steps.push(PatcherStep { transition, global, touches, writes });
        }
        let independent = self.patcher_independent(global);
        Ok(PatcherSteps { steps, guard, independent, finished: self.patcher_finished(global) })
    }

    fn patcher_effect(
        &mut self,
        before: &Global,
        after: &Global,
        transition: Transition,
        executor: Id<Executor>,
    ) -> Result<(Id<Executor>, ViolationSet), EngineError> {
        let slot = self.slot_of(executor);
        let (executor, found) = self.effect_on(before, after, transition, slot, executor)?;
        let violations: Vec<Violation> = found.into_iter().collect();
        Ok((executor, self.interned.add_violations(violations)))
    }

    fn executor(
        &mut self,
        global: &Global,
        executor: Id<Executor>,
        reduction: Reduction,
    ) -> Result<ExecutorSteps<Self>, EngineError> {
        let mut steps = Vec::new();
        for transition in self.executor_transitions(global, executor, reduction)? {
            let request = self.request(global, 0, executor, transition, reduction);
            let (global, outcome) = self.executor_transition(global, request)?;
            steps.push(ExecutorStep {
                global,
                executor: outcome.executor,
                violations: outcome.violations,
                ended: outcome.ended,
                writes: outcome.writes,
            });
        }
        Ok(steps)
    }

    /// An executor whose acknowledgement the patcher waits for comes to it by its own instructions and the IPIs that
    /// it has.
    fn meets_guard_alone(
        &mut self,
        global: &Global,
        executor: Id<Executor>,
        reduction: Reduction,
    ) -> Result<bool, EngineError> {
        if self.patcher_transitions(global).1.flags != ACKNOWLEDGED || self.executors_write() {
            return Ok(false);
        }
        let mut met = vec![executor];
        let mut next = 0;
        while let Some(&executor) = met.get(next) {
            next += 1;
            if self.flags(executor).contain(ACKNOWLEDGED) {
                return Ok(true);
            }
            for transition in self.executor_transitions(global, executor, reduction)? {
                if !matches!(transition, Transition::Execute(..) | Transition::Ipi(..)) {
                    continue;
                }
                let request = self.request(global, 0, executor, transition, reduction);
                let (after, outcome) = self.executor_transition(global, request)?;
                let alone = !outcome.ended && after == *global;
                if alone && !met.contains(&outcome.executor) && met.len() < WAY_LIMIT {
                    met.push(outcome.executor);
                }
            }
        }
        Ok(false)
    }

    /// Executes every step again that is remembered.
    fn recheck(
        &mut self,
        global: &Global,
        executor: Id<Executor>,
        reduction: Reduction,
    ) -> Result<(), EngineError> {
        for transition in self.executor_transitions(global, executor, reduction)? {
            if transition.executor().is_some() {
                let request = self.request(global, 0, executor, transition, reduction);
                self.executor_transition(global, Request { recheck: true, ..request })?;
            }
        }
        Ok(())
    }

    fn initial(&mut self) -> Result<State, EngineError> {
        Model::initial(self)
    }

    fn parts<'s>(&self, state: &'s State) -> (Global, &'s [Id<Executor>]) {
        (state.global, &state.executors[..self.plan.executors.len()])
    }

    fn transitions(
        &mut self,
        state: &State,
        reduction: Reduction,
        transitions: &mut Vec<Transition>,
    ) -> Result<(), EngineError> {
        Model::transitions(self, state, reduction, transitions)
    }

    fn apply(
        &mut self,
        state: &State,
        transition: Transition,
        reduction: Reduction,
    ) -> Result<Applied<State>, EngineError> {
        Model::apply(self, state, transition, reduction)
    }

    fn describe(&self, state: &State) -> String {
        let mut parts = vec![match self.plan.program.get(usize::from(state.global.pc)) {
            Some(op) => format!("the patcher is at step `{}`", op.step),
            None => "the patcher has finished".into(),
        }];
        for slot in 0..self.plan.executors.len() {
            let regs = self.cpu_of(state, slot).regs;
            let interrupts = if regs.interrupts_on() { "" } else { ", interrupts off" };
            parts.push(format!("CPU {slot} is at {}{interrupts}", self.address(regs.rip)));
        }
        parts.join("; ")
    }
}
