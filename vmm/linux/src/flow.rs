//! Where control may arrive: branches, exception fixups, static keys' targets.
//!
//! Code is decoded straight from each symbol to the next, so that data or an odd byte in one function does not
//! carry over. What only registers know (jump tables, returns) is not seen.

use iced_x86::{Decoder, DecoderOptions, Instruction, OpKind};
use serde::Serialize;

use super::image::Image;
use super::site::{Kind, Site};

/// How control arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Via {
    /// A direct branch or call.
    Branch,
    /// The exception table.
    Fixup,
    /// A jump label's target.
    JumpLabel,
}

/// An arrival inside of a site, behind its first byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Index of the site in [`Tables::sites`](super::Tables::sites).
    pub site: usize,
    /// Byte of the site, at least 1.
    pub byte: u64,
    /// Where it comes from.
    pub from: u64,
    /// How.
    pub via: Via,
}

/// UD2 and three letters before an instruction that a hypervisor is asked to emulate, which are none themselves
/// (arch/x86/include/asm/emulate_prefix.h).
const EMULATE: [[u8; 5]; 2] = [*b"\x0f\x0bxen", *b"\x0f\x0bkvm"];
/// The longest site, in bytes: an alternative's length is a byte.
const LONGEST: u64 = 256;

/// Sites by address, to be asked which of them contain one.
pub struct ByAddress<'a> {
    sites: &'a [Site],
    order: Vec<usize>,
}

impl<'a> ByAddress<'a> {
    /// Over the sites of an image.
    pub fn new(sites: &'a [Site]) -> ByAddress<'a> {
        let mut order: Vec<usize> = (0..sites.len()).collect();
        order.sort_by_key(|&index| sites[index].address);
        ByAddress { sites, order }
    }

    /// Indices of the sites that an address range touches.
    pub fn touching(&self, from: u64, to: u64) -> impl Iterator<Item = usize> + '_ {
        let low = from.saturating_sub(LONGEST);
        let first = self.order.partition_point(|&index| self.sites[index].address < low);
        self.order[first..]
            .iter()
            .copied()
            .take_while(move |&index| self.sites[index].address < to)
            .filter(move |&index| self.sites[index].end() > from)
    }
}

/// Where a direct branch goes.
pub fn target(instruction: &Instruction) -> Option<u64> {
    matches!(instruction.op0_kind(), OpKind::NearBranch64).then(|| instruction.near_branch64())
}

/// Calls `visit` with every instruction of an image.
pub fn instructions(image: &Image, mut visit: impl FnMut(&Instruction)) {
    let memory = &image.binary.memory;
    for region in memory.regions().iter().filter(|region| region.executable) {
        let bytes = memory.contents(region);
        let mut starts: Vec<u64> = vec![region.address];
        starts.extend(image.binary.symbols.starts(region.address + 1, region.end()));
        starts.push(region.end());
        let mut instruction = Instruction::default();
        for pair in starts.windows(2) {
            let [from, to] = [pair[0], pair[1]].map(|address| (address - region.address) as usize);
            let mut decoder = Decoder::with_ip(64, &bytes[from..to], pair[0], DecoderOptions::NONE);
            while decoder.can_decode() {
                let at = decoder.position();
                if EMULATE.iter().any(|prefix| bytes[from + at..to].starts_with(prefix)) {
                    // Behind it stands the instruction that is meant.
                    let behind = at + EMULATE[0].len();
                    let _ = decoder.set_position(behind);
                    decoder.set_ip(pair[0] + behind as u64);
                    continue;
                }
                decoder.decode_out(&mut instruction);
                visit(&instruction);
            }
        }
    }
}

/// Arrivals inside of sites of several bytes, from outside of them. What an alternative's own code does inside of
/// it does not count.
pub fn entries(image: &Image) -> Vec<Entry> {
    let sites = &image.tables.sites;
    let index = ByAddress::new(sites);
    // Nearly all targets are no byte of any site: a bit for each byte decides that at once.
    let mut inside = Bits::new(image);
    for site in sites {
        inside.set(site.address + 1, site.end());
    }
    let mut found = Vec::new();
    let mut arrive = |from: u64, to: u64, via: Via| {
        if !inside.get(to) {
            return;
        }
        for site in index.touching(to, to + 1) {
            let Site { address, .. } = sites[site];
            let own = (address..sites[site].end()).contains(&from);
            if address < to && !own && !replaced(image, site, from) {
                found.push(Entry { site, byte: to - address, from, via });
            }
        }
    };
    instructions(image, |instruction| {
        if let Some(to) = target(instruction) {
            arrive(instruction.ip(), to, Via::Branch);
        }
    });
    for exception in &image.tables.exceptions {
        arrive(exception.address, exception.fixup, Via::Fixup);
    }
    for label in sites.iter().filter(|site| site.kind == Kind::JumpLabel) {
        if let Some(target) = label.target {
            arrive(label.address, target, Via::JumpLabel);
        }
    }
    found.sort_by_key(|entry| (entry.site, entry.byte, entry.from));
    found.dedup();
    found
}

/// True if `from` is in what replaces the site: it runs in its place.
fn replaced(image: &Image, site: usize, from: u64) -> bool {
    let site = &image.tables.sites[site];
    site.kind == Kind::Alternative
        && site.target.is_some_and(|start| (start..start + site.len()).contains(&from))
}

/// A bit for each byte of executable memory.
struct Bits {
    regions: Vec<(u64, Vec<u64>)>,
}

impl Bits {
    fn new(image: &Image) -> Bits {
        let executable = image.binary.memory.regions().iter().filter(|region| region.executable);
        let regions =
            executable.map(|region| (region.address, vec![0; region.data.len() / 64 + 1])).collect();
        Bits { regions }
    }

    fn place(&self, address: u64) -> Option<(usize, usize)> {
        let index = self.regions.partition_point(|(start, _)| *start <= address).checked_sub(1)?;
        Some((index, (address - self.regions[index].0) as usize))
    }

    fn set(&mut self, from: u64, to: u64) {
        for address in from..to {
            if let Some((region, at)) = self.place(address)
                && let Some(word) = self.regions[region].1.get_mut(at / 64)
            {
                *word |= 1 << (at % 64);
            }
        }
    }

    fn get(&self, address: u64) -> bool {
        let word = |(region, at): (usize, usize)| Some(self.regions[region].1.get(at / 64)? >> (at % 64) & 1);
        self.place(address).and_then(word) == Some(1)
    }
}
