//! A linked kernel, stripped or not.

use super::elf::Elf;
use super::{Binary, kallsyms};
use crate::error::ImageError;
use crate::memory::{Memory, Region};
use crate::symbols::Symbols;

/// Sections that have no kernel address when they are linked: per-CPU data of kernels before 6.15 begins at 0.
const NOWHERE: u64 = 0;

/// Regions and names of a linked kernel.
///
/// # Errors
///
/// If the file has no code, or no names: most tables are found by name.
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
            "none of them holds code",
            "give the kernel itself; a file of debug information alone (vmlinux.debug) will not do",
        ));
    }
    let symbols = Symbols::of_elf(elf.symbols()?);
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
    let symbols = found.map(Symbols::of_kallsyms).filter(|symbols| !symbols.is_empty());
    let symbols = symbols.ok_or_else(|| {
        ImageError::new(
            "symbols",
            "it has no symbol table, and no kallsyms in a known layout (4.6 or later) was found",
            "give an unstripped vmlinux, or a kernel built with CONFIG_KALLSYMS",
        )
    })?;
    Ok(Binary { memory, symbols, module: false, unstripped: false })
}
