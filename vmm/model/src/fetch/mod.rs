//! Fetch models: which bytes a vCPU may see when it fetches an instruction that another CPU stores to.
//!
//! Stepping through VM exits serialises a CPU, so a stepped fetch always sees memory as it is. A real CPU may
//! execute what it fetched earlier. A fetch model says which earlier bytes that may be; the bytes are put
//! into the vCPU's own instruction view, and KVM executes them. The model decides which bytes, never what they do.
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
//!   * `block`: each block has a clock of its own; reading one block again says nothing about another.
//!   * `any`: each fetch sees any subset of the commits since the last serialising instruction.
//!
//! `any` is still a model: a CPU that the errata describe may also raise exceptions that no byte mix explains.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::x86::VendorRule;

/// Which stores a stale fetch may miss.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// The latest ones, in program order, with one clock for each block.
    Block,
    /// The latest ones, in program order, with one clock for all blocks.
    Program,
    /// Any of them.
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

/// The coherent model.
impl Default for FetchModel {
    fn default() -> FetchModel {
        FetchModel::COHERENT
    }
}

/// A fetch model with a name.
#[derive(Clone, Copy)]
struct Preset {
    name: &'static str,
    model: FetchModel,
    /// What supports it.
    promise: &'static str,
}

/// The presets, in the order in which reports show them.
const PRESETS: [Preset; 8] = [
    Preset {
        name: "coherent",
        model: FetchModel::COHERENT,
        promise: "none needed: it is what stepping shows",
    },
    Preset {
        name: "amd",
        model: FetchModel { atom: 8, stale: true, order: Order::Program },
        promise: "APM vol. 2, 7.6.1: a store inside an aligned quadword is seen whole, stores are seen in program order, fetches are sequential between taken branches",
    },
    Preset {
        name: "amd-block",
        model: FetchModel { atom: 8, stale: true, order: Order::Block },
        promise: "that of `amd`, without relying on the order between quadwords across taken branches",
    },
    Preset {
        name: "half-line",
        model: FetchModel { atom: 32, stale: true, order: Order::Program },
        promise: "none: it is what was observed. On a Zen 4 `crossmod survey` sees stores across 32 bytes inside a line torn, with KVM and without, in up to 2 % of passes, and none across 8 or 16; it is as if that CPU fetched 32 aligned bytes at a time",
    },
    Preset {
        name: "half-line-block",
        model: FetchModel { atom: 32, stale: true, order: Order::Block },
        promise: "none, as for `half-line`; each half line has its own clock",
    },
    Preset {
        name: "line",
        model: FetchModel { atom: 64, stale: true, order: Order::Program },
        promise: "none: that a fetch reads a cache line at once is what JITs rely on, and what a Zen 4 contradicts",
    },
    Preset {
        name: "line-block",
        model: FetchModel { atom: 64, stale: true, order: Order::Block },
        promise: "none, as for `line`; each line has its own clock",
    },
    Preset {
        name: "intel",
        model: FetchModel { atom: 1, stale: true, order: Order::Any },
        promise: "SDM vol. 3, \"Handling self- and cross-modifying code\": nothing is promised without a serialising instruction; in this model each byte may be old or new",
    },
];

impl FetchModel {
    /// What stepping shows: a fetch sees every commit, at one instant, a cache line at a time.
    pub const COHERENT: FetchModel = FetchModel { atom: 64, stale: false, order: Order::Program };
    /// The sizes of a block.
    pub const ATOMS: [u8; 5] = [1, 8, 16, 32, 64];

    /// All presets.
    pub fn presets() -> impl Iterator<Item = FetchModel> {
        PRESETS.into_iter().map(|preset| preset.model)
    }

    /// Names of all presets.
    pub fn preset_names() -> impl Iterator<Item = &'static str> {
        PRESETS.into_iter().map(|preset| preset.name)
    }

    /// The preset's name, if it is one.
    pub fn preset(self) -> Option<&'static str> {
        self.known().map(|preset| preset.name)
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

    /// What supports a preset: a vendor's promise or an observation. `None` for other parameters.
    pub fn promise(self) -> Option<&'static str> {
        self.known().map(|preset| preset.promise)
    }

    fn known(self) -> Option<Preset> {
        PRESETS.into_iter().find(|preset| preset.model == self)
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
    pub(crate) fn block(self, address: u64, offset: usize) -> usize {
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
        if let Some(preset) = PRESETS.into_iter().find(|preset| preset.name == text) {
            return Ok(preset.model);
        }
        let unknown = || {
            let names: Vec<&str> = FetchModel::preset_names().collect();
            format!(
                "unknown fetch model `{text}`: the presets are {}; or write atom=8,stale,program (atom 1, 8, 16, 32 \
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
        for model in FetchModel::presets() {
            assert!(model.promise().is_some_and(|promise| promise.len() > 10), "{model}");
        }
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
