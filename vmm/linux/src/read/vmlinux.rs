//! Reads a linked kernel, stripped or not.

use super::elf::{Elf, Symbol};
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
        .filter(|section| section.allocated() && section.address != NOWHERE)
        .map(|section| Region {
            name: section.name.clone(),
            address: section.address,
            data: section.data.clone(),
            executable: section.executable(),
        })
        .collect();
    if regions.is_empty() {
        let segments = elf.segments.iter().filter(|(address, ..)| *address != NOWHERE);
        regions = segments
            .map(|(address, data, executable)| Region {
                name: "segment".into(),
                address: *address,
                data: data.clone(),
                executable: *executable,
            })
            .collect();
    }
    if !regions.iter().any(|region| region.executable) {
        return Err(ImageError::new(
            "sections",
            "none of them contains code",
            "pass the kernel itself, not only its debug information (vmlinux.debug)",
        ));
    }
    let symbols: Symbols = elf.symbols()?.into_iter().filter_map(Symbol::named).collect();
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
