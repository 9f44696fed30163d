//! A state of the whole system, small: numbers of interned parts.

use std::fmt;
use std::str::FromStr;

use crate::machine::MAX_CPUS;
use crate::plan::Function;

/// A state. Executors, environment and vCPUs are interned; see [`super::Model`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct State {
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
    /// For a store: its pieces that are committed. For a quiescence: executors seen outside.
    pub mask: u32,
    /// Interned environment.
    pub env: u32,
    /// Interned executors; unused ones are 0.
    pub executors: [u32; MAX_CPUS],
}

impl State {
    /// Words a packed state of this many executors has.
    pub const fn stride(executors: usize) -> usize {
        3 + executors
    }

    /// Appends the packed form.
    pub fn pack(&self, executors: usize, words: &mut Vec<u32>) {
        // Budgets are at most 8.
        let budgets = [self.pc, self.nmi, self.irq, self.smi | self.mce << 4];
        words.push(u32::from_le_bytes(budgets));
        words.push(self.mask);
        words.push(self.env);
        words.extend_from_slice(&self.executors[..executors]);
    }

    /// The state of a packed form.
    pub fn unpack(words: &[u32]) -> State {
        let mut executors = [0; MAX_CPUS];
        executors[..words.len() - 3].copy_from_slice(&words[3..]);
        let [pc, nmi, irq, more] = words[0].to_le_bytes();
        State { pc, nmi, irq, smi: more & 15, mce: more >> 4, mask: words[1], env: words[2], executors }
    }
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
    /// An executor executes one instruction.
    Execute(u8),
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
            Move::Execute(i)
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
            Move::Execute(i)
            | Move::Ipi(i, _)
            | Move::Nmi(i)
            | Move::Irq(i)
            | Move::Smi(i)
            | Move::MachineCheck(i) => Some(i),
            Move::Patcher | Move::Piece(_) | Move::Observe(_) | Move::RaiseNmi(_) => None,
        }
    }

    /// Two bytes: kind and argument.
    pub fn encode(self) -> u16 {
        let (kind, argument) = match self {
            Move::Patcher => (0, 0),
            Move::Piece(piece) => (1, piece),
            Move::Observe(i) => (2, i),
            Move::Execute(i) => (3, i),
            Move::Nmi(i) => (4, i),
            Move::Irq(i) => (5, i),
            Move::RaiseNmi(i) => (6, i),
            Move::Smi(i) => (7, i),
            Move::MachineCheck(i) => (16, i),
            Move::Ipi(i, function) => {
                let index = super::monitor::FUNCTIONS.iter().position(|&f| f == function).unwrap_or_default();
                (8 + index as u8, i)
            }
        };
        u16::from(kind) << 8 | u16::from(argument)
    }

    /// The move of an encoding.
    pub fn decode(code: u16) -> Option<Move> {
        let argument = code as u8;
        Some(match code >> 8 {
            0 => Move::Patcher,
            1 => Move::Piece(argument),
            2 => Move::Observe(argument),
            3 => Move::Execute(argument),
            4 => Move::Nmi(argument),
            5 => Move::Irq(argument),
            6 => Move::RaiseNmi(argument),
            7 => Move::Smi(argument),
            16 => Move::MachineCheck(argument),
            kind => Move::Ipi(argument, *super::monitor::FUNCTIONS.get(usize::from(kind.checked_sub(8)?))?),
        })
    }
}

impl fmt::Display for Move {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Move::Patcher => f.write_str("patcher"),
            Move::Piece(piece) => write!(f, "store {piece}"),
            Move::Observe(i) => write!(f, "observe {i}"),
            Move::Execute(i) => write!(f, "execute {i}"),
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
        let argument: u8 = argument.parse().map_err(|_| ())?;
        Ok(match kind {
            "store" => Move::Piece(argument),
            "observe" => Move::Observe(argument),
            "execute" => Move::Execute(argument),
            "nmi" => Move::Nmi(argument),
            "irq" => Move::Irq(argument),
            "raise-nmi" => Move::RaiseNmi(argument),
            "smi" => Move::Smi(argument),
            "machine-check" => Move::MachineCheck(argument),
            _ => {
                let function = super::monitor::FUNCTIONS.into_iter().find(|function| function.name() == kind);
                Move::Ipi(argument, function.ok_or(())?)
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packing_and_encoding_come_back() {
        let executors = [0; MAX_CPUS];
        let mut state = State { pc: 7, nmi: 2, irq: 1, smi: 8, mce: 3, mask: 0x55, env: 9, executors };
        state.executors[..3].copy_from_slice(&[4, 5, 6]);
        let mut words = Vec::new();
        state.pack(3, &mut words);
        assert_eq!(words.len(), State::stride(3));
        assert_eq!(State::unpack(&words), state);
        let mut moves = vec![Move::Patcher, Move::Piece(3), Move::Observe(1), Move::Execute(2), Move::Nmi(0)];
        moves.extend([Move::Irq(4), Move::RaiseNmi(5), Move::Smi(6), Move::MachineCheck(7)]);
        moves.extend(super::super::monitor::FUNCTIONS.map(|function| Move::Ipi(1, function)));
        for one in moves {
            assert_eq!(Move::decode(one.encode()), Some(one));
            assert_eq!(one.to_string().parse(), Ok(one));
        }
        assert_eq!(Move::decode(0xff00), None);
        assert_eq!(Move::decode(0x1100), None);
        for text in ["", "nmi", "nmi x", "nmi 300", "jump 1", "patcher 1"] {
            assert_eq!(text.parse::<Move>(), Err(()), "{text}");
        }
    }
}
