//! Pairs of instructions that a writer stores in turn, where the bytes of two make up a third instruction.
//!
//! Each mix of the bytes that differ is harmless, and leaves a different value in RAX: another target of a branch, a
//! longer NOP, CBW. The survey tries each mix alone before it stores anything. Since every second store restores the old
//! version, a stale instruction looks like a later one: pairs show *torn*, and nothing about staleness or order.

use std::collections::BTreeMap;

use super::cell::{Crosses, LINE, PAGE, crosses, in_line};
use super::outcome::Side;
use super::results::{PairRow, PairSeen};
use crate::linux::hex;
use crate::machine::free::Pass;
use crate::machine::free::survey::{Alternating, Job, Length, SurveyVm, pad};
use crate::machine::{MachineError, Result};

/// `xor eax, eax; mov al, 0x80` before each pair: ZF is set, and AX changes where AL is extended.
const LEAD: [u8; 4] = [0x31, 0xc0, 0xb0, 0x80];

/// Two versions of eight bytes, of which some differ.
#[derive(Debug, Clone, Copy)]
pub struct Pair {
    /// Its name in reports.
    pub name: &'static str,
    /// The bytes of every second store, and of the site at the start.
    pub old: [u8; 8],
    /// The bytes of the stores between.
    pub new: [u8; 8],
    /// Length of the branch in bytes, and the targets of its mixes relative to its end.
    pub targets: (usize, &'static [i64]),
    /// One version raises #BP.
    pub traps: bool,
}

/// The targets of most pairs: one for each mix of two bytes of a displacement.
const FOUR: &[i64] = &[0x3110, 0x3120, 0x3210, 0x3220];
/// The bytes of a long NOP as a displacement.
const NOP: &[i64] = &[0x441f, 0x801f];

impl Pair {
    /// All.
    pub const ALL: [Pair; 7] = [
        Pair::of_five("jmp <-> jmp", [0xe9, 0x10, 0x31], [0xe9, 0x20, 0x32], FOUR),
        Pair::of_five("call <-> call", [0xe8, 0x10, 0x31], [0xe8, 0x20, 0x32], FOUR),
        // A mix is a NOP of seven bytes, which includes `mov al, 0x11`.
        Pair::of_five("nop5 <-> jmp", [0x0f, 0x1f, 0x44], [0xe9, 0x1f, 0x80], NOP),
        Pair::of_five("nop5 <-> call", [0x0f, 0x1f, 0x44], [0xe8, 0x1f, 0x80], NOP),
        Pair::of_five("call <-> jmp", [0xe8, 0x10, 0x31], [0xe9, 0x20, 0x32], FOUR),
        // 66 98 is CBW.
        Pair {
            name: "nop2 <-> jz",
            old: [0x66, 0x90, 0xc3, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc],
            new: [0x74, 0x98, 0xc3, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc],
            targets: (2, &[-0x70, -0x68]),
            traps: false,
        },
        // Stored by its first byte alone.
        Pair {
            name: "mov <-> int3",
            old: [0xb8, 0x55, 0x01, 0, 0, 0xc3, 0xcc, 0xcc],
            new: [0xcc, 0x55, 0x01, 0, 0, 0xc3, 0xcc, 0xcc],
            targets: (0, &[]),
            traps: true,
        },
    ];

    /// Two instructions of five bytes, whose last two are 0, followed by `mov al, 0x11; ret`.
    const fn of_five(name: &'static str, old: [u8; 3], new: [u8; 3], targets: &'static [i64]) -> Pair {
        let old = [old[0], old[1], old[2], 0, 0, 0xb0, 0x11, 0xc3];
        let new = [new[0], new[1], new[2], 0, 0, 0xb0, 0x11, 0xc3];
        Pair { name, old, new, targets: (5, targets), traps: false }
    }

    /// Offsets of the bytes that differ.
    fn varied(&self) -> Vec<usize> {
        (0..8).filter(|&at| self.old[at] != self.new[at]).collect()
    }

    /// Stores write one byte, or all eight.
    fn length(&self) -> Length {
        if self.varied() == [0] { Length::One } else { Length::Eight }
    }

    /// Every mix of the two versions, the old one first and the new one last.
    fn mixes(&self) -> Vec<[u8; 8]> {
        let varied = self.varied();
        let mix = |mask: usize| {
            let mut bytes = self.old;
            let new = varied.iter().enumerate().filter(|(bit, _)| mask >> bit & 1 != 0);
            new.for_each(|(_, &at)| bytes[at] = self.new[at]);
            bytes
        };
        (0..1 << varied.len()).map(mix).collect()
    }
}

/// A pair at a place.
#[derive(Debug, Clone, Copy)]
pub struct PairCell {
    /// The pair.
    pub pair: Pair,
    /// Offset of the first byte stored, in the two site pages.
    store: usize,
}

impl PairCell {
    /// A pair inside an aligned quadword.
    pub fn inside(pair: Pair) -> PairCell {
        PairCell { pair, store: in_line(0) }
    }

    /// A pair whose last differing byte is the first behind a boundary of `block` bytes, up to a page.
    pub fn across(pair: Pair, block: usize) -> PairCell {
        let last = pair.varied().last().copied().unwrap_or_default();
        PairCell { pair, store: if block == PAGE { PAGE - last } else { in_line(block) - last } }
    }

    /// Every pair inside a quadword and across each boundary; a pair that differs in one byte, also at the end of a line.
    pub fn all() -> Vec<PairCell> {
        PairCell::about(&[8, 16, 32, LINE, PAGE])
    }

    /// Every pair inside a quadword and across lines.
    pub fn few() -> Vec<PairCell> {
        PairCell::about(&[LINE])
    }

    fn about(blocks: &[usize]) -> Vec<PairCell> {
        let of = |pair: Pair| -> Vec<PairCell> {
            let mut cells = vec![PairCell::inside(pair)];
            if pair.varied().len() > 1 {
                cells.extend(blocks.iter().map(|&block| PairCell::across(pair, block)));
            } else {
                cells.push(PairCell { pair, store: in_line(LINE - 1) });
            }
            cells
        };
        Pair::ALL.into_iter().flat_map(of).collect()
    }

    /// Offset in the line.
    pub fn offset(self) -> usize {
        self.store % LINE
    }

    /// The largest boundary between the bytes that differ.
    pub fn crosses(self) -> Crosses {
        let varied = self.pair.varied();
        crosses(self.store + varied[0], varied[varied.len() - 1] - varied[0] + 1)
    }

    /// AMD promises that the store is seen whole (APM vol. 2, 7.6.1).
    pub fn amd_promises_whole(self) -> bool {
        crosses(self.store, self.pair.length().bytes()) == Crosses::Nothing
    }

    /// The result before any pass.
    pub(super) fn row(self) -> PairRow {
        PairRow {
            pair: self.pair.name.into(),
            old: hex(&self.pair.old),
            new: hex(&self.pair.new),
            offset: self.offset(),
            crosses: self.crosses(),
            amd_promises_whole: self.amd_promises_whole(),
            several_bytes: self.pair.varied().len() > 1,
            seen: Vec::new(),
        }
    }

    /// Sides that run the pair: the threads without KVM do not handle #BP.
    pub(super) fn sides(self) -> impl Iterator<Item = Side> {
        PairRow::SIDES.into_iter().filter(move |&side| !(self.pair.traps && side == Side::Plain))
    }

    /// The job of a mix, or of both versions in turn if `bytes` is the old one; the rest is taken from `like`.
    pub(super) fn job(self, bytes: [u8; 8], like: &Job) -> Job {
        let (length, targets) = self.pair.targets;
        let pads = targets.iter().zip(1u32..).map(|(&target, id)| {
            let at = (self.store + length).checked_add_signed(target as isize);
            (at.expect("pads lie behind the first site page's beginning"), pad(id << 8))
        });
        Job {
            site: self.store - LEAD.len(),
            code: [&LEAD[..], &bytes].concat(),
            store: self.store,
            length: self.pair.length(),
            alternating: Some(Alternating { versions: [self.pair.old, self.pair.new], pads: pads.collect() }),
            ..like.clone()
        }
    }

    /// Tries each mix alone, for the value that it leaves in RAX.
    ///
    /// # Errors
    ///
    /// [`MachineError::Contract`] if a mix is not harmless, or two leave the same value; and those of the machine.
    pub(super) fn outcomes(self, machine: &mut SurveyVm, like: &Job) -> Result<PairOutcomes> {
        let mut outcomes = BTreeMap::new();
        let mixes = self.pair.mixes();
        let last = mixes.len() - 1;
        for (index, mix) in mixes.into_iter().enumerate() {
            let broken = |what: &str| {
                let what = format!("{}: {} alone {what}", self.pair.name, hex(&mix));
                Err(MachineError::Contract { rip: SurveyVm::TEXT + self.store as u64, what })
            };
            let Some(value) = machine.alone(&self.job(mix, like))? else {
                return broken("raises an exception, or leaves different values in RAX");
            };
            let version = match index {
                0 => PairVersion::Old,
                _ if index == last => PairVersion::New,
                _ => PairVersion::Mix(hex(&mix)),
            };
            if outcomes.insert(value, version).is_some() {
                return broken("leaves the same value in RAX as another mix");
            }
        }
        Ok(outcomes)
    }
}

/// The bytes that a pass executed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum PairVersion {
    Old,
    New,
    Mix(String),
}

/// The same by the value that the pass left in RAX.
type PairOutcomes = BTreeMap<u64, PairVersion>;

impl PairSeen {
    /// Counts passes by the version that they showed.
    pub(super) fn count(&mut self, passes: &[Pass], outcomes: &PairOutcomes) {
        self.passes += passes.len() as u64;
        for pass in passes {
            match outcomes.get(&pass.value) {
                Some(PairVersion::Old) => self.old += 1,
                Some(PairVersion::New) => self.new += 1,
                Some(PairVersion::Mix(bytes)) => {
                    self.torn += 1;
                    // Not `entry`, which would copy the bytes each time.
                    match self.mixes.get_mut(bytes) {
                        Some(count) => *count += 1,
                        None => _ = self.mixes.insert(bytes.clone(), 1),
                    }
                }
                None => self.unexplained += 1,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_differ_where_places_have_their_boundary() {
        for cell in PairCell::all() {
            let PairCell { pair, store } = cell;
            let varied = pair.varied();
            assert!(!varied.is_empty() && store >= LEAD.len() + 0x74, "{pair:?}");
            assert_eq!(pair.mixes().len(), 1 << varied.len());
            assert_eq!((pair.mixes()[0], pair.mixes().last().copied()), (pair.old, Some(pair.new)));
            assert!(cell.crosses() == Crosses::Nothing || !cell.amd_promises_whole(), "{cell:?}");
        }
        for pair in Pair::ALL.into_iter().filter(|pair| pair.varied().len() > 1) {
            let crossed: Vec<Crosses> = PairCell::all()
                .into_iter()
                .filter(|cell| cell.pair.name == pair.name)
                .map(PairCell::crosses)
                .collect();
            let all = [Crosses::Nothing, Crosses::Quadword, Crosses::Bytes16, Crosses::Bytes32];
            assert_eq!(crossed, [&all[..], &[Crosses::Line, Crosses::Page]].concat(), "{pair:?}");
            assert!(PairCell::inside(pair).amd_promises_whole());
        }
    }

    #[test]
    fn each_pass_is_counted_once() {
        let outcomes = BTreeMap::from([
            (1, PairVersion::Old),
            (2, PairVersion::New),
            (3, PairVersion::Mix("aa".into())),
            (4, PairVersion::Mix("bb".into())),
        ]);
        let mut seen = PairSeen::default();
        let passes = [1, 2, 2, 3, 4, 3, 9].map(|value| Pass { value, ..Pass::default() });
        seen.count(&passes, &outcomes);
        assert_eq!((seen.passes, seen.old, seen.new, seen.torn, seen.unexplained), (7, 1, 2, 3, 1));
        assert_eq!(seen.mixes, BTreeMap::from([("aa".into(), 2), ("bb".into(), 1)]));
    }
}
