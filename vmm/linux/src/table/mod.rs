//! The tables of patch sites, one format a file.
//!
//! Most tables are merged into other sections of a vmlinux and found by the linker script's start and stop symbols
//! (include/asm-generic/vmlinux.lds.h, arch/x86/kernel/vmlinux.lds.S); in modules each is a section.

mod alternative;
mod call;
mod exception;
mod jump;
mod mcount;
mod pointers;
mod replacement;
mod thunk;

use std::collections::BTreeMap;

use super::error::ImageError;
use super::limits;
use super::read::Binary;
use super::site::{Exception, Kind, Site};

/// What the tables of one image hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tables {
    /// All sites, by kind and then in the order of the table.
    pub sites: Vec<Site>,
    /// The exception table.
    pub exceptions: Vec<Exception>,
    /// The form of the entries of each table that is there.
    pub formats: BTreeMap<&'static str, String>,
    /// Entries of each table that stand for nothing.
    pub padding: BTreeMap<&'static str, usize>,
}

/// Where a table is found.
struct Name {
    section: &'static str,
    start: &'static str,
    stop: &'static str,
}

/// A table's bytes.
struct Table<'a> {
    name: &'static str,
    address: u64,
    bytes: &'a [u8],
}

impl<'a> Table<'a> {
    /// Its entries with their addresses. The caller has made sure that they fill the table.
    fn entries(&self, size: usize) -> impl Iterator<Item = (u64, &'a [u8])> + use<'a> {
        let address = self.address;
        self.bytes
            .chunks_exact(size)
            .enumerate()
            .map(move |(index, entry)| (address + (index * size) as u64, entry))
    }

    /// An error about one entry.
    fn wrong(&self, address: u64, reason: impl Into<String>) -> ImageError {
        ImageError::damaged(format!("{}, entry at {address:#x}", self.name), reason)
    }

    /// An error unless entries of this size fill the table.
    fn whole(&self, size: usize) -> Result<(), ImageError> {
        let length = self.bytes.len();
        if !length.is_multiple_of(size) {
            return Err(ImageError::damaged(
                self.name,
                format!("its {length} bytes are no multiple of an entry's {size}"),
            ));
        }
        if length / size > limits::ENTRIES {
            return Err(ImageError::damaged(self.name, format!("it has {} entries", length / size)));
        }
        Ok(())
    }
}

/// Finds a table; `None` if this kernel has none.
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
                format!("it is said to be {start:#x} to {stop:#x}, where it is not"),
            )
        })?;
        return Ok(Some(Table { name: name.section, address: start, bytes }));
    }
    Ok(memory.named(name.section).map(|region| Table {
        name: name.section,
        address: region.address,
        bytes: memory.contents(region),
    }))
}

fn s32(entry: &[u8], at: usize) -> i64 {
    entry.get(at..).and_then(|raw| raw.first_chunk()).map_or(0, |raw| i64::from(i32::from_le_bytes(*raw)))
}

fn s64(entry: &[u8], at: usize) -> i64 {
    entry.get(at..).and_then(|raw| raw.first_chunk()).map_or(0, |raw| i64::from_le_bytes(*raw))
}

/// A field that is relative to itself.
fn relative(address: u64, entry: &[u8], at: usize) -> u64 {
    address.wrapping_add(at as u64).wrapping_add_signed(s32(entry, at))
}

/// `opcode` and the displacement to a target, if it is in reach.
fn branch(opcode: &[u8], address: u64, target: u64) -> Option<Vec<u8>> {
    let end = address.wrapping_add(opcode.len() as u64 + 4);
    let displacement = i32::try_from(target.wrapping_sub(end) as i64).ok()?;
    Some([opcode, &displacement.to_le_bytes()].concat())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ")
}

/// Reads every table.
///
/// # Errors
///
/// If a table is not where it is said to be, or an entry is none of its kind.
pub fn read(binary: &Binary) -> Result<Tables, ImageError> {
    let mut tables = Tables::default();
    jump::read(binary, &mut tables)?;
    call::read(binary, &mut tables)?;
    mcount::read(binary, &mut tables)?;
    alternative::read(binary, &mut tables)?;
    pointers::read(binary, &mut tables)?;
    exception::read(binary, &mut tables)?;
    tables.sites.sort_by_key(|site| (site.kind, site.address));
    stacked(&tables.sites)?;
    Ok(tables)
}

/// An error if too many sites share a byte: what looks at neighbours would take the square of their number.
fn stacked(sites: &[Site]) -> Result<(), ImageError> {
    let mut starts: Vec<u64> = sites.iter().map(|site| site.address).collect();
    let mut ends: Vec<u64> = sites.iter().map(Site::end).collect();
    starts.sort_unstable();
    ends.sort_unstable();
    let mut ended = 0;
    for (begun, start) in starts.iter().enumerate() {
        while ends.get(ended).is_some_and(|end| end <= start) {
            ended += 1;
        }
        if begun + 1 - ended > limits::STACKED {
            return Err(ImageError::damaged(
                "tables",
                format!("more than {} sites are said to share the byte at {start:#x}", limits::STACKED),
            ));
        }
    }
    Ok(())
}

impl Tables {
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
