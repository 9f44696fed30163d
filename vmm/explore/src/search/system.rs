//! The system that a search explores, as far as the search knows it: one patcher, some executors, and what they
//! share.
//!
//! An executor's transitions depend on its own state and on what all share, not on the other executors. So do the
//! patcher's, and what they do to each executor depends on that executor alone. The search therefore asks for the
//! transitions of the parts, by number, and combines them itself.

use std::hash::Hash;

use crossmod_model::property::Violation;
use crossmod_model::state::Id;

use crate::error::Result;

/// An interned list of violations.
pub type ViolationSet = Id<Vec<Violation>>;

/// The empty list.
pub const NO_VIOLATIONS: ViolationSet = Id::new(0);

/// Whether transitions that other actors cannot distinguish are taken together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reduction {
    /// Every atomic transition is a step of the search, and every alternative is taken.
    None,
    /// Partial-order reduction: a transition of an executor goes on through those that commute with everything that
    /// other actors may still do, and a search that ignores stalls expands persistent sets.
    Full,
}

/// Facts about an executor, one bit each. The bits from [`Flags::OWN`] on belong to the system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Flags(pub u16);

impl Flags {
    /// The executor has done everything.
    pub const FINISHED: Flags = Flags(1);
    /// It has interrupts off: a stall grows.
    pub const HELD: Flags = Flags(2);
    /// The first bit that the search gives no meaning to.
    pub const OWN: u16 = 4;

    /// True if all bits of `other` are set.
    pub fn contain(self, other: Flags) -> bool {
        self.0 & other.0 == other.0
    }

    /// These flags, if `condition` holds; otherwise none.
    pub fn when(self, condition: bool) -> Flags {
        if condition { self } else { Flags::default() }
    }
}

impl std::ops::BitOr for Flags {
    type Output = Flags;

    fn bitor(self, other: Flags) -> Flags {
        Flags(self.0 | other.0)
    }
}

/// What the patcher waits for: flags of some executors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Guard {
    /// Bit *i*: executor *i* must have the flags.
    pub executors: u32,
    /// The flags.
    pub flags: Flags,
}

impl Guard {
    /// The patcher waits for nothing.
    pub const NOTHING: Guard = Guard { executors: 0, flags: Flags(0) };

    /// True if the patcher does not wait for the executor in `slot`.
    pub fn met(self, slot: usize, flags: Flags) -> bool {
        self.executors & (1 << slot) == 0 || flags.contain(self.flags)
    }
}

/// The patcher's transitions, given what all share.
#[derive(Debug, Clone)]
pub struct PatcherSteps<S> {
    /// The transitions, in a fixed order.
    pub steps: S,
    /// They are possible only if this is met.
    pub guard: Guard,
    /// They form a persistent set: they commute with everything that executors may do before.
    pub independent: bool,
    /// The patcher has done everything.
    pub finished: bool,
}

/// One transition of the patcher.
#[derive(Debug, Clone, Copy)]
pub struct PatcherStep<G, T> {
    /// What it is.
    pub transition: T,
    /// What all share afterwards.
    pub global: G,
    /// It may change executors, or violate something in them.
    pub touches: bool,
    /// It writes memory that others read.
    pub writes: bool,
}

/// The transitions of the patcher, in a list of their own.
pub type PatcherList<S> = PatcherSteps<Vec<PatcherStep<<S as System>::Global, <S as System>::Transition>>>;

/// The transitions of one executor: what all share and the executor afterwards.
pub type ExecutorSteps<S> = Vec<Applied<(<S as System>::Global, Id<<S as System>::Executor>)>>;

/// The result of a transition, of a whole state or of a part of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Applied<S> {
    /// The next state. For an execution that ended, the state that it reached.
    pub next: S,
    /// What the transition violates.
    pub violations: ViolationSet,
    /// A violation ended this execution.
    pub ended: bool,
    /// Memory that others read was written.
    pub writes: bool,
}

impl<S> Applied<S> {
    /// This is all that happened.
    pub fn quiet(next: S) -> Applied<S> {
        Applied { next, violations: NO_VIOLATIONS, ended: false, writes: false }
    }

    /// The same with the next state seen otherwise.
    pub fn map<T>(self, view: impl FnOnce(S) -> T) -> Applied<T> {
        let Applied { next, violations, ended, writes } = self;
        Applied { next: view(next), violations, ended, writes }
    }
}

/// A system that can be searched.
///
/// The answers may depend on the arguments only. An executor's answers are the same in every slot of its orbit.
pub trait System {
    /// What belongs to no executor.
    type Global: Copy + Eq + Hash + Send + Sync;
    /// What one executor is. The search knows its number.
    type Executor;
    /// A whole state, with every executor in its slot.
    type State: Copy;
    /// A transition, as schedules name it.
    type Transition: Copy + Send + Sync;

    /// For each slot the number of its orbit: the executors of one orbit are interchangeable.
    fn orbits(&self) -> &[u8];
    /// The orbit of an executor.
    fn orbit_of(&self, executor: Id<Self::Executor>) -> u8;
    /// Facts about an executor.
    fn flags(&self, executor: Id<Self::Executor>) -> Flags;
    /// The violations of a set.
    fn violations(&self, set: ViolationSet) -> &[Violation];

    /// Content hash of what belongs to no executor.
    fn global_digest(&self, global: &Self::Global) -> u128;
    /// Content hashes of all executors met so far, by number.
    fn executor_digests(&self) -> &[u128];

    /// The patcher's transitions.
    fn patcher(&mut self, global: &Self::Global) -> Result<PatcherList<Self>>;
    /// What a transition of the patcher from `before` to `after` does to an executor.
    fn patcher_effect(
        &mut self,
        before: &Self::Global,
        after: &Self::Global,
        transition: Self::Transition,
        executor: Id<Self::Executor>,
    ) -> Result<(Id<Self::Executor>, ViolationSet)>;
    /// An executor's transitions, in a fixed order.
    fn executor(
        &mut self,
        global: &Self::Global,
        executor: Id<Self::Executor>,
        reduction: Reduction,
    ) -> Result<ExecutorSteps<Self>>;
    /// True if the patcher waits for executors, and this one can do its part by its own transitions while everything
    /// else stays as it is.
    fn meets_guard_alone(
        &mut self,
        global: &Self::Global,
        executor: Id<Self::Executor>,
        reduction: Reduction,
    ) -> Result<bool>;
    /// Computes an executor's transitions again, from the ground up. A difference is an error.
    fn recheck(
        &mut self,
        global: &Self::Global,
        executor: Id<Self::Executor>,
        reduction: Reduction,
    ) -> Result<()>;

    /// Some execution ends with this global, everything done.
    fn completed(&mut self, _: &Self::Global) {}

    /// The state before the first transition.
    fn initial(&mut self) -> Result<Self::State>;
    /// The parts of a state: what belongs to no executor, and the executors by slot.
    fn parts<'s>(&self, state: &'s Self::State) -> (Self::Global, &'s [Id<Self::Executor>]);
    /// The transitions of a state, in a fixed order.
    fn transitions(
        &mut self,
        state: &Self::State,
        reduction: Reduction,
        transitions: &mut Vec<Self::Transition>,
    ) -> Result<()>;
    /// Performs one of them.
    fn apply(
        &mut self,
        state: &Self::State,
        transition: Self::Transition,
        reduction: Reduction,
    ) -> Result<Applied<Self::State>>;
    /// Who waits for what, for a state from which no schedule completes.
    fn describe(&self, state: &Self::State) -> String;
}
