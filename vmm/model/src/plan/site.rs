//! The patch site in its versions.

use serde::Serialize;

use crate::x86::decode::INT3;

/// The patch site: from the first byte of its first part to the last byte of its last.
#[derive(Debug, Clone, Serialize)]
pub struct Site {
    /// Guest-virtual address of its first byte, inside the two pages at `crossmod_abi::va::SITE`.
    pub address: u64,
    /// The bytes at the start.
    pub old: Code,
    /// What the patcher installs. As long as `old`.
    pub new: Code,
    /// One-instruction intermediate forms that may be at the first byte of a part besides old and new, as the
    /// bytes of that instruction (for example `cc`).
    pub intermediates: Vec<Vec<u8>>,
    /// The sites that it consists of, by address; nearly always one.
    pub parts: Vec<Part>,
}

/// One of several sites that are patched on their own. What lies between two of them is never written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Part {
    /// Its name; empty if it is the only one.
    pub name: String,
    /// Offset of its first byte from the whole site's.
    pub offset: usize,
    /// Length in bytes.
    pub len: usize,
}

impl Part {
    /// The only part of a site of `len` bytes.
    pub fn whole(len: usize) -> Part {
        Part { name: String::new(), offset: 0, len }
    }

    /// True for offsets of its bytes.
    pub fn contains(&self, offset: usize) -> bool {
        (self.offset..self.offset + self.len).contains(&offset)
    }
}

impl Site {
    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.old.bytes.len()
    }

    /// Never true for a plan that was built from a scenario.
    pub fn is_empty(&self) -> bool {
        self.old.bytes.is_empty()
    }

    /// The instructions that are declared at an offset: old's and new's where they have a boundary there (one
    /// entry if both have the same), and the intermediate forms at the first byte of a part.
    pub fn declared(&self, offset: usize) -> impl Iterator<Item = (Declared, &[u8])> {
        let of = |code: &'_ Code| -> Option<std::ops::Range<usize>> {
            let index = code.boundaries.iter().position(|&boundary| boundary == offset)?;
            Some(offset..code.boundaries.get(index + 1).copied().unwrap_or(code.bytes.len()))
        };
        let old = of(&self.old).map(|range| &self.old.bytes[range]);
        let new = of(&self.new).map(|range| &self.new.bytes[range]);
        let both = old.is_some() && old == new;
        let entry = self.entry(offset).is_some();
        let intermediates = self.intermediates.iter().filter(move |_| entry);
        old.map(|bytes| (if both { Declared::Both } else { Declared::Old }, bytes))
            .into_iter()
            .chain(new.filter(|_| !both).map(|bytes| (Declared::New, bytes)))
            .chain(intermediates.map(|form| match form[..] {
                [INT3] => (Declared::Trap, &form[..]),
                _ => (Declared::Intermediate, &form[..]),
            }))
    }

    /// Whose instruction the bytes at an offset are; `None`: none that is declared.
    pub fn version_at(&self, offset: usize, bytes: &[u8]) -> Option<Declared> {
        let mut declared = self.declared(offset);
        declared.find(|(_, declared)| bytes.starts_with(declared)).map(|(version, _)| version)
    }

    /// The part that begins at an offset.
    pub fn entry(&self, offset: usize) -> Option<usize> {
        self.parts.iter().position(|part| part.offset == offset)
    }

    /// The part that an offset lies in.
    pub fn part(&self, offset: usize) -> Option<usize> {
        self.parts.iter().position(|part| part.contains(offset))
    }

    /// True for addresses behind the first byte of a part.
    pub fn inside(&self, address: u64) -> bool {
        let offset = address.wrapping_sub(self.address) as usize;
        self.contains(address) && self.part(offset).is_some() && self.entry(offset).is_none()
    }

    /// The bytes with each part in the version that the bit of its number says: set is new.
    pub fn combination(&self, versions: u8) -> Vec<u8> {
        let mut bytes = self.old.bytes.clone();
        for (_, part) in (0..).zip(&self.parts).filter(|(number, _)| versions >> number & 1 == 1) {
            let range = part.offset..part.offset + part.len;
            bytes[range.clone()].copy_from_slice(&self.new.bytes[range]);
        }
        bytes
    }

    /// True for addresses of the site's bytes.
    pub fn contains(&self, address: u64) -> bool {
        (self.address..self.address + self.len() as u64).contains(&address)
    }
}

/// Whose instruction a declared one is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Declared {
    /// Old's.
    Old,
    /// New's.
    New,
    /// The same in both.
    Both,
    /// The protocol's INT3 over a first byte.
    Trap,
    /// Another intermediate form.
    Intermediate,
}

/// One version of the site.
#[derive(Debug, Clone, Serialize)]
pub struct Code {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// Offsets at which its instructions begin, ascending, the first is 0.
    pub boundaries: Vec<usize>,
}
