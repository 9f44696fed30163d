//! Reads Linux kernels and modules for x86-64, and finds the places that the kernel patches.
//!
//! ```no_run
//! use crossmod_linux::{Filter, Kind};
//!
//! let images = crossmod_linux::load("/boot/vmlinuz".as_ref(), &|_, _| {})?;
//! let inventory = crossmod_linux::inventory(&images);
//! for kind in &inventory.kinds {
//!     eprintln!("{}: {} sites", kind.kind, kind.sites);
//! }
//! // Which static-key branches cross a cache line?
//! let filter = Filter { kinds: vec![Kind::JumpLabel], crossing: Some(64), ..Filter::default() };
//! for row in crossmod_linux::rows(&images, &filter) {
//!     eprintln!("{} {} -> {}", row.site, row.bytes, row.other.unwrap_or_default());
//! }
//! # Ok::<(), crossmod_linux::ImageError>(())
//! ```
//!
//! # From a file to sites
//!
//! ```text
//! bzImage -> payload -> vmlinux -+-> memory, symbols -> tables -> sites -> inventory, list, diff
//! .ko.xz  -> payload -> module --+                                     |-> windows for optimised probes
//!                                                                      +-> classes
//! ```
//!
//! A [`Binary`] is bytes at addresses, with symbols. Kernels are used at their link addresses; modules are laid out and
//! relocated as the kernel's module loader does it. From there on, both are read by the same code. The format of a
//! table's entries is recognised by what fits, not by a version number; each source file names the kernel files and
//! commits that define its table.
//!
//! * A stripped kernel's symbols come from its own kallsyms, in either order of the tables.
//! * A site's *other* version is what the kernel's patching code writes: the other state of a jump label, what boot
//!   makes of a static call, the NOP for ftrace's call, the replacement of an alternative, and for thunks what a CPU
//!   that needs no mitigation gets. All but the first three are patched before other CPUs run or while they are stopped.
//! * Addresses are link addresses. KASLR moves a kernel by multiples of 2 MiB and a module by whole pages, so the
//!   boundaries that a site crosses stay the same.
//!
//! # Classes
//!
//! [`classes()`] groups sites by everything that can matter to a CPU that runs them while they are patched, apart from
//! the address: see [`Traits`]. This crate only groups them; it does not know how they are patched or judged.
//!
//! # Untrusted images
//!
//! An image may be damaged or malicious. The crate contains no unsafe code, checks every offset, and caps everything
//! that an image can count: see [`limits`]. Whatever is wrong becomes an [`ImageError`] with the place, the reason and a
//! remedy. [`exercise()`] runs every analysis on a file's bytes; `scripts/fuzz image` uses it.

#![forbid(unsafe_code)]

mod class;
pub mod code;
mod diff;
mod error;
mod exercise;
mod flow;
mod hex;
mod image;
mod inventory;
pub mod limits;
mod list;
mod memory;
pub mod nops;
mod read;
mod site;
mod symbols;
mod table;
pub mod versions;
mod window;

pub use class::{Class, Member, Traits, classes, without_class};
pub use diff::{Change, Diff, DiffRow, diff};
pub use error::ImageError;
pub use exercise::exercise;
pub use flow::{Entry, Via, entries};
pub use hex::{hex, sha256};
pub use image::{Image, load};
pub use inventory::{Crossings, Entered, Inventory, KindRow, LengthRow, inventory};
pub use list::{Filter, SiteRow, rows};
pub use memory::{Memory, Region};
pub use read::Binary;
pub use read::payload::Compression;
pub use site::{BOUNDARIES, Exception, Kind, Site, State};
pub use symbols::{Symbol, Symbols};
pub use table::Tables;
pub use window::{Hazard, JUMP, ProbeWindow, windows};
