//! Finds where control may arrive: at targets of branches, exception fixups and jump labels.
//!
//! Code is decoded linearly from each symbol to the next, so that data or a stray byte in one function does not affect
//! the following ones. Indirect targets (jump tables, returns) are not found.

use iced_x86::{Decoder, DecoderOptions, Instruction, OpKind};
use serde::Serialize;

use crate::image::Image;
use crate::site::{Kind, Site};

/// How control arrives at an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, strum::Display)]
#[serde(rename_all = "kebab-case")]
pub enum Via {
    /// By a direct branch or call.
    #[strum(serialize = "a branch")]
    Branch,
    /// By the exception table.
    #[strum(serialize = "an exception fixup")]
    Fixup,
    /// By a jump label that is on.
    #[strum(serialize = "a jump label")]
    JumpLabel,
}

/// A way into a site that does not lead to its first byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Index of the site in [`Tables::sites`](super::Tables::sites).
    pub site: usize,
    /// The byte of the site at which control arrives, at least 1.
    pub byte: u64,
    /// The address from which control comes.
    pub from: u64,
    /// How control arrives.
    pub via: Via,
}

/// UD2 and three letters that mark an instruction for emulation by a hypervisor. They precede the instruction and do not
/// decode themselves (arch/x86/include/asm/emulate_prefix.h).
const EMULATE: [[u8; 5]; 2] = [*b"\x0f\x0bxen", *b"\x0f\x0bkvm"];
/// Maximum length of a site in bytes: the length of an alternative is stored in one byte.
const LONGEST: u64 = 256;

/// An index of sites by address.
pub struct ByAddress<'a> {
    sites: &'a [Site],
    order: Vec<usize>,
}

impl<'a> ByAddress<'a> {
    /// Indexes the sites of an image.
    pub fn new(sites: &'a [Site]) -> ByAddress<'a> {
        let mut order: Vec<usize> = (0..sites.len()).collect();
        order.sort_by_key(|&index| sites[index].address);
        ByAddress { sites, order }
    }

    /// Indices of the sites that overlap an address range.
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

/// The target of a direct branch.
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
                    // The instruction to emulate follows.
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

/// Calls `visit` with the source and target of every direct branch, exception and jump label of an image.
pub fn arrivals(image: &Image, mut visit: impl FnMut(u64, u64, Via)) {
    instructions(image, |instruction| {
        if let Some(to) = target(instruction) {
            visit(instruction.ip(), to, Via::Branch);
        }
    });
    for exception in &image.tables.exceptions {
        visit(exception.address, exception.fixup, Via::Fixup);
    }
    for label in image.tables.sites.iter().filter(|site| site.kind == Kind::JumpLabel) {
        if let Some(to) = label.target {
            visit(label.address, to, Via::JumpLabel);
        }
    }
}

/// Finds the ways from outside into the middle of a site. Branches of an alternative's own code within it do not count.
pub fn entries(image: &Image) -> Vec<Entry> {
    let sites = &image.tables.sites;
    let index = ByAddress::new(sites);
    // Nearly all targets lie outside all sites; a bitmap of bytes rules them out quickly.
    let mut inside = Bits::new(image);
    for site in sites {
        inside.set(site.address + 1, site.end());
    }
    let mut found = Vec::new();
    arrivals(image, |from, to, via| {
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
    });
    found.sort_by_key(|entry| (entry.site, entry.byte, entry.from));
    found.dedup();
    found
}

/// True if `from` belongs to the replacement of the site, which runs at the site's address.
fn replaced(image: &Image, site: usize, from: u64) -> bool {
    let site = &image.tables.sites[site];
    site.kind == Kind::Alternative
        && site.target.is_some_and(|start| (start..start + site.len()).contains(&from))
}

/// A bitmap of the bytes of executable memory.
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
