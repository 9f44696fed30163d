//! From files to bytes at addresses with names.

pub mod bzimage;
pub mod elf;
pub mod kallsyms;
pub mod module;
pub mod payload;
pub mod vmlinux;

use super::memory::Memory;
use super::symbols::Symbols;

/// What a file holds, before its tables are read.
#[derive(Debug, Clone, Default)]
pub struct Binary {
    /// Its bytes.
    pub memory: Memory,
    /// Their names.
    pub symbols: Symbols,
    /// It is a module: its sections were laid out here, as the kernel's module loader does.
    pub module: bool,
    /// It comes from an unstripped file; else names are those of kallsyms.
    pub unstripped: bool,
}
