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
use crate::read::Binary;
use crate::site::Kind;

const NAME: Name =
    Name { section: ".altinstructions", start: "__alt_instructions", stop: "__alt_instructions_end" };

struct Format {
    size: usize,
    flags: bool,
    padding: bool,
    text: &'static str,
}

const FORMATS: [Format; 3] = [
    Format { size: 14, flags: true, padding: false, text: "14 bytes, with flags" },
    Format { size: 12, flags: false, padding: false, text: "12 bytes" },
    Format { size: 13, flags: false, padding: true, text: "13 bytes, with the length of padding" },
];

struct Entry {
    code: u64,
    replacement: u64,
    feature: u32,
    length: usize,
    replacement_length: usize,
    padding: usize,
}

fn entry(format: &Format, address: u64, raw: &[u8]) -> Entry {
    let half = |at: usize| u32::from(raw[at]) | u32::from(raw[at + 1]) << 8;
    let lengths = if format.flags { 12 } else { 10 };
    Entry {
        code: relative(address, raw, 0),
        replacement: relative(address, raw, 4),
        feature: if format.flags { half(8) | half(10) << 16 } else { half(8) },
        length: usize::from(raw[lengths]),
        replacement_length: usize::from(raw[lengths + 1]),
        padding: if format.padding { usize::from(raw[lengths + 2]) } else { 0 },
    }
}

fn wrong(binary: &Binary, entry: &Entry) -> Option<String> {
    let Entry { code, replacement, length, replacement_length, padding, .. } = entry;
    let memory = &binary.memory;
    if !memory.executable(*code) || memory.bytes(*code, *length).is_none() {
        Some(format!("its {length} bytes at {code:#x} are not in executable memory"))
    } else if *length == 0 || replacement_length > length || padding > length {
        Some(format!("{replacement_length} bytes cannot replace {length}"))
    } else if *replacement_length > 0 && memory.bytes(*replacement, *replacement_length).is_none() {
        Some(format!("its replacement, {replacement:#x}, is not in memory"))
    } else {
        None
    }
}

pub fn read(binary: &Binary, tables: &mut Tables) -> Result<(), ImageError> {
    let Some(table) = find(binary, &NAME)? else { return Ok(()) };
    let first_wrong = |format: &Format| {
        table
            .entries(format.size)
            .find_map(|(address, raw)| Some((address, wrong(binary, &entry(format, address, raw))?)))
    };
    let filling = || FORMATS.iter().filter(|format| table.whole(format.size).is_ok());
    let Some(format) = filling().find(|format| first_wrong(format).is_none()) else {
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
    for (address, raw) in table.entries(format.size) {
        let entry = entry(format, address, raw);
        let bytes = binary.memory.bytes(entry.code, entry.length).unwrap_or_default();
        let with = binary.memory.bytes(entry.replacement, entry.replacement_length).unwrap_or_default();
        let other = replacement::apply(
            binary,
            special,
            &Alternative {
                code: entry.code,
                bytes,
                replacement: entry.replacement,
                with,
                feature: entry.feature,
                newer: format.flags,
            },
        );
        let site = tables.add(Kind::Alternative, entry.code, bytes);
        site.other = other.filter(|other| other != bytes);
        site.target = Some(entry.replacement);
        site.feature = Some(entry.feature);
    }
    tables.formats.insert(NAME.section, format.text.into());
    Ok(())
}
