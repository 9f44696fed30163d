//! Alternatives: `.altinstructions`.
//!
//! `struct alt_instr` of arch/x86/include/asm/alternative.h: s32 address and s32 replacement, each relative to itself,
//! then:
//!
//! | since | rest | entry |
//! |---|---|---|
//! | 3.20 | u16 feature, u8 length, u8 length of the replacement, u8 length of padding | 13 bytes |
//! | 5.13 (23c1ad538f4f) | the same without padding | 12 |
//! | 6.3 (5d1dd961e743) | u16 feature, u16 flags, u8 length, u8 length of the replacement | 14 |
//!
//! The format is the one that fits every entry. Several entries may have the same address; the kernel applies the last
//! one whose feature the CPU has. Here each entry is a site whose other version is the result of that entry alone.

use super::replacement::{self, Alternative, Special};
use super::{Name, Tables, find, relative};
use crate::error::ImageError;
use crate::memory::Memory;
use crate::read::Binary;
use crate::site::Kind;

const NAME: Name =
    Name { section: ".altinstructions", start: "__alt_instructions", stop: "__alt_instructions_end" };

/// Sizes of entries in bytes, and what is special about them. Those of 14 bytes have flags, those of 13 padding.
const FORMATS: [(usize, &str); 3] =
    [(14, "14 bytes, with flags"), (12, "12 bytes"), (13, "13 bytes, with the length of padding")];

/// Reads an entry; the error says why it is none.
fn entry<'a>(memory: &'a Memory, address: u64, raw: &[u8]) -> Result<Alternative<'a>, String> {
    let half = |at: usize| u32::from(raw[at]) | u32::from(raw[at + 1]) << 8;
    let newer = raw.len() == 14;
    let (flags, lengths) = if newer { (half(10), 12) } else { (0, 10) };
    let (code, replacement) = (relative(address, raw, 0), relative(address, raw, 4));
    let [length, with, padding] = [0, 1, 2].map(|at| raw.get(lengths + at).map_or(0, |&byte| byte.into()));
    let bytes = memory.bytes(code, length).filter(|_| memory.executable(code));
    let bytes =
        bytes.ok_or_else(|| format!("its {length} bytes at {code:#x} are not in executable memory"))?;
    if length == 0 || with > length || padding > length {
        return Err(format!("{with} bytes cannot replace {length}"));
    }
    let with = if with > 0 { memory.bytes(replacement, with) } else { Some(&[][..]) };
    let with = with.ok_or_else(|| format!("its replacement, {replacement:#x}, is not in memory"))?;
    Ok(Alternative { code, bytes, replacement, with, feature: half(8) | flags << 16, newer })
}

pub fn read(binary: &Binary, tables: &mut Tables) -> Result<(), ImageError> {
    let Some(table) = find(binary, &NAME)? else { return Ok(()) };
    let first_wrong = |&(size, _): &(usize, &str)| {
        table
            .entries(size)
            .find_map(|(address, raw)| Some((address, entry(table.memory, address, raw).err()?)))
    };
    let filling = || FORMATS.iter().filter(|(size, _)| table.whole(*size).is_ok());
    let Some((size, format)) = filling().find(|format| first_wrong(format).is_none()) else {
        // The intended format is unknown: report the error of the one that fits the most entries.
        let furthest = filling().filter_map(first_wrong).max();
        return Err(match furthest {
            Some((address, reason)) => table.wrong(address, reason),
            None => ImageError::damaged(
                NAME.section,
                format!("its {} bytes are not a multiple of 12, 13 or 14", table.bytes.len()),
            ),
        });
    };
    let special = Special::of(binary);
    for (address, raw) in table.entries(*size) {
        let entry = entry(table.memory, address, raw).map_err(|reason| table.wrong(address, reason))?;
        let other = replacement::apply(binary, special, &entry);
        let site = tables.add(Kind::Alternative, entry.code, entry.bytes);
        site.other = other.filter(|other| other != entry.bytes);
        (site.target, site.feature) = (Some(entry.replacement), Some(entry.feature));
    }
    tables.formats.insert(NAME.section, format);
    Ok(())
}
