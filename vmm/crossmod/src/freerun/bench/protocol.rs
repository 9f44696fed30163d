//! The protocols that [`bench`](super::bench) compares, as a host thread performs them.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use strum::VariantArray;

use crate::machine::Result;
use crate::machine::free::bench::{BenchPatcher, Signal, ticks};
use crate::machine::free::spin;

/// Offset of the first site: the start of a cache line.
pub(super) const SITE: usize = 0x400;
const LEN: usize = 5;
const INT3: u8 = 0xcc;

/// A protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, VariantArray)]
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
    pub const ALL: &'static [Protocol] = Protocol::VARIANTS;
    /// The protocol to which ratios relate.
    pub const BASE: Protocol = Protocol::Int3Three;

    /// Its name in reports.
    pub fn name(self) -> &'static str {
        self.definition().0
    }

    /// Number of broadcasts of one patch.
    pub fn rounds(self) -> u64 {
        self.definition().1.iter().filter(|step| matches!(step, Step::Round(_))).count() as u64
    }

    /// Its name, and the steps of the patcher.
    fn definition(self) -> (&'static str, &'static [Step]) {
        use Signal::{Hold, Nmi, Sync};
        use Step::{Delay, First, Release, Round, Tail, Trap, Whole};
        match self {
            Protocol::Naive => ("plain store", &[Delay, Tail]),
            Protocol::Atomic8 => ("8-byte store", &[Delay, Whole]),
            Protocol::Int3One => ("int3, 1 round", &[Trap, Round(Sync), Tail, Delay, First]),
            Protocol::Int3Two => ("int3, 2 rounds", &[Trap, Round(Sync), Tail, Delay, First, Round(Sync)]),
            Protocol::Int3Three => {
                ("int3, 3 rounds", &[Trap, Round(Sync), Tail, Round(Sync), Delay, First, Round(Sync)])
            }
            Protocol::Int3Nmi => {
                ("int3, 3 NMI rounds", &[Trap, Round(Nmi), Tail, Round(Nmi), Delay, First, Round(Nmi)])
            }
            Protocol::IpiHeld => ("single IPI, held", &[Trap, Tail, Round(Hold), Delay, First, Release]),
            Protocol::IpiEarly => ("single IPI, early", &[Trap, Tail, Round(Sync), Delay, First]),
            Protocol::Stop => ("stop_machine", &[Round(Hold), Delay, Tail, First, Release]),
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
    ) -> Result<Performed> {
        let new = quadword(generation);
        let [first, a, b, c, d, ..] = new;
        let tail = [a, b, c, d];
        let mut performed = Performed::default();
        let each = |patcher: &mut BenchPatcher<'_>, offset: usize, bytes: &[u8]| {
            (0..sites).for_each(|site| patcher.store(SITE + site * SLOT + offset, bytes));
        };
        for step in self.definition().1 {
            match *step {
                Step::Trap => each(patcher, 0, &[INT3]),
                Step::Tail => each(patcher, 1, &tail),
                Step::First => each(patcher, 0, &[first]),
                Step::Whole => each(patcher, 0, &new),
                Step::Delay => spin(delay),
                Step::Round(signal) => {
                    let from = ticks();
                    performed.sent += patcher.signal(signal)?;
                    match signal {
                        Signal::Hold => patcher.held()?,
                        Signal::Sync | Signal::Nmi => patcher.acknowledged()?,
                    }
                    performed.rounds[performed.count] = ticks() - from;
                    performed.count += 1;
                }
                Step::Release => {
                    patcher.release();
                    patcher.acknowledged()?;
                }
            }
        }
        Ok(performed)
    }
}

/// A step of the patcher.
#[derive(Debug, Clone, Copy)]
enum Step {
    /// Stores INT3 over the first bytes.
    Trap,
    /// Stores the other bytes.
    Tail,
    /// Stores the first bytes.
    First,
    /// Stores the quadwords.
    Whole,
    /// Sends messages, and waits until every executor has acknowledged its, or is held.
    Round(Signal),
    /// Waits as if a softirq ran here.
    Delay,
    /// Releases held executors.
    Release,
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
