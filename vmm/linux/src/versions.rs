//! The two versions of a site, up to a maximum length.

use iced_x86::{Decoder, DecoderOptions};

use crate::code::{Flow, decode};
use crate::image::Image;
use crate::site::{Kind, Site};

/// Maximum length of a version in bytes.
pub const LONGEST: usize = 32;

/// The versions of a site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Versions {
    /// Address of the first byte.
    pub address: u64,
    /// The version on disk and the other one, of the same length, at most [`LONGEST`].
    pub bytes: [Vec<u8>; 2],
    /// The site is a prefix: only the first of these bytes is stored.
    pub prefix: bool,
    /// Number of bytes that were cut from the end of a longer site.
    pub left_out: usize,
}

impl Versions {
    /// The versions of a site; `None` if the other version is unknown, or if the site is longer than [`LONGEST`] and
    /// the versions have no common instruction boundary within it.
    pub fn of(image: &Image, site: &Site) -> Option<Versions> {
        let other = site.other.as_ref().filter(|other| other.len() == site.bytes.len())?;
        if site.kind == Kind::Lock {
            return Versions::prefix(image, site, other);
        }
        let mut bytes = [site.bytes.clone(), other.clone()];
        let mut left_out = 0;
        if site.bytes.len() > LONGEST {
            let starts = bytes
                .each_ref()
                .map(|bytes| decode(bytes, site.address).iter().map(|insn| insn.at).collect::<Vec<_>>());
            let common = |at: &&usize| (1..=LONGEST).contains(*at) && starts[1].contains(at);
            let end = *starts[0].iter().rev().find(common)?;
            left_out = site.bytes.len() - end;
            bytes.iter_mut().for_each(|bytes| bytes.truncate(end));
        }
        Some(Versions { address: site.address, bytes, prefix: false, left_out })
    }

    /// A prefix together with its instruction.
    fn prefix(image: &Image, site: &Site, other: &[u8]) -> Option<Versions> {
        let from = image.binary.memory.from(site.address)?;
        let instruction = Decoder::with_ip(64, from, site.address, DecoderOptions::NONE).decode();
        if instruction.is_invalid() {
            return None;
        }
        let old = from.get(..instruction.len())?.to_vec();
        let new = [other, &old[1..]].concat();
        Some(Versions { address: site.address, bytes: [old, new], prefix: true, left_out: 0 })
    }

    /// Bit *n*: byte *n* differs.
    pub fn differs(&self) -> u32 {
        let pairs = self.bytes[0].iter().zip(&self.bytes[1]).enumerate();
        pairs.fold(0, |mask, (at, (old, new))| mask | u32::from(old != new) << at)
    }

    /// Length in bytes and control flow of the instructions of each version. A prefix counts as one instruction.
    pub fn flows(&self) -> [Vec<(u8, Flow)>; 2] {
        self.bytes.each_ref().map(|bytes| {
            if self.prefix {
                return vec![(1, Flow::Plain)];
            }
            decode(bytes, self.address).iter().map(|insn| (insn.len as u8, insn.flow)).collect()
        })
    }
}
