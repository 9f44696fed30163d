//! What a step does: the one key of its table besides `label` and `site`.

use super::spanned::Spanned;
use super::syntax::{
    Broadcast, Delay, Empty, Free, Quiesce, Resume, Serialise, Step, Store, Switch, Sync, Text, Values,
};

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

/// Each operation with its value, the field of [`Step`] that has it, how that key is spelt, and who performs it.
macro_rules! operations {
    ($($operation:ident($value:ty): $field:ident, $name:literal, $performer:ident;)*) => {
        /// The operation of a step, with what its key says.
        #[derive(Debug, Clone, Copy)]
        #[expect(dead_code, reason = "`{}` has nothing to read")]
        pub(super) enum Operation<'s> {
            $($operation(&'s $value),)*
        }

        impl Operation<'_> {
            /// All operations as their keys are spelt, in the order of the reference, with who performs them.
            pub const ALL: &'static [(&'static str, Performer)] = &[$(($name, Performer::$performer)),*];

            /// As its key is spelt.
            pub fn name(self) -> &'static str {
                match self {
                    $(Operation::$operation(_) => $name,)*
                }
            }

            /// Who performs it.
            pub fn performer(self) -> Performer {
                match self {
                    $(Operation::$operation(_) => Performer::$performer,)*
                }
            }
        }

        impl Step {
            /// The operations that are set: exactly one in a valid step. A field that is not in the table does not
            /// compile.
            pub fn operations(&self) -> Vec<Operation<'_>> {
                let Step { label: _, site: _, $($field),* } = self;
                [$($field.as_ref().map(Operation::$operation)),*].into_iter().flatten().collect()
            }
        }
    };
}

operations! {
    Store(Spanned<Store>): store, "store", HostAndPrograms;
    Arm(Empty): arm, "arm", HostAndPrograms;
    Disarm(Empty): disarm, "disarm", HostAndPrograms;
    Sync(Spanned<Sync>): sync, "sync", Host;
    Broadcast(Spanned<Broadcast>): broadcast, "broadcast", HostAndPrograms;
    Wait(Spanned<Values>): wait, "wait", HostAndPrograms;
    Set(Spanned<Values>): set, "set", HostAndPrograms;
    Add(Spanned<Values>): add, "add", HostAndPrograms;
    Take(Text): take, "take", HostAndPrograms;
    Drop(Text): drop, "drop", HostAndPrograms;
    AssumeSynchronised(Empty): assume_synchronised, "assume-synchronised", Host;
    Quiesce(Spanned<Quiesce>): quiesce, "quiesce", Host;
    Delay(Spanned<Delay>): delay, "delay", Host;
    Free(Spanned<Free>): free, "free", Host;
    Done(Empty): done, "done", HostAndPrograms;
    Abandon(Empty): abandon, "abandon", Host;
    Pass(Empty): pass, "pass", Programs;
    Serialise(Spanned<Serialise>): serialise, "serialise", Programs;
    Load(Spanned<Values>): load, "load", Programs;
    If(Spanned<Values>): when, "if", Programs;
    Unless(Spanned<Values>): unless, "unless", Programs;
    Goto(Text): goto, "goto", Programs;
    Check(Spanned<Values>): check, "check", Programs;
    Fail(Text): fail, "fail", Programs;
    Trap(Empty): trap, "trap", Executors;
    Interrupts(Spanned<Switch>): interrupts, "interrupts", Executors;
    Flags(Spanned<Values>): flags, "flags", Executors;
    Acknowledge(Empty): acknowledge, "acknowledge", Programs;
    Pause(Empty): pause, "pause", Programs;
    Fence(Empty): fence, "fence", Programs;
    Resume(Spanned<Resume>): resume, "resume", Handler;
    Decline(Empty): decline, "decline", Handler;
}
