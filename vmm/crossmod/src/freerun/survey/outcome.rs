//! What a pass shows. Every varied byte of the immediate holds the low byte of the generation, so that the result tells
//! for each byte which store wrote it, provided that fewer than 128 stores happened during the pass.

use std::collections::BTreeMap;

use derive_more::AddAssign;
use serde::{Deserialize, Serialize};

use super::cell::Cell;
use crate::machine::free::Pass;
use crate::machine::free::survey::Shape;

/// Who executes and who stores.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Side {
    /// A vCPU; a host thread, into guest memory.
    #[default]
    Host,
    /// A vCPU; another vCPU.
    Vcpu,
    /// A vCPU that serialises before each pass; a host thread.
    Serialised,
    /// Two threads of this process, no KVM: the reference.
    Plain,
    /// A vCPU that executes other instructions just before; a host thread.
    Neighbours,
    /// A vCPU that flushes the instruction's lines out of every cache before each pass; a host thread.
    Cold,
    /// A vCPU; a host thread on the same CPU, so that they take turns.
    SameCpu,
}

impl Side {
    /// All, in the order in which they run.
    pub const ALL: [Side; 7] =
        [Side::Host, Side::Vcpu, Side::Serialised, Side::Plain, Side::Neighbours, Side::Cold, Side::SameCpu];

    /// How its executor reaches the site.
    pub(super) fn shape(self) -> Shape {
        match self {
            Side::Host | Side::Vcpu | Side::Plain | Side::SameCpu => Shape::Tight,
            Side::Serialised => Shape::Serialised,
            Side::Neighbours => Shape::Neighbours,
            Side::Cold => Shape::Cold,
        }
    }

    /// Its name in reports.
    pub fn name(self) -> &'static str {
        ["host", "vcpu", "serialised", "plain", "neighbours", "cold", "same CPU"][self as usize]
    }
}

/// Passes of one side at one place.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct SideSeen {
    /// Who executed and stored.
    pub side: Side,
    /// Passes by kind.
    #[serde(flatten)]
    pub counts: PassCounts,
    /// Stores.
    pub stores: u64,
    /// Duration in seconds.
    pub seconds: f64,
    /// Counts of the odd outcomes.
    #[serde(serialize_with = "as_list", skip_deserializing)]
    pub odd: BTreeMap<Odd, u64>,
    /// Odd passes that were not compared with models: too many stores during the pass, or too many different outcomes.
    pub unasked: u64,
}

fn as_list<S: serde::Serializer>(odd: &BTreeMap<Odd, u64>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(odd.iter().map(|(odd, count)| (odd.to_string(), count)))
}

/// A pass during which the writer made this many stores cannot be placed: the low byte is ambiguous.
const WINDOW: u64 = 120;
/// Different outcomes kept for one place. Others are only counted.
const KEPT: usize = 256;

/// Passes of one place, by kind. A whole outcome is exactly one of old, new, stale, ahead and unplaced; a mix is
/// torn. Mixes with a stale byte also count as stale, and some whole outcomes also count under `order`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, AddAssign)]
pub struct PassCounts {
    /// All passes.
    pub passes: u64,
    /// The generation that was complete when the pass began.
    pub old: u64,
    /// One stored while the pass ran.
    pub new: u64,
    /// Bytes of two or more generations.
    pub torn: u64,
    /// One, or a byte of one, before the generation that was complete when the pass began.
    pub stale: u64,
    /// One before that of an earlier pass.
    pub order: u64,
    /// Mixes whose first byte is newer than their last.
    #[serde(default)]
    pub first_newer: u64,
    /// One that the writer had not begun to store: never, unless the experiment is wrong.
    pub ahead: u64,
    /// Whole, but of an unknown generation, because the writer made too many stores during the pass.
    pub unplaced: u64,
    /// Exceptions. No mix raises one.
    pub exceptions: u64,
}

impl PassCounts {
    /// Torn passes of all, as a fraction.
    pub fn torn_rate(&self) -> f64 {
        self.torn as f64 / self.passes.max(1) as f64
    }
}

/// 95 % upper bound of the rate of an event that did not occur in `trials` independent trials (the rule of three).
pub fn bound(trials: u64) -> f64 {
    if trials == 0 { 1.0 } else { (3.0 / trials as f64).min(1.0) }
}

/// An outcome that is neither old nor new, reduced to what matters to a fetch model.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Odd {
    /// Generation of each varied byte, counted from the oldest among them.
    Torn(Vec<u8>),
    /// A whole version, this many generations before the one complete at the start of the pass.
    Stale(u8),
    /// A whole version, this many generations before that of an earlier pass.
    Order(u8),
}

impl std::fmt::Display for Odd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Odd::Torn(ages) => {
                let ages: Vec<String> = ages.iter().map(|age| format!("g+{age}")).collect();
                write!(f, "torn: {}", ages.join(" ").replace("+0", ""))
            }
            Odd::Stale(age) => write!(f, "stale by {age}"),
            Odd::Order(age) => write!(f, "back by {age}"),
        }
    }
}

/// The outcomes of one side at one place.
#[derive(Debug, Clone)]
pub struct Tally {
    cell: Cell,
    /// What was counted.
    pub seen: SideSeen,
    last: u64,
}

impl Tally {
    /// Nothing yet.
    pub fn new(cell: Cell, side: Side) -> Tally {
        Tally { cell, seen: SideSeen { side, ..SideSeen::default() }, last: 0 }
    }

    /// Adds a pass. Calls `new` with each odd outcome that occurs for the first time.
    pub fn add(&mut self, pass: &Pass, mut new: impl FnMut(&Odd)) {
        self.seen.counts.passes += 1;
        let varied = self.cell.length.varied();
        let bytes = &pass.value.to_le_bytes()[..varied];
        // Distance of each byte from the generation complete at the start, from -128 to 127.
        let age = |byte: u8| byte.wrapping_sub(pass.done as u8) as i8;
        let placed = pass.begun.wrapping_sub(pass.done) < WINDOW;
        let rest = if varied == 8 { 0 } else { pass.value >> (8 * varied) };
        if rest != 0 || bytes.iter().any(|&byte| byte != bytes[0]) {
            self.seen.counts.torn += 1;
            if !placed || rest != 0 {
                self.seen.unasked += 1;
                return;
            }
            self.seen.counts.first_newer += u64::from(age(bytes[0]) > age(bytes[varied - 1]));
            let oldest = bytes.iter().map(|&byte| age(byte)).min().unwrap_or_default();
            let ages = bytes.iter().map(|&byte| age(byte).wrapping_sub(oldest) as u8).collect();
            self.note(Odd::Torn(ages), &mut new);
            if oldest < 0 {
                self.seen.counts.stale += 1;
                self.note(Odd::Stale(oldest.unsigned_abs()), &mut new);
            }
            return;
        }
        if !placed {
            self.seen.counts.unplaced += 1;
            return;
        }
        let age = i64::from(age(bytes[0]));
        let generation = pass.done.checked_add_signed(age).filter(|&generation| generation <= pass.begun);
        let Some(generation) = generation else {
            self.seen.counts.ahead += 1;
            return;
        };
        let back = self.last.saturating_sub(generation);
        self.last = generation;
        match age {
            0 => self.seen.counts.old += 1,
            1.. => self.seen.counts.new += 1,
            _ => {
                self.seen.counts.stale += 1;
                self.note(Odd::Stale(age.unsigned_abs() as u8), &mut new);
            }
        }
        if back > 0 {
            self.seen.counts.order += 1;
            self.note(Odd::Order(back.min(255) as u8), &mut new);
        }
    }

    fn note(&mut self, odd: Odd, new: &mut impl FnMut(&Odd)) {
        if let Some(count) = self.seen.odd.get_mut(&odd) {
            *count += 1;
        } else if self.seen.odd.len() >= KEPT {
            self.seen.unasked += 1;
        } else {
            new(&odd);
            self.seen.odd.insert(odd, 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::free::survey::Length;

    fn tally(passes: &[(u64, u64, u64)]) -> SideSeen {
        let mut tally = Tally::new(Cell::in_line(Length::Four, 0), Side::Host);
        for &(done, value, begun) in passes {
            tally.add(&Pass { done, value, begun }, |_| {});
        }
        tally.seen
    }

    #[test]
    fn each_kind_is_recognised() {
        let seen = tally(&[
            (5, 0x0505_0505, 5),         // old
            (5, 0x0606_0606, 7),         // new
            (7, 0x0505_0505, 7),         // stale, and back behind 6
            (7, 0x0808_0707, 8),         // torn
            (7, 0x0707_0808, 8),         // torn, and its first half is newer
            (7, 0x0909_0909, 8),         // ahead
            (0x1ff, 0x0000_0000, 0x200), // new, over the wrap of the low byte
            (0x200, 0xff00_00ff, 0x200), // torn over the wrap
            (0x200, 0x0303_0303, 0x400), // unplaced
            (0x200, 0x0404_0303, 0x400), // torn, unplaced
        ]);
        let expected = PassCounts {
            passes: 10,
            old: 1,
            new: 2,
            torn: 4,
            stale: 2,
            order: 1,
            first_newer: 1,
            ahead: 1,
            unplaced: 1,
            exceptions: 0,
        };
        assert_eq!(seen.counts, expected);
        let odd: Vec<(Odd, u64)> = seen.odd.into_iter().collect();
        assert_eq!(
            odd,
            [
                (Odd::Torn(vec![0, 0, 1, 1]), 1),
                (Odd::Torn(vec![0, 1, 1, 0]), 1),
                (Odd::Torn(vec![1, 1, 0, 0]), 1),
                (Odd::Stale(1), 1),
                (Odd::Stale(2), 1),
                (Odd::Order(1), 1),
            ]
        );
        assert_eq!(seen.unasked, 1);
    }

    #[test]
    fn zeros_are_bounds() {
        assert_eq!(bound(0), 1.0);
        assert_eq!(bound(2), 1.0);
        assert!((bound(3_000_000) - 1e-6).abs() < 1e-12);
    }
}
