//! A state of the whole system, small: numbers of interned parts.

use std::fmt;
use std::str::FromStr;

use crossmod_model::layout::MAX_CPUS;
use crossmod_model::plan::Function;
use crossmod_model::state::ghost::Executor;
use crossmod_model::state::shared_state::SharedState;
use crossmod_model::state::{Actor, Id};

/// What belongs to no executor: how far the patcher is, what may still come, what all share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Global {
    /// Index of the patcher's next operation.
    pub pc: u8,
    /// NMIs that may still be raised.
    pub nmi: u8,
    /// Device interrupts that may still come.
    pub irq: u8,
    /// SMIs that may still come.
    pub smi: u8,
    /// Machine checks that may still come.
    pub mce: u8,
    /// For a store: its pieces that are committed.
    pub mask: u32,
    /// What all actors share, interned.
    pub shared_state: Id<SharedState>,
}

/// A state. Executors and what they share are interned by a [`Model`](crate::Model).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct State {
    /// What belongs to no executor.
    pub global: Global,
    /// Interned executors; unused ones are 0.
    pub executors: [Id<Executor>; MAX_CPUS],
}

/// An atomic transition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Transition {
    /// The patcher performs its next operation.
    Patcher,
    /// The patcher's store commits one of its pieces (index among the plan's pieces).
    Piece(u8),
    /// The patcher's quiescence sees this executor outside the site.
    Observe(u8),
    /// An executor executes one instruction; what it fetches is this view of the site (index among those that
    /// the fetch model allows, 0 away from the site).
    Execute(u8, u8),
    /// A pending broadcast is delivered.
    Ipi(u8, Function),
    /// A latched NMI is delivered.
    Nmi(u8),
    /// A device interrupt is delivered.
    Irq(u8),
    /// An NMI is raised.
    RaiseNmi(u8),
    /// An SMI arrives, up to the end of its RSM.
    Smi(u8),
    /// A machine check is delivered.
    MachineCheck(u8),
    /// The oldest store in an executor's buffer reaches memory.
    Commit(u8),
}

impl Transition {
    /// Whose transition it is. Raising an NMI counts as the executor's, which the NMI happens to.
    pub fn actor(self) -> Actor {
        match self {
            Transition::Patcher | Transition::Piece(_) | Transition::Observe(_) => Actor::Patcher,
            Transition::Execute(slot, _)
            | Transition::Ipi(slot, _)
            | Transition::Nmi(slot)
            | Transition::Irq(slot)
            | Transition::RaiseNmi(slot)
            | Transition::Smi(slot)
            | Transition::MachineCheck(slot)
            | Transition::Commit(slot) => Actor::Executor(slot),
        }
    }

    /// The executor that this transition steps, if it steps one.
    pub fn executor(self) -> Option<u8> {
        match self.actor() {
            Actor::Executor(slot) if !matches!(self, Transition::RaiseNmi(_)) => Some(slot),
            Actor::Executor(_) | Actor::Patcher => None,
        }
    }

    /// The same for another executor.
    pub(crate) fn of(self, slot: u8) -> Transition {
        match self {
            Transition::Observe(_) => Transition::Observe(slot),
            Transition::Execute(_, view) => Transition::Execute(slot, view),
            Transition::Ipi(_, function) => Transition::Ipi(slot, function),
            Transition::Nmi(_) => Transition::Nmi(slot),
            Transition::Irq(_) => Transition::Irq(slot),
            Transition::RaiseNmi(_) => Transition::RaiseNmi(slot),
            Transition::Smi(_) => Transition::Smi(slot),
            Transition::MachineCheck(_) => Transition::MachineCheck(slot),
            Transition::Commit(_) => Transition::Commit(slot),
            Transition::Patcher | Transition::Piece(_) => self,
        }
    }
}

impl fmt::Display for Transition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Transition::Patcher => f.write_str("patcher"),
            Transition::Piece(piece) => write!(f, "store {piece}"),
            Transition::Observe(i) => write!(f, "observe {i}"),
            Transition::Execute(i, 0) => write!(f, "execute {i}"),
            Transition::Execute(i, view) => write!(f, "execute {i} view {view}"),
            Transition::Nmi(i) => write!(f, "nmi {i}"),
            Transition::Irq(i) => write!(f, "irq {i}"),
            Transition::RaiseNmi(i) => write!(f, "raise-nmi {i}"),
            Transition::Smi(i) => write!(f, "smi {i}"),
            Transition::MachineCheck(i) => write!(f, "machine-check {i}"),
            Transition::Commit(i) => write!(f, "commit {i}"),
            Transition::Ipi(i, function) => write!(f, "{} {i}", function.name()),
        }
    }
}

impl FromStr for Transition {
    type Err = ();

    fn from_str(text: &str) -> Result<Transition, ()> {
        let Some((kind, argument)) = text.split_once(' ') else {
            return if text == "patcher" { Ok(Transition::Patcher) } else { Err(()) };
        };
        let (argument, view) = match argument.split_once(" view ") {
            Some((argument, view)) if kind == "execute" => (argument, view.parse().map_err(|_| ())?),
            _ => (argument, 0),
        };
        let argument: u8 = argument.parse().map_err(|_| ())?;
        Ok(match kind {
            "store" => Transition::Piece(argument),
            "observe" => Transition::Observe(argument),
            "execute" => Transition::Execute(argument, view),
            "nmi" => Transition::Nmi(argument),
            "irq" => Transition::Irq(argument),
            "raise-nmi" => Transition::RaiseNmi(argument),
            "smi" => Transition::Smi(argument),
            "machine-check" => Transition::MachineCheck(argument),
            "commit" => Transition::Commit(argument),
            _ => {
                let function = Function::maskable().find(|function| function.name() == kind);
                Transition::Ipi(argument, function.ok_or(())?)
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transitions_come_back_from_their_text() {
        let mut all =
            vec![Transition::Patcher, Transition::Piece(3), Transition::Observe(1), Transition::Nmi(0)];
        all.extend([
            Transition::Execute(2, 0),
            Transition::Execute(2, 7),
            Transition::Irq(4),
            Transition::RaiseNmi(5),
        ]);
        all.extend([Transition::Smi(6), Transition::MachineCheck(7), Transition::Commit(2)]);
        all.extend(Function::maskable().map(|function| Transition::Ipi(1, function)));
        for one in all {
            assert_eq!(one.to_string().parse(), Ok(one));
        }
        for text in ["", "nmi", "nmi x", "nmi 300", "jump 1", "patcher 1", "execute 1 view x", "nmi 1 view 1"]
        {
            assert_eq!(text.parse::<Transition>(), Err(()), "{text}");
        }
    }
}
