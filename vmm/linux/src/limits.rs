//! Caps on what an image may make Crossmod allocate or walk through.
//!
//! Each is several times what the largest distribution kernel needs, so that reaching one means damage or malice.

/// Largest file that is read, in bytes. An unstripped vmlinux with debug information has about 500 MiB.
pub const FILE: u64 = 2 << 30;
/// Largest unpacked kernel or module, in bytes. Debian's 6.12 unpacks to about 60 MiB.
pub const UNPACKED: u64 = 512 << 20;
/// Memory that a decompressor may use for its dictionary, in KiB. `xz` and `lzma` at their highest setting use 64 MiB,
/// the kernel's zstd 128 MiB.
pub const DICTIONARY_KIB: u32 = 160 << 10;
/// Most symbols. Debian's 6.12 has about 200,000.
pub const SYMBOLS: usize = 1 << 21;
/// Longest name of a symbol, in bytes (`KSYM_NAME_LEN` is 512 since 6.1, include/linux/kallsyms.h).
pub const NAME: usize = 1024;
/// Most entries in one table.
pub const ENTRIES: usize = 1 << 22;
/// Most modules in a directory. Debian's largest flavour has about 4,000.
pub const MODULES: usize = 1 << 16;
/// Most directories below one another.
pub const DEPTH: usize = 32;
/// Names that the search for kallsyms may try to expand before it gives up.
pub const KALLSYMS_TRIES: usize = 1 << 24;
/// Places that the search for kallsyms may look at before it gives up.
pub const KALLSYMS_LOOKS: usize = 1 << 27;
/// Most sections of a module or a vmlinux. Modules built with `-ffunction-sections` have a few thousand.
pub const SECTIONS: usize = 1 << 16;
/// Most relocations of a module.
pub const RELOCATIONS: usize = 1 << 23;
/// Most sites that may share a byte. An alternative of three versions in a paravirt call has four.
pub const STACKED: usize = 16;
