//! What may still happen to memory and to a vCPU, seen from a moment: the less that is, the more of an
//! executor's instructions nobody can tell from their neighbours (see `Model::invisible`).

use crossmod_abi::shared;
use crossmod_model::layout::word_offset;
use crossmod_model::plan::{Function, HandlerVariant, OpKind, Plan, Role};

use super::state::Global;

/// What others may still do from a moment on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(super) struct FutureEffects {
    /// Words of the shared page that may still be written, one bit for each `u32`.
    pub(super) words: u32,
    /// Stores to the site, or a statement about it (completion, quiescence), remain.
    pub(super) site: bool,
    /// Stores to the site remain.
    pub(super) stores: bool,
    /// Any move of the patcher remains.
    pub(super) patcher: bool,
    /// Code at targets may still be withdrawn.
    pub(super) targets: bool,
    /// Slots whose acknowledgement the patcher waits for before it does anything else.
    pub(super) awaited: u32,
    /// NMIs may still be raised.
    pub(super) nmi: bool,
    /// Device interrupts may still come.
    pub(super) irq: bool,
    /// SMIs may still come.
    pub(super) smi: bool,
    /// Machine checks may still come.
    pub(super) mce: bool,
}

/// Bits of the words in `start..end` of the shared page.
pub(super) fn words(start: u64, end: u64) -> u32 {
    (start / 4..end.div_ceil(4)).fold(0, |mask, word| mask | 1 << word)
}

/// For each place in the patcher's program, the phase without the event budgets.
pub(super) fn phases(plan: &Plan) -> Vec<FutureEffects> {
    // Executors write these, whoever they are.
    let mut always = 0;
    let locks = |role: Role| matches!(role, Role::Lock | Role::LockIrqOff);
    if plan.executors.iter().any(|executor| locks(executor.role)) {
        always |= words(shared::LOCK, shared::LOCK + 4);
    }
    if plan.handler.variant == HandlerVariant::Counting {
        always |= words(shared::HITS, shared::HITS + 4);
    }
    let counts = |kind: &OpKind| {
        matches!(kind, OpKind::Broadcast { function: Function::Hold | Function::Stop | Function::Early, .. })
    };
    if plan.program.iter().any(|op| counts(&op.kind)) {
        always |= words(shared::ARRIVED, shared::ARRIVED + 4);
    }
    // So do programs, whenever they run.
    let programs = &plan.programs;
    always |= programs.writes;
    let mut phases = vec![FutureEffects {
        words: always,
        stores: !programs.stores.is_empty(),
        // A function of the scenario's own may run the site, or wait for what this vCPU does in it.
        site: programs.patch() || !programs.gates.is_empty(),
        patcher: programs.patch(),
        ..FutureEffects::default()
    }];
    for op in plan.program.iter().rev() {
        let mut phase = FutureEffects { awaited: 0, patcher: true, ..phases[phases.len() - 1] };
        match &op.kind {
            OpKind::Store { .. } => (phase.stores, phase.site) = (true, true),
            OpKind::Done(_) | OpKind::Quiesce(_) => phase.site = true,
            OpKind::FreeTarget(_) => phase.targets = true,
            OpKind::Describe(_) => phase.words |= words(shared::ACTION, shared::DESCRIPTOR_END),
            OpKind::FreeDescriptor => phase.words |= words(shared::ARMED, shared::DESCRIPTOR_END),
            OpKind::Armed(_) => phase.words |= words(shared::ARMED, shared::ARMED + 4),
            OpKind::SetWord { word, .. } | OpKind::AddWord { word, .. } | OpKind::Take(word) => {
                phase.words |= words(word_offset(*word), word_offset(*word) + 4)
            }
            OpKind::WaitAcks { mask } => phase.awaited = *mask,
            OpKind::Broadcast { function: Function::Nmi, .. } => phase.site = true,
            OpKind::Broadcast { .. } | OpKind::WaitWord { .. } => {}
            OpKind::AssumeSynchronised | OpKind::Delay => {}
            OpKind::SetEach { .. } | OpKind::WaitEach { .. } => {}
        }
        phases.push(phase);
    }
    phases.reverse();
    phases
}

impl FutureEffects {
    /// With the budgets of a moment.
    pub(super) fn at(phases: &[FutureEffects], global: &Global) -> FutureEffects {
        let phase = phases[usize::from(global.pc)];
        let Global { nmi, irq, smi, mce, .. } = *global;
        FutureEffects { nmi: nmi > 0, irq: irq > 0, smi: smi > 0, mce: mce > 0, ..phase }
    }
}
