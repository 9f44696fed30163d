//! The guest image in guest memory.

use std::io::Cursor;

use crossmod_model::image::ImageError;
use linux_loader::loader::KernelLoader;
use linux_loader::loader::elf::Elf;

use super::error::Result;
use super::layout;
use super::memory::Memory;

/// Loads the embedded image to where it is linked.
pub(super) fn load(memory: &Memory) -> Result<()> {
    let loaded = Elf::load(memory.raw(), None, &mut Cursor::new(crossmod_guest::ELF), None)
        .map_err(|error| ImageError(error.to_string()))?;
    if loaded.kernel_load.0 != layout::IMAGE || loaded.kernel_end > layout::IMAGE_END {
        let (start, end) = (loaded.kernel_load.0, loaded.kernel_end);
        return Err(ImageError(format!("loaded at {start:#x}..{end:#x}, outside its window")).into());
    }
    Ok(())
}
