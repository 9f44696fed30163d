//! The protocols that [`bench`](super::bench) compares, as a host thread performs them.

use serde::Serialize;

use crate::machine::MachineError;
use crate::machine::free::{Patcher, Signal};

/// Where the site stands: on a line of its own, at its beginning.
pub(super) const SITE: usize = 0x400;
const LEN: usize = 5;
const INT3: u8 = 0xcc;

/// A protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// One plain store of the bytes that differ, no synchronisation.
    Naive,
    /// One plain store of the aligned quadword that the site stands in.
    Atomic8,
    /// INT3, tail, first byte, with a broadcast after the first.
    Int3One,
    /// INT3, tail, first byte, with a broadcast after the first and the last.
    Int3Two,
    /// INT3, tail, first byte, with a broadcast after each.
    Int3Three,
    /// The same with NMIs instead of IPIs.
    Int3Nmi,
    /// INT3 and tail, then one IPI that holds every executor until the first byte is stored.
    IpiHeld,
    /// INT3 and tail, then one IPI that lets each executor go at once; then the first byte.
    IpiEarly,
    /// Every executor held with interrupts off while everything is stored.
    Stop,
}

impl Protocol {
    /// All, in the order of reports.
    pub const ALL: [Protocol; 9] = [
        Protocol::Naive,
        Protocol::Atomic8,
        Protocol::Int3One,
        Protocol::Int3Two,
        Protocol::Int3Three,
        Protocol::Int3Nmi,
        Protocol::IpiHeld,
        Protocol::IpiEarly,
        Protocol::Stop,
    ];
    /// What ratios are relative to.
    pub const BASE: Protocol = Protocol::Int3Three;

    /// How reports call it.
    pub fn name(self) -> &'static str {
        match self {
            Protocol::Naive => "plain store",
            Protocol::Atomic8 => "8-byte store",
            Protocol::Int3One => "int3, 1 round",
            Protocol::Int3Two => "int3, 2 rounds",
            Protocol::Int3Three => "int3, 3 rounds",
            Protocol::Int3Nmi => "int3, 3 NMI rounds",
            Protocol::IpiHeld => "single IPI, held",
            Protocol::IpiEarly => "single IPI, early",
            Protocol::Stop => "stop_machine",
        }
    }

    /// Broadcasts of one patch.
    pub fn rounds(self) -> u64 {
        match self {
            Protocol::Naive | Protocol::Atomic8 => 0,
            Protocol::Int3One | Protocol::IpiHeld | Protocol::IpiEarly | Protocol::Stop => 1,
            Protocol::Int3Two => 2,
            Protocol::Int3Three | Protocol::Int3Nmi => 3,
        }
    }

    /// Performs it. Returns how many messages were sent.
    pub(super) fn patch(self, patcher: &mut Patcher<'_>, new: [u8; 8]) -> Result<u64, MachineError> {
        let [first, a, b, c, d, ..] = new;
        let tail = [a, b, c, d];
        let mut sent = 0;
        let mut sync = |patcher: &mut Patcher<'_>, signal| -> Result<(), MachineError> {
            sent += patcher.signal(signal)?;
            patcher.acknowledged()
        };
        match self {
            Protocol::Naive => patcher.store(SITE + 1, &tail),
            Protocol::Atomic8 => patcher.store(SITE, &new),
            Protocol::Int3One | Protocol::Int3Two | Protocol::Int3Three | Protocol::Int3Nmi => {
                let signal = if self == Protocol::Int3Nmi { Signal::Nmi } else { Signal::Sync };
                patcher.store(SITE, &[INT3]);
                sync(patcher, signal)?;
                patcher.store(SITE + 1, &tail);
                if self.rounds() == 3 {
                    sync(patcher, signal)?;
                }
                patcher.store(SITE, &[first]);
                if self.rounds() >= 2 {
                    sync(patcher, signal)?;
                }
            }
            Protocol::IpiHeld => {
                patcher.store(SITE, &[INT3]);
                patcher.store(SITE + 1, &tail);
                sent += patcher.signal(Signal::Hold)?;
                patcher.held()?;
                patcher.store(SITE, &[first]);
                patcher.release();
                patcher.acknowledged()?;
            }
            Protocol::IpiEarly => {
                patcher.store(SITE, &[INT3]);
                patcher.store(SITE + 1, &tail);
                sync(patcher, Signal::Sync)?;
                patcher.store(SITE, &[first]);
            }
            Protocol::Stop => {
                sent += patcher.signal(Signal::Hold)?;
                patcher.held()?;
                patcher.store(SITE + 1, &tail);
                patcher.store(SITE, &[first]);
                patcher.release();
                patcher.acknowledged()?;
            }
        }
        Ok(sent)
    }
}

/// The aligned quadword of the site: MOV EAX, imm32; RET; filler.
pub(super) fn code(generation: u32) -> [u8; 8] {
    let [a, b, c, d] = generation.to_le_bytes();
    [0xb8, a, b, c, d, 0xc3, INT3, INT3]
}
const _: () = assert!(SITE.is_multiple_of(8) && LEN < 8);
