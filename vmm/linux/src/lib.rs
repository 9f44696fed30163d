//! Linux kernels and modules: where they are patched, and what that rests on.
//!
//! ```no_run
//! use crossmod::linux::{self, Filter, Kind};
//!
//! let images = linux::load("/boot/vmlinuz".as_ref(), &|_, _| {})?;
//! let inventory = linux::inventory(&images);
//! for kind in &inventory.kinds {
//!     eprintln!("{}: {} sites", kind.kind, kind.sites);
//! }
//! // What tears if it is stored over two cache lines?
//! let filter = Filter { kinds: vec![Kind::JumpLabel], crossing: Some(64), ..Filter::default() };
//! for row in linux::rows(&images, &filter) {
//!     eprintln!("{} {} -> {}", row.site, row.bytes, row.other.unwrap_or_default());
//! }
//! # Ok::<(), linux::ImageError>(())
//! ```
//!
//! # From a file to sites
//!
//! ```text
//! bzImage -> payload -> vmlinux -+-> memory and symbols -> tables -> sites -> inventory, list, diff
//! .ko.xz  -> payload -> module --+                                      |     windows for probes
//!                                                                       +---> classes -> scenarios -> verdicts
//! ```
//!
//! A [`Binary`] is bytes at addresses with names, whether it was a kernel or a module that was laid out and relocated
//! here. The tables are then read in one way. Which form their entries have is told by what fits, not by a version
//! number: each source file names the kernel files and commits that define its table.
//!
//! * Names of a stripped kernel come from its own kallsyms, in both orders of its tables.
//! * A site's *other* version is what the kernel's patching code makes of it: a jump label's other state, what boot makes
//!   of a static call, the NOP for ftrace's call, an alternative's replacement, what a CPU without need of thunks gets
//!   for them. All but the first three are patched before other CPUs run, or while they are kept away.
//! * Addresses are link addresses. KASLR moves a kernel by multiples of 2 MiB and a module by pages, so that no
//!   crossing of a boundary changes.
//!
//! # What a verdict of a class claims
//!
//! [`classes()`] groups sites that a protocol cannot tell apart, and [`judge`] has each class explored once and in
//! both directions; its verdict holds for all its members. What a torn instruction goes on to do depends on its
//! displacement, so that `wrong-resume` is not told of a class that is `torn`. A site is judged alone: two sites that are patched at once are not.
//!
//! Where a static call becomes `xor %eax,%eax`, the kernel's trap handler emulates a call of `__static_call_return0`, which
//! ends as behind the XOR. So does a trap in a scenario: see [`export`], which also says what is done where scenarios
//! cannot do what the kernel does.
//!
//! Of kinds that Linux patches while other CPUs are kept away, a verdict says what would happen if it did not. They are
//! judged as they are on disk: boot merges NOPs also where it replaces nothing, so that old versions full of one-byte NOPs
//! have more places to stand at here than in a running kernel.
//!
//! # Images that lie
//!
//! An image is untrusted. Every offset is checked, everything that is counted has a cap in [`limits`], and what is
//! wrong is an [`ImageError`] with the place, the reason and a remedy. `scripts/fuzz image` looks for exceptions.

mod class;
pub mod code;
mod diff;
mod error;
mod flow;
mod image;
mod inventory;
pub mod limits;
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
pub use flow::{Entry, Via, entries};
pub use image::{Image, load};
pub use inventory::{Crossings, Entered, Filter, Inventory, KindRow, LengthRow, Row, hex, inventory, rows};
pub use memory::{Memory, Region};
pub use read::Binary;
pub use read::payload::Compression;
pub use site::{BOUNDARIES, Exception, Kind, Site, State};
pub use symbols::{Symbol, Symbols};
pub use table::Tables;
pub use window::{Hazard, JUMP, Window, windows};
