//! Limits on the memory and time that an image can use.
//!
//! Each is several times what the largest distribution kernel needs: an image that reaches one is damaged or malicious.

/// Maximum size of a file in bytes. An unstripped vmlinux with debug information has about 500 MiB.
pub const FILE: u64 = 2 << 30;
/// Maximum size of an unpacked kernel or module in bytes. Debian's 6.12 unpacks to about 60 MiB.
pub const UNPACKED: u64 = 512 << 20;
/// Maximum size of a decompressor's dictionary in KiB. `xz` and `lzma` at their highest setting use 64 MiB,
/// the kernel's zstd 128 MiB.
pub const DICTIONARY_KIB: u32 = 160 << 10;
/// Maximum number of symbols. Debian's 6.12 has about 200,000.
pub const SYMBOLS: usize = 1 << 21;
/// Maximum length of a symbol's name in bytes (`KSYM_NAME_LEN` is 512 since 6.1, include/linux/kallsyms.h).
pub const NAME: usize = 1024;
/// Maximum number of entries in a table.
pub const ENTRIES: usize = 1 << 22;
/// Maximum number of modules in a directory. Debian's largest flavour has about 4,000.
pub const MODULES: usize = 1 << 16;
/// Maximum depth of nested directories.
pub const DEPTH: usize = 32;
/// Maximum number of names that the search for kallsyms decodes.
pub const KALLSYMS_TRIES: usize = 1 << 24;
/// Maximum number of addresses that the search for kallsyms inspects.
pub const KALLSYMS_LOOKS: usize = 1 << 27;
/// Maximum number of sections. Modules built with `-ffunction-sections` have a few thousand.
pub const SECTIONS: usize = 1 << 16;
/// Maximum number of relocations of a module.
pub const RELOCATIONS: usize = 1 << 23;
/// Maximum number of sites that share a byte. A paravirt call inside an alternative of three versions has four.
pub const STACKED: usize = 16;
