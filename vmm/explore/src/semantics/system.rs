//! The semantics as a system that can be searched.

use crossmod_model::layout::{MAX_CPUS, word_offset};
use crossmod_model::plan::{Events, Start};
use crossmod_model::property::Violation;
use crossmod_model::state::Id;
use crossmod_model::state::ghost::Executor;
use crossmod_model::state::shared_state::SharedState;

use super::interned::ACKNOWLEDGED;
use super::step::Request;
use super::{Global, Model, State, Transition};
use crate::error::Result;
use crate::intern::content_digest;
use crate::search::system::{
    Applied, ExecutorSteps, Flags, PatcherList, PatcherStep, PatcherSteps, Reduction, System, ViolationSet,
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
        self.interned.executors[executor].ghost.orbit
    }

    fn flags(&self, executor: Id<Executor>) -> Flags {
        self.interned.summary(executor).flags
    }

    fn violations(&self, set: ViolationSet) -> &[Violation] {
        &self.interned.violations[set]
    }

    fn global_digest(&self, global: &Global) -> u128 {
        let Global { pc, nmi, irq, smi, mce, mask, shared_state } = *global;
        content_digest(&(
            pc,
            (nmi, irq, smi, mce),
            mask,
            self.interned.shared_states.digests()[shared_state.index()],
        ))
    }

    fn executor_digests(&self) -> &[u128] {
        self.interned.executors.digests()
    }

    fn patcher(&mut self, global: &Global) -> Result<PatcherList<Self>> {
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
    ) -> Result<(Id<Executor>, ViolationSet)> {
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
    ) -> Result<ExecutorSteps<Self>> {
        let transitions = self.executor_transitions(global, executor, reduction)?.into_iter();
        let steps = transitions.map(|transition| {
            let request = self.request(global, 0, executor, transition, reduction);
            self.executor_transition(global, request)
        });
        steps.collect()
    }

    /// An executor whose acknowledgement the patcher waits for comes to it by its own instructions, its stores and the
    /// IPIs that it has.
    fn meets_guard_alone(
        &mut self,
        global: &Global,
        executor: Id<Executor>,
        reduction: Reduction,
    ) -> Result<bool> {
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
                let own = matches!(
                    transition,
                    Transition::Execute(..) | Transition::Ipi(..) | Transition::Commit(_)
                );
                if !own {
                    continue;
                }
                let request = self.request(global, 0, executor, transition, reduction);
                let Applied { next: (after, reached), ended, .. } =
                    self.executor_transition(global, request)?;
                if !ended && after == *global && !met.contains(&reached) && met.len() < WAY_LIMIT {
                    met.push(reached);
                }
            }
        }
        Ok(false)
    }

    /// Executes every step again that is remembered.
    fn recheck(&mut self, global: &Global, executor: Id<Executor>, reduction: Reduction) -> Result<()> {
        for transition in self.executor_transitions(global, executor, reduction)? {
            if transition.executor().is_some() {
                let request = self.request(global, 0, executor, transition, reduction);
                self.executor_transition(global, Request { recheck: true, ..request })?;
            }
        }
        Ok(())
    }

    fn completed(&mut self, global: &Global) {
        if let Some(finals) = &self.plan.finals {
            let shared_state = &self.interned.shared_states[global.shared_state];
            let values = finals.words.iter().map(|word| shared_state.get(word_offset(*word)));
            self.finals.insert(values.collect());
        }
    }

    fn initial(&mut self) -> Result<State> {
        let shared_state = self.interned.add_shared_state(SharedState::initial(self.plan));
        let Events { nmi, irq, smi, mce, .. } = self.plan.events;
        let global = Global { pc: 0, nmi, irq, smi, mce, mask: 0, shared_state };
        let mut state = State { global, executors: [Id::new(0); MAX_CPUS] };
        for (slot, executor) in self.plan.executors.iter().enumerate() {
            state.executors[slot] = self.initial_executor(slot, executor)?;
            let site = self.plan.site.address;
            match executor.start {
                Start::Interior(offset) => state = self.run_to(state, slot, site + offset as u64)?,
                Start::Handler => {
                    state = self.run_to(state, slot, self.part_address(0).unwrap_or(site))?;
                    state.executors[slot] = self.trap(slot, state.executors[slot], shared_state)?;
                }
                Start::Outside | Start::At(_) => {}
            }
        }
        Ok(state)
    }

    fn parts<'s>(&self, state: &'s State) -> (Global, &'s [Id<Executor>]) {
        (state.global, &state.executors[..self.plan.executors.len()])
    }

    fn transitions(
        &mut self,
        state: &State,
        reduction: Reduction,
        transitions: &mut Vec<Transition>,
    ) -> Result<()> {
        transitions.clear();
        let (patcher, guard) = self.patcher_transitions(&state.global);
        let met = |slot: usize| guard.met(slot, self.interned.summary(state.executors[slot]).flags);
        if (0..self.plan.executors.len()).all(met) {
            transitions.extend(patcher);
        }
        for slot in 0..self.plan.executors.len() {
            let own = self.executor_transitions(&state.global, state.executors[slot], reduction)?;
            transitions.extend(own.into_iter().map(|transition| transition.of(slot as u8)));
        }
        Ok(())
    }

    fn apply(
        &mut self,
        state: &State,
        transition: Transition,
        reduction: Reduction,
    ) -> Result<Applied<State>> {
        let slot = match transition {
            Transition::Patcher | Transition::Piece(_) => return self.apply_patcher(state, transition),
            Transition::Observe(slot) | Transition::RaiseNmi(slot) | Transition::Execute(slot, _) => slot,
            Transition::Ipi(slot, _) | Transition::Nmi(slot) | Transition::Irq(slot) => slot,
            Transition::Smi(slot) | Transition::MachineCheck(slot) | Transition::Commit(slot) => slot,
        };
        let slot = usize::from(slot);
        let request = self.request(&state.global, slot, state.executors[slot], transition, reduction);
        let applied = self.executor_transition(&state.global, request)?;
        Ok(applied.map(|(global, executor)| {
            let mut next = State { global, ..*state };
            next.executors[slot] = executor;
            next
        }))
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
