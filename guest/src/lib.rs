//! The guest image that Crossmod's virtual machines run, as a bare-metal ELF file.
//!
//! `boot.rs` and the assembly files beside it are built by `build.rs` with the toolchain that builds the host. What
//! guest and host agree on (addresses, ports, page layouts) is the crate `crossmod-abi`.

#![no_std]
#![forbid(unsafe_code)]

/// The ELF file: linked at `crossmod_abi::va::IMAGE`, with its symbols.
pub const ELF: &[u8] = include_bytes!(env!("CROSSMOD_GUEST_ELF"));
