//! The two versions of a site as they are in the kernel, as far as a scenario holds them.

use iced_x86::{Decoder, DecoderOptions};

use super::code::{Flow, pieces};
use crate::image::Image;
use crate::site::{Kind, Site};

/// Longest site of a scenario, in bytes.
pub const LONGEST: usize = 32;

/// The versions of a site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Versions {
    /// Address of the first byte.
    pub address: u64,
    /// On disk, and the other: of the same length, at most 32 bytes.
    pub bytes: [Vec<u8>; 2],
    /// Only the first of these bytes is stored: a prefix.
    pub prefix: bool,
    /// Bytes of the site that are left out at its end, beyond what a scenario can hold.
    pub left_out: usize,
}

impl Versions {
    /// Those of a site whose other version is known; `None` if it is not, or if they have no first instruction in
    /// common that ends within 32 bytes.
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
                .map(|bytes| pieces(bytes, site.address).iter().map(|piece| piece.at).collect::<Vec<_>>());
            let common = |at: &&usize| (1..=LONGEST).contains(*at) && starts[1].contains(at);
            let end = *starts[0].iter().rev().find(common)?;
            left_out = site.bytes.len() - end;
            bytes.iter_mut().for_each(|bytes| bytes.truncate(end));
        }
        Some(Versions { address: site.address, bytes, prefix: false, left_out })
    }

    /// A prefix with the instruction that it belongs to: alone it is none.
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

    /// Lengths of the instructions of each version, and what they do. Of a prefix, which is all that changes: of the
    /// prefix.
    pub fn flows(&self) -> [Vec<(u8, Flow)>; 2] {
        self.bytes.each_ref().map(|bytes| {
            if self.prefix {
                return vec![(1, Flow::Plain)];
            }
            pieces(bytes, self.address).iter().map(|piece| (piece.len as u8, piece.flow)).collect()
        })
    }
}
