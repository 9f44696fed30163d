//! Turns files into bytes at addresses, with symbols.

pub mod bzimage;
pub mod elf;
pub mod kallsyms;
pub mod module;
pub mod payload;
pub mod vmlinux;

use crate::memory::Memory;
use crate::symbols::Symbols;

/// The contents of a file, before its tables are read.
#[derive(Debug, Clone, Default)]
pub struct Binary {
    /// Its bytes.
    pub memory: Memory,
    /// Its symbols.
    pub symbols: Symbols,
    /// True for a module, whose sections were laid out as the kernel's module loader does.
    pub module: bool,
    /// True if the symbols come from the file's symbol table, false if from kallsyms.
    pub unstripped: bool,
}
