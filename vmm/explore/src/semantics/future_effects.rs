//! What may still happen to memory and to a vCPU. The less may happen, the more of an executor's instructions no other
//! actor can tell from their neighbours (see `Model::invisible`).

use crossmod_abi::shared;
use crossmod_model::layout::word_offset;
use crossmod_model::plan::{Function, HandlerVariant, OpKind, Plan, Role};

use crate::state::Global;

/// What others may still do from a moment on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(super) struct FutureEffects {
    /// Words of the shared page that may still be written, one bit for each `u32`.
    pub(super) words: u32,
    /// A store to the site, or a statement about it (completion, quiescence), remains.
    pub(super) site: bool,
    /// A store to the site remains.
    pub(super) stores: bool,
    /// A step of the patcher remains.
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

/// Words of the shared page that an operation of the patcher writes.
pub(super) fn written(kind: &OpKind) -> u32 {
    match *kind {
        OpKind::Describe(_) => words(shared::ACTION, shared::DESCRIPTOR_END),
        OpKind::FreeDescriptor => words(shared::ARMED, shared::DESCRIPTOR_END),
        OpKind::Armed(_) => words(shared::ARMED, shared::ARMED + 4),
        OpKind::SetWord { word, .. } | OpKind::AddWord { word, .. } | OpKind::Take(word) => {
            words(word_offset(word), word_offset(word) + 4)
        }
        OpKind::Store { .. }
        | OpKind::Broadcast { .. }
        | OpKind::WaitAcks { .. }
        | OpKind::WaitWord { .. } => 0,
        OpKind::SetEach { .. } | OpKind::WaitEach { .. } | OpKind::Quiesce(_) | OpKind::Done(_) => 0,
        OpKind::AssumeSynchronised | OpKind::Delay | OpKind::FreeTarget(_) => 0,
    }
}

/// For each place in the patcher's program, what may still happen, budgets of events aside.
pub(super) fn future_effects(plan: &Plan) -> Vec<FutureEffects> {
    // Words that any executor may write.
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
    let programs = &plan.programs;
    always |= programs.writes;
    let mut all = vec![FutureEffects {
        words: always,
        stores: !programs.stores.is_empty(),
        // A function that the scenario writes may run the site, or wait for what this vCPU does in it.
        site: programs.patch() || !programs.gates.is_empty(),
        patcher: programs.patch(),
        ..FutureEffects::default()
    }];
    for op in plan.program.iter().rev() {
        let mut effects = FutureEffects { awaited: 0, patcher: true, ..all[all.len() - 1] };
        effects.words |= written(&op.kind);
        match &op.kind {
            OpKind::Store { .. } => (effects.stores, effects.site) = (true, true),
            OpKind::Done(_) | OpKind::Quiesce(_) => effects.site = true,
            OpKind::FreeTarget(_) => effects.targets = true,
            OpKind::WaitAcks { mask } => effects.awaited = *mask,
            OpKind::Broadcast { function: Function::Nmi, .. } => effects.site = true,
            _ => {}
        }
        all.push(effects);
    }
    all.reverse();
    all
}

impl FutureEffects {
    /// With the budgets of events that are left.
    pub(super) fn at(all: &[FutureEffects], global: &Global) -> FutureEffects {
        let effects = all[usize::from(global.pc)];
        let Global { nmi, irq, smi, mce, .. } = *global;
        FutureEffects { nmi: nmi > 0, irq: irq > 0, smi: smi > 0, mce: mce > 0, ..effects }
    }
}
