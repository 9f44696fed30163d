//! Pairs of instructions that a writer stores in turn, where the bytes of two make up a third instruction.
//!
//! Each mix of the bytes that differ is harmless, and leaves something of its own in RAX: another target of a branch, a
//! longer NOP, CBW. What each leaves is not assumed but tried, byte mix by byte mix, before anything is stored. Since the
//! old version comes back with every second store, a stale instruction looks like a later one: these places claim
//! *torn*, and nothing about staleness or order.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::cell::{Crosses, LINE, PAGE, crosses, in_line};
use super::survey::{Finding, Side};
use crate::host::Host;
use crate::linux::hex;
use crate::machine::MachineError;
use crate::machine::free::{Alternating, FreeMachine, Job, Length, Pass, pad};

/// `xor eax, eax; mov al, 0x80` before each pair: ZF is set, and AX changes where AL is extended.
const LEAD: [u8; 4] = [0x31, 0xc0, 0xb0, 0x80];

/// Two versions of eight bytes, of which some differ.
#[derive(Debug, Clone, Copy)]
pub struct Pair {
    /// How reports call it.
    pub name: &'static str,
    /// What one store has, and what the site has at first.
    pub old: [u8; 8],
    /// What the next one has.
    pub new: [u8; 8],
    /// Where the mixes of the branch lead, relative to the end of the branch, which has so many bytes.
    pub targets: (usize, &'static [i64]),
    /// One raises #BP.
    pub traps: bool,
}

/// What the branches of most pairs lead to: each mix of two bytes of a displacement is one.
const FOUR: &[i64] = &[0x3110, 0x3120, 0x3210, 0x3220];
/// The bytes of a long NOP as a displacement.
const NOP: &[i64] = &[0x441f, 0x801f];

impl Pair {
    /// All.
    pub const ALL: [Pair; 7] = [
        Pair {
            name: "jmp <-> jmp",
            old: [0xe9, 0x10, 0x31, 0, 0, 0xb0, 0x11, 0xc3],
            new: [0xe9, 0x20, 0x32, 0, 0, 0xb0, 0x11, 0xc3],
            targets: (5, FOUR),
            traps: false,
        },
        Pair {
            name: "call <-> call",
            old: [0xe8, 0x10, 0x31, 0, 0, 0xb0, 0x11, 0xc3],
            new: [0xe8, 0x20, 0x32, 0, 0, 0xb0, 0x11, 0xc3],
            targets: (5, FOUR),
            traps: false,
        },
        // Bytes of both are a NOP of seven bytes, which takes in `mov al, 0x11`.
        Pair {
            name: "nop5 <-> jmp",
            old: [0x0f, 0x1f, 0x44, 0, 0, 0xb0, 0x11, 0xc3],
            new: [0xe9, 0x1f, 0x80, 0, 0, 0xb0, 0x11, 0xc3],
            targets: (5, NOP),
            traps: false,
        },
        Pair {
            name: "nop5 <-> call",
            old: [0x0f, 0x1f, 0x44, 0, 0, 0xb0, 0x11, 0xc3],
            new: [0xe8, 0x1f, 0x80, 0, 0, 0xb0, 0x11, 0xc3],
            targets: (5, NOP),
            traps: false,
        },
        Pair {
            name: "call <-> jmp",
            old: [0xe8, 0x10, 0x31, 0, 0, 0xb0, 0x11, 0xc3],
            new: [0xe9, 0x20, 0x32, 0, 0, 0xb0, 0x11, 0xc3],
            targets: (5, FOUR),
            traps: false,
        },
        // 66 98 is CBW.
        Pair {
            name: "nop2 <-> jz",
            old: [0x66, 0x90, 0xc3, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc],
            new: [0x74, 0x98, 0xc3, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc],
            targets: (2, &[-0x70, -0x68]),
            traps: false,
        },
        // By a store of the first byte alone.
        Pair {
            name: "mov <-> int3",
            old: [0xb8, 0x55, 0x01, 0, 0, 0xc3, 0xcc, 0xcc],
            new: [0xcc, 0x55, 0x01, 0, 0, 0xc3, 0xcc, 0xcc],
            targets: (0, &[]),
            traps: true,
        },
    ];

    /// Offsets of the bytes that differ.
    fn varied(&self) -> Vec<usize> {
        (0..8).filter(|&at| self.old[at] != self.new[at]).collect()
    }

    /// One byte is stored, or all eight.
    fn length(&self) -> Length {
        if self.varied() == [0] { Length::One } else { Length::Eight }
    }

    /// Every mix of the two, the old version first and the new one last.
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
    /// Which.
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

    /// Every pair inside a quadword and across each boundary; what varies in one byte only, also at the end of a line.
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
        let (first, last) =
            (varied.first().copied().unwrap_or_default(), varied.last().copied().unwrap_or_default());
        crosses(self.store + first, last - first + 1)
    }

    /// AMD promises that the store is seen whole (APM vol. 2, 7.6.1).
    pub fn amd_promises_whole(self) -> bool {
        crosses(self.store, self.pair.length().bytes()) == Crosses::Nothing
    }

    /// What a row is without having run.
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

    /// The job of a mix, or of both versions in turn from the old one on; the rest is of `like`.
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

    /// What each mix leaves in RAX.
    ///
    /// # Errors
    ///
    /// [`MachineError::Contract`] if one is not harmless here, or two leave the same; and those of the machine.
    pub(super) fn outcomes(self, machine: &mut FreeMachine, like: &Job) -> Result<Outcomes, MachineError> {
        let mut outcomes = BTreeMap::new();
        let mixes = self.pair.mixes();
        let last = mixes.len() - 1;
        for (index, mix) in mixes.into_iter().enumerate() {
            let broken = |what: &str| {
                let what = format!("{}: {} alone {what}", self.pair.name, hex(&mix));
                Err(MachineError::Contract { rip: FreeMachine::TEXT + self.store as u64, what })
            };
            let Some(value) = machine.alone(&self.job(mix, like))? else {
                return broken("raises an exception, or does not leave the same in RAX each time");
            };
            let version = match index {
                0 => Version::Old,
                _ if index == last => Version::New,
                _ => Version::Mix(hex(&mix)),
            };
            if outcomes.insert(value, version).is_some() {
                return broken("leaves what another mix leaves");
            }
        }
        Ok(Outcomes(outcomes))
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Version {
    Old,
    New,
    Mix(String),
}

/// What a pass that left a value in RAX has executed.
pub(super) struct Outcomes(BTreeMap<u64, Version>);

/// One side of a pair at a place.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PairSeen {
    /// Who executed and stored.
    pub side: Side,
    /// All passes: each is old, new, torn, or unexplained.
    pub passes: u64,
    /// Passes that showed the old version, whichever store it was of.
    pub old: u64,
    /// Passes that showed the new one.
    pub new: u64,
    /// Passes that executed bytes of both.
    pub torn: u64,
    /// Passes that left in RAX what no mix of the bytes leaves.
    pub unexplained: u64,
    /// Exceptions: no mix raises one that is not handled.
    pub exceptions: u64,
    /// The mixes that were executed, in hex, with how often each was.
    pub mixes: BTreeMap<String, u64>,
    /// Stores made.
    pub stores: u64,
    /// How long it ran.
    pub seconds: f64,
}

impl PairSeen {
    pub(super) fn new(side: Side) -> PairSeen {
        PairSeen {
            side,
            passes: 0,
            old: 0,
            new: 0,
            torn: 0,
            unexplained: 0,
            exceptions: 0,
            mixes: BTreeMap::new(),
            stores: 0,
            seconds: 0.0,
        }
    }

    pub(super) fn add(&mut self, passes: &[Pass], outcomes: &Outcomes) {
        self.passes += passes.len() as u64;
        for pass in passes {
            match outcomes.0.get(&pass.value) {
                Some(Version::Old) => self.old += 1,
                Some(Version::New) => self.new += 1,
                Some(Version::Mix(bytes)) => {
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

/// A pair at a place, with what was seen.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PairRow {
    /// Name of the pair.
    pub pair: String,
    /// Eight bytes of the old version, in hex.
    pub old: String,
    /// Of the new one.
    pub new: String,
    /// Offset of the first byte in its line.
    pub offset: usize,
    /// What the bytes that differ cross.
    pub crosses: Crosses,
    /// AMD promises that the store is seen whole.
    pub amd_promises_whole: bool,
    /// More than one byte differs: it can be torn.
    pub several_bytes: bool,
    /// What each side saw; fewer if it was interrupted, and without the two threads where one version raises #BP.
    pub seen: Vec<PairSeen>,
}

impl PairRow {
    /// Sides that run pairs.
    pub const SIDES: [Side; 4] = [Side::Host, Side::Vcpu, Side::Plain, Side::Cold];

    /// What a side saw and the CPU should not have: the vendor promises otherwise, a line at once does, or nothing
    /// explains it.
    pub(super) fn judge(&self, seen: &PairSeen, host: &Host) -> Vec<Finding> {
        let finding = |outcome: String, against: &str, broken| Finding {
            what: self.pair.clone(),
            offset: self.offset,
            crosses: self.crosses,
            side: seen.side,
            outcome,
            against: against.into(),
            broken,
        };
        let mut findings = Vec::new();
        if seen.torn > 0 && self.crosses < Crosses::Line {
            let mixes: Vec<&str> = seen.mixes.keys().map(String::as_str).collect();
            let promised = self.amd_promises_whole && host.vendor() == "amd";
            let model = if promised { "amd" } else { "line" };
            let against = format!("the `{model}` model does not have it");
            findings.push(finding(format!("executed as {}", mixes.join(", ")), &against, promised));
        }
        if seen.unexplained > 0 {
            let outcome = format!("{} passes left what no mix of the bytes leaves", seen.unexplained);
            findings.push(finding(outcome, "nothing explains it", true));
        }
        if seen.exceptions > 0 {
            let outcome = format!("{} exceptions", seen.exceptions);
            findings.push(finding(outcome, "no mix of bytes raises one", true));
        }
        findings
    }

    /// What one side saw.
    pub fn side(&self, side: Side) -> Option<&PairSeen> {
        self.seen.iter().find(|seen| seen.side == side)
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
        let outcomes = Outcomes(BTreeMap::from([
            (1, Version::Old),
            (2, Version::New),
            (3, Version::Mix("aa".into())),
            (4, Version::Mix("bb".into())),
        ]));
        let mut seen = PairSeen::new(Side::Host);
        let passes = [1, 2, 2, 3, 4, 3, 9].map(|value| Pass { value, ..Pass::default() });
        seen.add(&passes, &outcomes);
        assert_eq!((seen.passes, seen.old, seen.new, seen.torn, seen.unexplained), (7, 1, 2, 3, 1));
        assert_eq!(seen.mixes, BTreeMap::from([("aa".into(), 2), ("bb".into(), 1)]));
    }
}
