//! Reads a linked kernel, stripped or not.

use object::LittleEndian as LE;
use object::elf::Sym64;

use super::elf::Elf;
use super::{Binary, kallsyms};
use crate::error::ImageError;
use crate::memory::{Memory, Region};
use crate::symbols::Symbols;

/// Address of sections that have no kernel address: per-CPU data of kernels before 6.15 begins at 0.
const NOWHERE: u64 = 0;

/// The memory and symbols of a linked kernel.
///
/// # Errors
///
/// If the file has no code, or no symbols: they locate most tables.
pub fn read(bytes: Vec<u8>) -> Result<Binary, ImageError> {
    let elf = Elf::parse(&bytes)?;
    let mut regions: Vec<Region> = elf
        .sections
        .iter()
        .filter(|section| section.allocated())
        .map(|section| Region {
            name: section.name.clone(),
            address: section.header.sh_addr.get(LE),
            data: section.data.clone(),
            executable: section.executable(),
        })
        .filter(|region| region.address != NOWHERE)
        .collect();
    if regions.is_empty() {
        regions.extend(elf.segments.iter().filter(|segment| segment.address != NOWHERE).cloned());
    }
    if !regions.iter().any(|region| region.executable) {
        return Err(ImageError::new(
            "sections",
            "none of them contains code",
            "pass the kernel itself, not only its debug information (vmlinux.debug)",
        ));
    }
    let named = elf.symbols()?.into_iter().filter_map(|symbol| {
        let Sym64 { st_shndx, st_value, .. } = symbol.entry;
        st_shndx.get(LE).index()?;
        symbol.naming(st_value.get(LE))
    });
    let symbols: Symbols = named.collect();
    drop(elf);
    let memory = Memory::new(bytes, regions);
    if !symbols.is_empty() {
        return Ok(Binary { memory, symbols, module: false, unstripped: true });
    }
    let found = memory
        .regions()
        .iter()
        .filter(|region| !region.executable || region.name == "segment")
        .find_map(|region| kallsyms::find(memory.contents(region)));
    let symbols = found.map(Symbols::from_iter).filter(|symbols| !symbols.is_empty());
    let symbols = symbols.ok_or_else(|| {
        ImageError::new(
            "symbols",
            "it has neither a symbol table nor kallsyms in a known layout (4.6 or later)",
            "pass an unstripped vmlinux, or a kernel built with CONFIG_KALLSYMS",
        )
    })?;
    Ok(Binary { memory, symbols, module: false, unstripped: false })
}
