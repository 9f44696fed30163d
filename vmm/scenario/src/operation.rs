//! What a step does: the one key of its table besides `label` and `site`.

use super::fields::fields;
use super::spanned::Spanned;
use super::syntax::{
    Broadcast, Delay, Free, Quiesce, Resume, Serialise, Step, Store, Switch, Sync, Text, Values,
};

/// The operation of a step, with what its key says.
#[derive(Debug, Clone, Copy)]
pub(super) enum Operation<'s> {
    Store(&'s Spanned<Store>),
    Arm,
    Disarm,
    Sync(&'s Spanned<Sync>),
    Broadcast(&'s Spanned<Broadcast>),
    Wait(&'s Spanned<Values>),
    Set(&'s Spanned<Values>),
    Add(&'s Spanned<Values>),
    Take(&'s Text),
    Drop(&'s Text),
    AssumeSynchronised,
    Quiesce(&'s Spanned<Quiesce>),
    Delay(&'s Spanned<Delay>),
    Free(&'s Spanned<Free>),
    Done,
    Abandon,
    Pass,
    Serialise(&'s Spanned<Serialise>),
    Load(&'s Spanned<Values>),
    If(&'s Spanned<Values>),
    Unless(&'s Spanned<Values>),
    Goto(&'s Text),
    Check(&'s Spanned<Values>),
    Fail(&'s Text),
    Trap,
    Interrupts(&'s Spanned<Switch>),
    Flags(&'s Spanned<Values>),
    Acknowledge,
    Pause,
    Fence,
    Resume(&'s Spanned<Resume>),
    Decline,
}

/// Who performs a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Performer {
    /// The patcher of the host, in `[[step]]`.
    Host,
    /// The patcher of the host, and any program.
    HostAndPrograms,
    /// Any program.
    Programs,
    /// A program that is the role of an executor.
    Executors,
    /// The program of the #BP handler.
    Handler,
}

impl Operation<'_> {
    /// All names, as the keys are spelt and in the order of the reference.
    pub fn names() -> impl Iterator<Item = &'static str> {
        let other = |name: &&str| !["label", "site"].contains(name);
        fields::<Step>().iter().copied().filter(other)
    }

    /// As its key is spelt.
    pub fn name(self) -> &'static str {
        match self {
            Operation::Store(_) => "store",
            Operation::Arm => "arm",
            Operation::Disarm => "disarm",
            Operation::Sync(_) => "sync",
            Operation::Broadcast(_) => "broadcast",
            Operation::Wait(_) => "wait",
            Operation::Set(_) => "set",
            Operation::Add(_) => "add",
            Operation::Take(_) => "take",
            Operation::Drop(_) => "drop",
            Operation::AssumeSynchronised => "assume-synchronised",
            Operation::Quiesce(_) => "quiesce",
            Operation::Delay(_) => "delay",
            Operation::Free(_) => "free",
            Operation::Done => "done",
            Operation::Abandon => "abandon",
            Operation::Pass => "pass",
            Operation::Serialise(_) => "serialise",
            Operation::Load(_) => "load",
            Operation::If(_) => "if",
            Operation::Unless(_) => "unless",
            Operation::Goto(_) => "goto",
            Operation::Check(_) => "check",
            Operation::Fail(_) => "fail",
            Operation::Trap => "trap",
            Operation::Interrupts(_) => "interrupts",
            Operation::Flags(_) => "flags",
            Operation::Acknowledge => "acknowledge",
            Operation::Pause => "pause",
            Operation::Fence => "fence",
            Operation::Resume(_) => "resume",
            Operation::Decline => "decline",
        }
    }

    /// Who performs it.
    pub fn performer(self) -> Performer {
        match self {
            Operation::Store(_)
            | Operation::Arm
            | Operation::Disarm
            | Operation::Broadcast(_)
            | Operation::Wait(_)
            | Operation::Set(_)
            | Operation::Add(_)
            | Operation::Take(_)
            | Operation::Drop(_)
            | Operation::Done => Performer::HostAndPrograms,
            Operation::Sync(_)
            | Operation::AssumeSynchronised
            | Operation::Quiesce(_)
            | Operation::Delay(_)
            | Operation::Free(_)
            | Operation::Abandon => Performer::Host,
            Operation::Pass
            | Operation::Serialise(_)
            | Operation::Load(_)
            | Operation::If(_)
            | Operation::Unless(_)
            | Operation::Goto(_)
            | Operation::Check(_)
            | Operation::Fail(_)
            | Operation::Acknowledge
            | Operation::Pause
            | Operation::Fence => Performer::Programs,
            Operation::Trap | Operation::Interrupts(_) | Operation::Flags(_) => Performer::Executors,
            Operation::Resume(_) | Operation::Decline => Performer::Handler,
        }
    }
}

impl Step {
    /// The operations that are set: exactly one in a valid step. A field that is not taken out here is unused, and
    /// that does not compile.
    pub fn operations(&self) -> Vec<Operation<'_>> {
        let Step {
            label: _,
            site: _,
            store,
            arm,
            disarm,
            sync,
            broadcast,
            wait,
            set,
            add,
            take,
            drop,
            assume_synchronised,
            quiesce,
            delay,
            free,
            done,
            abandon,
            pass,
            serialise,
            load,
            when,
            unless,
            goto,
            check,
            fail,
            trap,
            interrupts,
            flags,
            acknowledge,
            pause,
            fence,
            resume,
            decline,
        } = self;
        let operations = [
            store.as_ref().map(Operation::Store),
            arm.as_ref().map(|_| Operation::Arm),
            disarm.as_ref().map(|_| Operation::Disarm),
            sync.as_ref().map(Operation::Sync),
            broadcast.as_ref().map(Operation::Broadcast),
            wait.as_ref().map(Operation::Wait),
            set.as_ref().map(Operation::Set),
            add.as_ref().map(Operation::Add),
            take.as_ref().map(Operation::Take),
            drop.as_ref().map(Operation::Drop),
            assume_synchronised.as_ref().map(|_| Operation::AssumeSynchronised),
            quiesce.as_ref().map(Operation::Quiesce),
            delay.as_ref().map(Operation::Delay),
            free.as_ref().map(Operation::Free),
            done.as_ref().map(|_| Operation::Done),
            abandon.as_ref().map(|_| Operation::Abandon),
            pass.as_ref().map(|_| Operation::Pass),
            serialise.as_ref().map(Operation::Serialise),
            load.as_ref().map(Operation::Load),
            when.as_ref().map(Operation::If),
            unless.as_ref().map(Operation::Unless),
            goto.as_ref().map(Operation::Goto),
            check.as_ref().map(Operation::Check),
            fail.as_ref().map(Operation::Fail),
            trap.as_ref().map(|_| Operation::Trap),
            interrupts.as_ref().map(Operation::Interrupts),
            flags.as_ref().map(Operation::Flags),
            acknowledge.as_ref().map(|_| Operation::Acknowledge),
            pause.as_ref().map(|_| Operation::Pause),
            fence.as_ref().map(|_| Operation::Fence),
            resume.as_ref().map(Operation::Resume),
            decline.as_ref().map(|_| Operation::Decline),
        ];
        operations.into_iter().flatten().collect()
    }
}
