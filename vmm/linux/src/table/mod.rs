//! Reads the tables of patch sites. Each submodule reads one format.
//!
//! In a vmlinux, most tables are merged into other sections and located by start and stop symbols of the linker script
//! (include/asm-generic/vmlinux.lds.h, arch/x86/kernel/vmlinux.lds.S). In modules, each table is a section.

mod alternative;
mod call;
mod exception;
mod jump;
mod mcount;
mod pointers;
mod replacement;
mod thunk;

use std::collections::BTreeMap;

use crate::error::ImageError;
use crate::hex::hex;
use crate::limits;
use crate::memory::Memory;
use crate::read::Binary;
use crate::site::{Exception, Kind, Site};

/// The contents of the tables of one image.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tables {
    /// All sites, sorted by kind and address.
    pub sites: Vec<Site>,
    /// The exception table, sorted by address.
    pub exceptions: Vec<Exception>,
    /// The format of the entries of each table in the image.
    pub formats: BTreeMap<&'static str, &'static str>,
    /// The number of empty entries of each table.
    pub padding: BTreeMap<&'static str, usize>,
}

/// The names that locate a table.
struct Name {
    section: &'static str,
    start: &'static str,
    stop: &'static str,
}

/// The bytes of a table.
struct Table<'a> {
    name: &'static str,
    memory: &'a Memory,
    address: u64,
    bytes: &'a [u8],
}

impl<'a> Table<'a> {
    /// Its entries with their addresses, after [`whole`](Table::whole) has checked the size.
    fn entries(&self, size: usize) -> impl Iterator<Item = (u64, &'a [u8])> + use<'a> {
        let address = self.address;
        self.bytes
            .chunks_exact(size)
            .enumerate()
            .map(move |(index, entry)| (address + (index * size) as u64, entry))
    }

    /// Checks that a place to which an entry refers is executable.
    fn executable(&self, entry: u64, what: &str, place: u64) -> Result<(), ImageError> {
        if self.memory.executable(place) {
            return Ok(());
        }
        Err(self.wrong(entry, format!("its {what}, {place:#x}, is not in executable memory")))
    }

    /// The bytes of an instruction to which an entry refers.
    fn code(&self, entry: u64, code: u64, length: usize) -> Result<&'a [u8], ImageError> {
        self.memory.bytes(code, length).ok_or_else(|| {
            self.wrong(entry, format!("the code at {code:#x} ends before its instruction does"))
        })
    }

    /// An error at an entry that refers to other bytes than its table is about.
    fn unlike(&self, entry: u64, code: u64, bytes: &[u8], what: &str) -> ImageError {
        self.wrong(entry, format!("the bytes at {code:#x}, {}, are {what}", hex(bytes)))
    }

    /// An error at an entry.
    fn wrong(&self, address: u64, reason: impl Into<String>) -> ImageError {
        ImageError::damaged(format!("{}, entry at {address:#x}", self.name), reason)
    }

    /// Checks that entries of `size` bytes fill the table.
    fn whole(&self, size: usize) -> Result<(), ImageError> {
        let length = self.bytes.len();
        if !length.is_multiple_of(size) {
            return Err(ImageError::damaged(
                self.name,
                format!("its {length} bytes are not a multiple of the entry size, {size}"),
            ));
        }
        if length / size > limits::ENTRIES {
            return Err(ImageError::damaged(
                self.name,
                format!("it has {} entries, more than any kernel", length / size),
            ));
        }
        Ok(())
    }
}

/// Calls `one` with every entry of a table that the kernel may have, and the address of each.
fn each(
    binary: &Binary,
    name: &Name,
    (size, format): (usize, &'static str),
    tables: &mut Tables,
    mut one: impl FnMut(&Table<'_>, &mut Tables, u64, &[u8]) -> Result<(), ImageError>,
) -> Result<(), ImageError> {
    let Some(table) = find(binary, name)? else { return Ok(()) };
    table.whole(size)?;
    tables.formats.insert(name.section, format);
    table.entries(size).try_for_each(|(entry, raw)| one(&table, tables, entry, raw))
}

/// Finds a table; `None` if the kernel does not have it.
fn find<'a>(binary: &'a Binary, name: &Name) -> Result<Option<Table<'a>>, ImageError> {
    let Binary { memory, symbols, .. } = binary;
    if !binary.module
        && let (Some(start), Some(stop)) = (symbols.address(name.start), symbols.address(name.stop))
    {
        if start == stop {
            return Ok(None);
        }
        let length = stop.checked_sub(start).and_then(|length| usize::try_from(length).ok());
        let bytes = length.and_then(|length| memory.bytes(start, length)).ok_or_else(|| {
            ImageError::damaged(
                name.section,
                format!("its symbols span {start:#x} to {stop:#x}, which is not in memory"),
            )
        })?;
        return Ok(Some(Table { name: name.section, memory, address: start, bytes }));
    }
    Ok(memory.named(name.section).map(|region| {
        let bytes = memory.contents(region);
        Table { name: name.section, memory, address: region.address, bytes }
    }))
}

fn s32(entry: &[u8], at: usize) -> i64 {
    entry.get(at..).and_then(|raw| raw.first_chunk()).map_or(0, |raw| i64::from(i32::from_le_bytes(*raw)))
}

fn s64(entry: &[u8], at: usize) -> i64 {
    entry.get(at..).and_then(|raw| raw.first_chunk()).map_or(0, |raw| i64::from_le_bytes(*raw))
}

/// A field that is relative to its own address.
fn relative(address: u64, entry: &[u8], at: usize) -> u64 {
    address.wrapping_add(at as u64).wrapping_add_signed(s32(entry, at))
}

/// The target of a direct branch, whose displacement is its last four bytes.
fn target(address: u64, bytes: &[u8]) -> u64 {
    let displacement = bytes.last_chunk().map_or(0, |raw| i32::from_le_bytes(*raw));
    address.wrapping_add(bytes.len() as u64).wrapping_add_signed(displacement.into())
}

/// The branch with this opcode from `address` to `target`; `None` if out of reach.
fn branch(opcode: &[u8], address: u64, target: u64) -> Option<Vec<u8>> {
    let end = address.wrapping_add(opcode.len() as u64 + 4);
    let displacement = i32::try_from(target.wrapping_sub(end) as i64).ok()?;
    Some([opcode, &displacement.to_le_bytes()].concat())
}

/// Reads every table.
///
/// # Errors
///
/// If a table is not where its symbols are, or an entry is malformed.
pub fn read(binary: &Binary) -> Result<Tables, ImageError> {
    let readers = [jump::read, call::read, mcount::read, alternative::read, pointers::read, exception::read];
    let mut tables = Tables::default();
    readers.into_iter().try_for_each(|read| read(binary, &mut tables))?;
    tables.sites.sort_by_key(|site| (site.kind, site.address));
    stacked(&tables.sites)?;
    Ok(tables)
}

/// Rejects tables with too many sites that share a byte: searches of neighbours would take quadratic time.
fn stacked(sites: &[Site]) -> Result<(), ImageError> {
    let mut starts: Vec<u64> = sites.iter().map(|site| site.address).collect();
    let mut ends: Vec<u64> = sites.iter().map(Site::end).collect();
    starts.sort_unstable();
    ends.sort_unstable();
    // With the site that many places further on, one site too many has begun, unless the first of them has ended.
    let crowded = starts.iter().skip(limits::STACKED).zip(&ends).find(|(start, end)| start < end);
    crowded.map_or(Ok(()), |(start, _)| {
        let reason = format!("more than {} sites share the byte at {start:#x}", limits::STACKED);
        Err(ImageError::damaged("tables", reason))
    })
}

impl Tables {
    /// The exceptions whose instruction begins in an address range.
    pub fn exceptions_in(&self, from: u64, to: u64) -> &[Exception] {
        let place = |address| self.exceptions.partition_point(|exception| exception.address < address);
        &self.exceptions[place(from)..place(to)]
    }

    /// Counts an empty entry.
    fn pad(&mut self, table: &Table<'_>) {
        *self.padding.entry(table.name).or_default() += 1;
    }

    fn add(&mut self, kind: Kind, address: u64, bytes: &[u8]) -> &mut Site {
        self.sites.push(Site {
            kind,
            address,
            bytes: bytes.to_vec(),
            other: None,
            target: None,
            key: None,
            tail: false,
            feature: None,
        });
        let last = self.sites.len() - 1;
        &mut self.sites[last]
    }
}
