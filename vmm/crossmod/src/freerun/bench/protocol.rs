//! The protocols that [`bench`](super::bench) compares, as a host thread performs them.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::machine::MachineError;
use crate::machine::free::bench::{BenchPatcher, Signal, ticks};
use crate::machine::free::spin;

/// Offset of the first site: the start of a cache line.
pub(super) const SITE: usize = 0x400;
const LEN: usize = 5;
const INT3: u8 = 0xcc;

/// A protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// One plain store of the bytes that differ, no synchronisation.
    Naive,
    /// One plain store of the aligned quadword that contains the site.
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
    /// INT3 and tail, then one IPI that does not hold executors; then the first byte.
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
    /// The protocol to which ratios relate.
    pub const BASE: Protocol = Protocol::Int3Three;

    /// Its name in reports.
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

    /// Number of broadcasts of one patch.
    pub fn rounds(self) -> u64 {
        match self {
            Protocol::Naive | Protocol::Atomic8 => 0,
            Protocol::Int3One | Protocol::IpiHeld | Protocol::IpiEarly | Protocol::Stop => 1,
            Protocol::Int3Two => 2,
            Protocol::Int3Three | Protocol::Int3Nmi => 3,
        }
    }

    /// Performs it on `sites` sites, with common rounds of messages. The patcher waits for `delay` before the last store,
    /// while executors are held or trap.
    pub(super) fn patch(
        self,
        patcher: &mut BenchPatcher<'_>,
        generation: u32,
        sites: usize,
        delay: Duration,
    ) -> Result<Performed, MachineError> {
        let new = quadword(generation);
        let [first, a, b, c, d, ..] = new;
        let tail = [a, b, c, d];
        let mut performed = Performed::default();
        let each = |patcher: &mut BenchPatcher<'_>, offset: usize, bytes: &[u8]| {
            (0..sites).for_each(|site| patcher.store(SITE + site * SLOT + offset, bytes));
        };
        let mut round = |patcher: &mut BenchPatcher<'_>, signal| -> Result<(), MachineError> {
            let from = ticks();
            performed.sent += patcher.signal(signal)?;
            if signal == Signal::Hold {
                patcher.held()?
            } else {
                patcher.acknowledged()?
            }
            performed.rounds[performed.count] = ticks() - from;
            performed.count += 1;
            Ok(())
        };
        match self {
            Protocol::Naive => {
                spin(delay);
                each(patcher, 1, &tail);
            }
            Protocol::Atomic8 => {
                spin(delay);
                each(patcher, 0, &new);
            }
            Protocol::Int3One | Protocol::Int3Two | Protocol::Int3Three | Protocol::Int3Nmi => {
                let signal = if self == Protocol::Int3Nmi { Signal::Nmi } else { Signal::Sync };
                each(patcher, 0, &[INT3]);
                round(patcher, signal)?;
                each(patcher, 1, &tail);
                if self.rounds() == 3 {
                    round(patcher, signal)?;
                }
                spin(delay);
                each(patcher, 0, &[first]);
                if self.rounds() >= 2 {
                    round(patcher, signal)?;
                }
            }
            Protocol::IpiHeld => {
                each(patcher, 0, &[INT3]);
                each(patcher, 1, &tail);
                round(patcher, Signal::Hold)?;
                spin(delay);
                each(patcher, 0, &[first]);
                patcher.release();
                patcher.acknowledged()?;
            }
            Protocol::IpiEarly => {
                each(patcher, 0, &[INT3]);
                each(patcher, 1, &tail);
                round(patcher, Signal::Sync)?;
                spin(delay);
                each(patcher, 0, &[first]);
            }
            Protocol::Stop => {
                round(patcher, Signal::Hold)?;
                spin(delay);
                each(patcher, 1, &tail);
                each(patcher, 0, &[first]);
                patcher.release();
                patcher.acknowledged()?;
            }
        }
        Ok(performed)
    }
}

/// Messages of one patch.
#[derive(Debug, Default)]
pub(super) struct Performed {
    /// Messages sent.
    pub sent: u64,
    /// Time of each round in TSC ticks, from sending the first message until every executor has acknowledged it, or is
    /// held.
    rounds: [u64; 3],
    count: usize,
}

impl Performed {
    pub fn rounds(&self) -> &[u64] {
        &self.rounds[..self.count]
    }
}

/// Most sites.
pub const MOST_SITES: usize = 256;
/// Bytes from one site to the next.
const SLOT: usize = 8;

/// The aligned quadword of a site: MOV EAX, imm32; NOP.
fn quadword(generation: u32) -> [u8; SLOT] {
    let [a, b, c, d] = generation.to_le_bytes();
    [0xb8, a, b, c, d, 0x0f, 0x1f, 0x00]
}

/// Consecutive sites, and a RET.
pub(super) fn code(sites: usize) -> Vec<u8> {
    let mut code = quadword(0).repeat(sites);
    code.push(0xc3);
    code
}

const _: () = assert!(SITE.is_multiple_of(SLOT) && LEN < SLOT && SITE + MOST_SITES * SLOT < 0x2000);
