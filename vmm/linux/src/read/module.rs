//! Lays out and relocates a module as the kernel does.
//!
//! kernel/module/main.c, `layout_sections()` (`__layout_sections()` since 6.4): executable sections come first, in the
//! order of the file, each at its own alignment, from the beginning of a page; sections whose name begins with `.init`
//! get a separate allocation. Addresses in text therefore equal those of the running kernel modulo 4096, and so do all
//! boundary crossings. The base of each module is arbitrary, as in the kernel.
//!
//! The supported relocations are those of arch/x86/kernel/module.c, `__apply_relocate_add()`. Symbols of other modules
//! and of the kernel get distinct made-up addresses.

use std::collections::HashMap;

use super::Binary;
use super::elf::{Elf, Section, SectionIndex, Symbol};
use crate::error::ImageError;
use crate::limits;
use crate::memory::{Memory, Region};

/// Address of the core sections: the beginning of the module area (`MODULES_VADDR` without KASLR).
const CORE: u64 = 0xffff_ffff_c000_0000;
/// Address of the init sections, in reach of the core sections.
const INIT: u64 = 0xffff_ffff_d000_0000;
/// Address of the first symbol that another file defines.
const FOREIGN: u64 = 0xffff_ffff_a000_0000;
const FOREIGN_SIZE: u64 = 16;
/// Maximum size of the core and of the init sections, in bytes.
const ROOM: u64 = 0x0fff_0000;
const PAGE: u64 = 4096;
/// Maximum alignment of a section in bytes.
const ALIGNMENT: u64 = 1 << 21;

const R_64: u32 = 1;
const R_PC32: u32 = 2;
const R_PLT32: u32 = 4;
const R_32: u32 = 10;
const R_32S: u32 = 11;
const R_PC64: u32 = 24;

/// Lays out and relocates a module.
///
/// # Errors
///
/// If sections, symbols or relocations are malformed or exceed [`limits`].
pub fn read(bytes: &[u8]) -> Result<Binary, ImageError> {
    let elf = Elf::parse(bytes)?;
    let addresses = lay_out(&elf.sections)?;
    let mut symbols = elf.symbols()?;
    let values = resolve(&mut symbols, &addresses)?;
    let mut buffer = Vec::new();
    let mut regions = Vec::new();
    let mut starts = vec![None; elf.sections.len()];
    for (index, section) in elf.sections.iter().enumerate() {
        let Some(address) = addresses[index] else { continue };
        if (buffer.len() + section.data.len()) as u64 > limits::UNPACKED {
            return Err(ImageError::damaged("sections", "together they are larger than any module"));
        }
        starts[index] = Some(buffer.len());
        let data = buffer.len()..buffer.len() + section.data.len();
        buffer.extend_from_slice(elf.data(section));
        let (name, executable) = (section.name.clone(), section.executable());
        regions.push(Region { name, address, data, executable });
    }
    let mut left = limits::RELOCATIONS;
    for section in elf.sections.iter().filter(|section| section.relocates()) {
        let (Some(Some(start)), Some(Some(base))) = (starts.get(section.info), addresses.get(section.info))
        else {
            continue;
        };
        let length = elf.sections[section.info].data.len();
        let target = buffer.get_mut(*start..*start + length).unwrap_or_default();
        relocate(&elf, section, target, *base, &values, &mut left)?;
    }
    Ok(Binary {
        memory: Memory::new(buffer, regions),
        symbols: symbols.into_iter().filter_map(Symbol::named).collect(),
        module: true,
        unstripped: true,
    })
}

/// Addresses of the sections that are in memory when the module runs.
fn lay_out(sections: &[Section]) -> Result<Vec<Option<u64>>, ImageError> {
    let mut addresses = vec![None; sections.len()];
    let mut next = [CORE, INIT];
    for executable in [true, false] {
        for (index, section) in sections.iter().enumerate() {
            if !section.allocated() || section.executable() != executable {
                continue;
            }
            let place = || format!("section {}", section.name);
            if !section.align.is_power_of_two() || section.align > ALIGNMENT {
                let reason = format!("its alignment is {} bytes", section.align);
                return Err(ImageError::damaged(place(), reason));
            }
            let which = usize::from(section.name.starts_with(".init"));
            let address = next[which].next_multiple_of(section.align);
            next[which] = address.saturating_add(section.size);
            if next[which] > [CORE, INIT][which] + ROOM {
                let reason = format!("its {} bytes make the module larger than any", section.size);
                return Err(ImageError::damaged(place(), reason));
            }
            addresses[index] = Some(address);
        }
        // Data begins on a new page.
        next = next.map(|next| next.next_multiple_of(PAGE));
    }
    Ok(addresses)
}

/// Turns the values of symbols into addresses; returns the value of each symbol in relocations.
fn resolve(symbols: &mut [Symbol], addresses: &[Option<u64>]) -> Result<Vec<Option<u64>>, ImageError> {
    let mut foreign: HashMap<String, u64> = HashMap::new();
    let mut values = Vec::with_capacity(symbols.len());
    for symbol in symbols {
        let value = match symbol.section {
            SectionIndex::Absolute => Some(symbol.value),
            SectionIndex::Defined(index) => {
                let address = addresses.get(index).ok_or_else(|| {
                    ImageError::damaged(
                        format!("symbol {}", symbol.name),
                        format!("it is in section {index}, which does not exist"),
                    )
                })?;
                address.map(|address| address.wrapping_add(symbol.value))
            }
            SectionIndex::Undefined if symbol.name.is_empty() => None,
            SectionIndex::Undefined => {
                let next = FOREIGN + foreign.len() as u64 * FOREIGN_SIZE;
                let address = *foreign.entry(symbol.name.clone()).or_insert(next);
                // The symbol now has an address, so labels can use its name.
                symbol.section = SectionIndex::Defined(0);
                Some(address)
            }
        };
        symbol.value = value.unwrap_or_default();
        values.push(value);
    }
    Ok(values)
}

fn relocate(
    elf: &Elf<'_>,
    section: &Section,
    target: &mut [u8],
    base: u64,
    values: &[Option<u64>],
    left: &mut usize,
) -> Result<(), ImageError> {
    for (index, relocation) in elf.relocations(section).enumerate() {
        let wrong =
            |reason: String| ImageError::damaged(format!("section {}, entry {index}", section.name), reason);
        *left = left.checked_sub(1).ok_or_else(|| wrong("more relocations than any module has".into()))?;
        let known = values
            .get(relocation.symbol)
            .ok_or_else(|| wrong(format!("it refers to symbol {} of {}", relocation.symbol, values.len())))?;
        // Symbols of sections that are not in memory, such as debug information, do not concern patched code.
        let Some(value) = known else { continue };
        let sum = value.wrapping_add_signed(relocation.addend);
        let place = base.wrapping_add(relocation.offset);
        let (result, width) = match relocation.kind {
            R_64 => (sum, 8),
            R_PC64 => (sum.wrapping_sub(place), 8),
            R_32 | R_32S => (sum, 4),
            R_PC32 | R_PLT32 => (sum.wrapping_sub(place), 4),
            0 => continue,
            other => {
                return Err(wrong(format!("modules do not use relocations of type {other}")));
            }
        };
        let offset = usize::try_from(relocation.offset).ok();
        let bytes = offset.and_then(|offset| target.get_mut(offset..)?.get_mut(..width));
        let Some(bytes) = bytes else {
            return Err(wrong(format!("byte {:#x} is outside the section", relocation.offset)));
        };
        bytes.copy_from_slice(&result.to_le_bytes()[..width]);
    }
    Ok(())
}
