//! Fetch models: which bytes a vCPU may see when it fetches an instruction that another CPU stores to.
//!
//! Stepping through VM exits serialises a CPU, so a stepped fetch always sees memory as it is. A real CPU may
//! execute what it fetched earlier. A fetch model says which earlier bytes that may be; the bytes are put
//! into the vCPU's own instruction view and executed by KVM. The model decides the bytes, never what they do.
//!
//! Three parameters:
//!
//! * **atom**: the aligned block that a store writes, and a fetch reads, in one go. A store that meets several
//!   blocks is committed piece by piece.
//! * **stale**: without it a fetch sees every commit so far, at one instant. With it a fetch may miss commits
//!   made since this vCPU's last serialising instruction (see [`crate::x86::decode::serialises`]).
//! * **order**: what a fetch that misses commits may miss.
//!   * `program`: the vCPU has a fetch clock, an index into the order of commits, that never goes back. Reading
//!     a block may first advance it. The blocks of one instruction are read in ascending order, each at its
//!     own instant, so that an instruction may combine an older first block with a newer second one, never
//!     the reverse.
//!   * `block`: each block has a clock of its own; nothing is assumed about one block from another's having
//!     been read again.
//!   * `any`: each fetch sees any subset of the commits since the last serialising instruction.
//!
//! What stands behind the presets:
#![doc = ""]
#![doc = include_str!("presets.md")]
//!
//! `any` is still a model: a CPU that the errata describe may also raise exceptions that no byte mix explains.

mod view;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

pub use view::{MAX_VIEWS, Seen, View, views};

use crate::x86::VendorRule;

/// What a fetch that misses commits may miss.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// One clock for each block.
    Block,
    /// One clock.
    Program,
    /// Any subset.
    Any,
}

impl Order {
    /// Its name in scenarios.
    pub fn name(self) -> &'static str {
        match self {
            Order::Block => "block",
            Order::Program => "program",
            Order::Any => "any",
        }
    }
}

/// A fetch model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct FetchModel {
    /// Bytes of the aligned block that is written and read in one go: 1, 8, 16, 32 or 64.
    pub atom: u8,
    /// A fetch may miss commits since the last serialising instruction.
    pub stale: bool,
    /// Which it may miss; of no effect unless `stale`.
    pub order: Order,
}

/// The presets, in the order in which reports show them.
const PRESETS: [(&str, FetchModel); 8] = [
    ("coherent", FetchModel::COHERENT),
    ("amd", FetchModel { atom: 8, stale: true, order: Order::Program }),
    ("amd-block", FetchModel { atom: 8, stale: true, order: Order::Block }),
    ("half-line", FetchModel { atom: 32, stale: true, order: Order::Program }),
    ("half-line-block", FetchModel { atom: 32, stale: true, order: Order::Block }),
    ("line", FetchModel { atom: 64, stale: true, order: Order::Program }),
    ("line-block", FetchModel { atom: 64, stale: true, order: Order::Block }),
    ("intel", FetchModel { atom: 1, stale: true, order: Order::Any }),
];

impl FetchModel {
    /// What stepping shows: a fetch sees every commit, at one instant, a cache line at a time.
    pub const COHERENT: FetchModel = FetchModel { atom: 64, stale: false, order: Order::Program };
    /// The sizes of a block.
    pub const ATOMS: [u8; 5] = [1, 8, 16, 32, 64];

    /// All presets.
    pub fn presets() -> impl Iterator<Item = FetchModel> {
        PRESETS.into_iter().map(|(_, model)| model)
    }

    /// Names of all presets.
    pub fn preset_names() -> impl Iterator<Item = &'static str> {
        PRESETS.into_iter().map(|(name, _)| name)
    }

    /// The preset's name, if it is one.
    pub fn preset(self) -> Option<&'static str> {
        PRESETS.into_iter().find(|(_, model)| *model == self).map(|(name, _)| name)
    }

    /// The vendor whose promises a preset is named after.
    pub fn rule(self) -> Option<VendorRule> {
        match self.preset()? {
            "amd" | "amd-block" => Some(VendorRule::Amd),
            "intel" => Some(VendorRule::Intel),
            _ => None,
        }
    }

    /// How much a fetch reads at once, for people.
    pub fn reads(self) -> String {
        format!("{} byte{}", self.atom, if self.atom == 1 { "" } else { "s" })
    }

    /// Which stores a fetch may miss, for people.
    pub fn misses(self) -> &'static str {
        match (self.stale, self.order) {
            (false, _) => "nothing",
            (true, Order::Program) => "stores since it last serialised; in program order, one clock",
            (true, Order::Block) => {
                "stores since it last serialised; in program order, each block for itself"
            }
            (true, Order::Any) => "any of the stores since it last serialised",
        }
    }

    /// What stands behind a preset, in the words of the table above; none for other parameters.
    pub fn promise(self) -> Option<&'static str> {
        self.preset().map(|name| crate::docs::cell(include_str!("presets.md"), name, 5))
    }

    /// Clocks that a vCPU has for a site of `len` bytes at `address`.
    pub fn clocks(self, address: u64, len: usize) -> usize {
        match (self.stale, self.order) {
            (true, Order::Program) => 1,
            (true, Order::Block) => self.block(address, len - 1) + 1,
            (false, _) | (true, Order::Any) => 0,
        }
    }

    /// Number of the block of the byte at `offset` of a site at `address`, counted from the site's first.
    fn block(self, address: u64, offset: usize) -> usize {
        let atom = u64::from(self.atom);
        ((address + offset as u64) / atom - address / atom) as usize
    }
}

impl fmt::Display for FetchModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(name) = self.preset() {
            return f.write_str(name);
        }
        write!(f, "atom={}", self.atom)?;
        if self.stale { write!(f, ",stale,{}", self.order.name()) } else { f.write_str(",fresh") }
    }
}

/// A preset's name, or `atom=N,fresh`, or `atom=N,stale,ORDER`: what [`FetchModel`] displays.
impl FromStr for FetchModel {
    type Err = String;

    fn from_str(text: &str) -> Result<FetchModel, String> {
        if let Some((_, model)) = PRESETS.into_iter().find(|(name, _)| *name == text) {
            return Ok(model);
        }
        let unknown = || {
            let names: Vec<&str> = FetchModel::preset_names().collect();
            format!(
                "`{text}` is no fetch model: the presets are {}; or write atom=8,stale,program (atom 1, 8, 16, 32 \
                 or 64; `fresh`, or `stale` with program, block or any)",
                names.join(", ")
            )
        };
        let mut parts = text.split(',').map(str::trim);
        let atom = parts.next().and_then(|part| part.strip_prefix("atom=")).ok_or_else(unknown)?;
        let atom = atom.parse().ok().filter(|atom| FetchModel::ATOMS.contains(atom)).ok_or_else(unknown)?;
        let model = match (parts.next(), parts.next()) {
            (Some("fresh"), None) => FetchModel { atom, stale: false, order: Order::Program },
            (Some("stale"), Some(order)) => {
                let order = [Order::Block, Order::Program, Order::Any]
                    .into_iter()
                    .find(|known| known.name() == order)
                    .ok_or_else(unknown)?;
                FetchModel { atom, stale: true, order }
            }
            _ => return Err(unknown()),
        };
        if parts.next().is_some() { Err(unknown()) } else { Ok(model) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_parameters_come_back() {
        let custom = FetchModel::ATOMS.into_iter().flat_map(|atom| {
            [
                FetchModel { atom, stale: false, order: Order::Program },
                FetchModel { atom, stale: true, order: Order::Any },
                FetchModel { atom, stale: true, order: Order::Block },
            ]
        });
        for model in FetchModel::presets().chain(custom) {
            assert_eq!(model.to_string().parse(), Ok(model), "{model}");
        }
        assert_eq!("atom=8,stale,program".parse(), "amd".parse::<FetchModel>());
        for text in
            ["", "amd ", "atom=7,fresh", "atom=8", "atom=8,stale", "atom=8,fresh,any", "atom=8,stale,any,x"]
        {
            assert!(text.parse::<FetchModel>().is_err_and(|error| error.contains("line-block")), "{text}");
        }
    }

    #[test]
    fn clocks_follow_the_blocks_that_the_site_meets() {
        let of = |name: &str, offset, len| name.parse::<FetchModel>().map(|model| model.clocks(offset, len));
        assert_eq!(of("coherent", 0x13e, 5), Ok(0));
        assert_eq!(of("intel", 0x13e, 5), Ok(0));
        assert_eq!(of("amd", 0x13e, 5), Ok(1));
        assert_eq!(of("amd-block", 0x100, 5), Ok(1));
        assert_eq!(of("amd-block", 0x104, 5), Ok(2));
        assert_eq!(of("line-block", 0x104, 5), Ok(1));
        assert_eq!(of("line-block", 0x13e, 5), Ok(2));
        assert_eq!(of("atom=1,stale,block", 0x13e, 5), Ok(5));
    }
}
