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

use object::LittleEndian as LE;
use object::elf::{self, Rela64, SymbolSection};

use super::Binary;
use super::elf::{Elf, Section, Symbol};
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

/// Lays out and relocates a module.
///
/// # Errors
///
/// If sections, symbols or relocations are malformed or exceed [`limits`].
pub fn read(bytes: &[u8]) -> Result<Binary, ImageError> {
    let elf = Elf::parse(bytes)?;
    let addresses = lay_out(&elf.sections)?;
    let symbols = elf.symbols()?;
    let values = resolve(&symbols, &addresses)?;
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
    for section in &elf.sections {
        let Some(relocations) = elf.relocations(section) else { continue };
        let to = section.header.sh_info.get(LE) as usize;
        let (Some(Some(start)), Some(Some(base))) = (starts.get(to), addresses.get(to)) else { continue };
        let target = buffer.get_mut(*start..*start + elf.sections[to].data.len()).unwrap_or_default();
        relocate(&section.name, relocations, target, *base, &values, &mut left)?;
    }
    // Absolute values are no addresses; symbols of other files have one now, so labels can use their names.
    let addresses = symbols.into_iter().zip(values).filter(|(symbol, _)| !section_of(symbol).is_reserved());
    Ok(Binary {
        memory: Memory::new(buffer, regions),
        symbols: addresses.filter_map(|(symbol, value)| symbol.naming(value?)).collect(),
        module: true,
        unstripped: true,
    })
}

/// Addresses of the sections that are in memory when the module runs.
fn lay_out(sections: &[Section<'_>]) -> Result<Vec<Option<u64>>, ImageError> {
    let mut addresses = vec![None; sections.len()];
    let mut next = [CORE, INIT];
    for executable in [true, false] {
        for (index, section) in sections.iter().enumerate() {
            if !section.allocated() || section.executable() != executable {
                continue;
            }
            let place = || format!("section {}", section.name);
            let (align, size) = (section.header.sh_addralign.get(LE).max(1), section.header.sh_size.get(LE));
            if !align.is_power_of_two() || align > ALIGNMENT {
                let reason = format!("its alignment is {align} bytes");
                return Err(ImageError::damaged(place(), reason));
            }
            let which = usize::from(section.name.starts_with(".init"));
            let address = next[which].next_multiple_of(align);
            next[which] = address.saturating_add(size);
            if next[which] > [CORE, INIT][which] + ROOM {
                let reason = format!("its {size} bytes make the module larger than any");
                return Err(ImageError::damaged(place(), reason));
            }
            addresses[index] = Some(address);
        }
        // Data begins on a new page.
        next = next.map(|next| next.next_multiple_of(PAGE));
    }
    Ok(addresses)
}

/// The section that defines a symbol.
fn section_of(symbol: &Symbol<'_>) -> SymbolSection {
    symbol.entry.st_shndx.get(LE)
}

/// The value of each symbol in relocations.
fn resolve(symbols: &[Symbol<'_>], addresses: &[Option<u64>]) -> Result<Vec<Option<u64>>, ImageError> {
    let mut foreign: HashMap<&str, u64> = HashMap::new();
    let mut values = Vec::with_capacity(symbols.len());
    for symbol in symbols {
        let value = symbol.entry.st_value.get(LE);
        values.push(match section_of(symbol) {
            section if section.is_reserved() => Some(value),
            elf::SHN_UNDEF if symbol.name.is_empty() => None,
            elf::SHN_UNDEF => {
                let next = FOREIGN + foreign.len() as u64 * FOREIGN_SIZE;
                Some(*foreign.entry(&symbol.name).or_insert(next))
            }
            SymbolSection(index) => {
                let address = addresses.get(usize::from(index)).ok_or_else(|| {
                    ImageError::damaged(
                        format!("symbol {}", symbol.name),
                        format!("it is in section {index}, which does not exist"),
                    )
                })?;
                address.map(|address| address.wrapping_add(value))
            }
        });
    }
    Ok(values)
}

fn relocate(
    section: &str,
    relocations: &[Rela64<LE>],
    target: &mut [u8],
    base: u64,
    values: &[Option<u64>],
    left: &mut usize,
) -> Result<(), ImageError> {
    for (index, relocation) in relocations.iter().enumerate() {
        let wrong = |reason: String| ImageError::damaged(format!("section {section}, entry {index}"), reason);
        *left = left.checked_sub(1).ok_or_else(|| wrong("more relocations than any module has".into()))?;
        let (symbol, offset) = (relocation.r_sym(LE, false) as usize, relocation.r_offset.get(LE));
        let known = values
            .get(symbol)
            .ok_or_else(|| wrong(format!("it refers to symbol {symbol} of {}", values.len())))?;
        // Symbols of sections that are not in memory, such as debug information, do not concern patched code.
        let Some(value) = known else { continue };
        let sum = value.wrapping_add_signed(relocation.r_addend.get(LE));
        let place = base.wrapping_add(offset);
        let (result, width) = match relocation.r_type(LE, false) {
            elf::R_X86_64_64 => (sum, 8),
            elf::R_X86_64_PC64 => (sum.wrapping_sub(place), 8),
            elf::R_X86_64_32 | elf::R_X86_64_32S => (sum, 4),
            elf::R_X86_64_PC32 | elf::R_X86_64_PLT32 => (sum.wrapping_sub(place), 4),
            elf::R_X86_64_NONE => continue,
            other => return Err(wrong(format!("modules do not use relocations of type {}", other.0))),
        };
        let bytes = usize::try_from(offset).ok().and_then(|at| target.get_mut(at..)?.get_mut(..width));
        let bytes = bytes.ok_or_else(|| wrong(format!("byte {offset:#x} is outside the section")))?;
        bytes.copy_from_slice(&result.to_le_bytes()[..width]);
    }
    Ok(())
}
