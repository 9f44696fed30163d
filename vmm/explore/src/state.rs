//! A state of the whole system, small: numbers of interned parts.

use std::fmt;
use std::str::FromStr;

use crossmod_model::layout::MAX_CPUS;
use crossmod_model::plan::Function;

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
    /// Interned environment.
    pub env: u32,
}

/// A state. Executors, environment and vCPUs are interned; see [`super::Model`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct State {
    /// What belongs to no executor.
    pub global: Global,
    /// Interned executors; unused ones are 0.
    pub executors: [u32; MAX_CPUS],
}

/// An atomic move.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Move {
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
    /// An SMI comes, and is over.
    Smi(u8),
    /// A machine check is delivered.
    MachineCheck(u8),
}

impl Move {
    /// 0 = the patcher, *i* + 1 = executor *i*. Raising an NMI counts as the executor's: it happens to it.
    pub fn actor(self) -> u8 {
        match self {
            Move::Patcher | Move::Piece(_) | Move::Observe(_) => 0,
            Move::Execute(i, _)
            | Move::Ipi(i, _)
            | Move::Nmi(i)
            | Move::Irq(i)
            | Move::RaiseNmi(i)
            | Move::Smi(i)
            | Move::MachineCheck(i) => i + 1,
        }
    }

    /// The executor that this move steps, if it steps one.
    pub fn executor(self) -> Option<u8> {
        match self {
            Move::Execute(i, _)
            | Move::Ipi(i, _)
            | Move::Nmi(i)
            | Move::Irq(i)
            | Move::Smi(i)
            | Move::MachineCheck(i) => Some(i),
            Move::Patcher | Move::Piece(_) | Move::Observe(_) | Move::RaiseNmi(_) => None,
        }
    }

    /// The same for another executor.
    pub(super) fn of(self, slot: u8) -> Move {
        match self {
            Move::Observe(_) => Move::Observe(slot),
            Move::Execute(_, view) => Move::Execute(slot, view),
            Move::Ipi(_, function) => Move::Ipi(slot, function),
            Move::Nmi(_) => Move::Nmi(slot),
            Move::Irq(_) => Move::Irq(slot),
            Move::RaiseNmi(_) => Move::RaiseNmi(slot),
            Move::Smi(_) => Move::Smi(slot),
            Move::MachineCheck(_) => Move::MachineCheck(slot),
            Move::Patcher | Move::Piece(_) => self,
        }
    }
}

impl fmt::Display for Move {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Move::Patcher => f.write_str("patcher"),
            Move::Piece(piece) => write!(f, "store {piece}"),
            Move::Observe(i) => write!(f, "observe {i}"),
            Move::Execute(i, 0) => write!(f, "execute {i}"),
            Move::Execute(i, view) => write!(f, "execute {i} view {view}"),
            Move::Nmi(i) => write!(f, "nmi {i}"),
            Move::Irq(i) => write!(f, "irq {i}"),
            Move::RaiseNmi(i) => write!(f, "raise-nmi {i}"),
            Move::Smi(i) => write!(f, "smi {i}"),
            Move::MachineCheck(i) => write!(f, "machine-check {i}"),
            Move::Ipi(i, function) => write!(f, "{} {i}", function.name()),
        }
    }
}

impl FromStr for Move {
    type Err = ();

    fn from_str(text: &str) -> Result<Move, ()> {
        let Some((kind, argument)) = text.split_once(' ') else {
            return if text == "patcher" { Ok(Move::Patcher) } else { Err(()) };
        };
        let (argument, view) = match argument.split_once(" view ") {
            Some((argument, view)) if kind == "execute" => (argument, view.parse().map_err(|_| ())?),
            _ => (argument, 0),
        };
        let argument: u8 = argument.parse().map_err(|_| ())?;
        Ok(match kind {
            "store" => Move::Piece(argument),
            "observe" => Move::Observe(argument),
            "execute" => Move::Execute(argument, view),
            "nmi" => Move::Nmi(argument),
            "irq" => Move::Irq(argument),
            "raise-nmi" => Move::RaiseNmi(argument),
            "smi" => Move::Smi(argument),
            "machine-check" => Move::MachineCheck(argument),
            _ => {
                let function = crossmod_model::state::monitor::FUNCTIONS
                    .into_iter()
                    .find(|function| function.name() == kind);
                Move::Ipi(argument, function.ok_or(())?)
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moves_come_back_from_their_text() {
        let mut moves = vec![Move::Patcher, Move::Piece(3), Move::Observe(1), Move::Nmi(0)];
        moves.extend([Move::Execute(2, 0), Move::Execute(2, 7), Move::Irq(4), Move::RaiseNmi(5)]);
        moves.extend([Move::Smi(6), Move::MachineCheck(7)]);
        moves.extend(crossmod_model::state::monitor::FUNCTIONS.map(|function| Move::Ipi(1, function)));
        for one in moves {
            assert_eq!(one.to_string().parse(), Ok(one));
        }
        for text in ["", "nmi", "nmi x", "nmi 300", "jump 1", "patcher 1", "execute 1 view x", "nmi 1 view 1"]
        {
            assert_eq!(text.parse::<Move>(), Err(()), "{text}");
        }
    }
}
