//! Counts the patch sites of a kernel or of modules: `cargo run --release --example sites /boot/vmlinuz`. KVM is not
//! needed.

#![allow(clippy::print_stdout, reason = "an example prints its result")]

use std::error::Error;

use crossmod::linux::{self, Filter, Kind};

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args_os().nth(1).ok_or("usage: sites KERNEL|MODULE|DIRECTORY")?;
    let images = linux::load(path.as_ref(), &|_, _| {})?;
    for kind in &linux::inventory(&images).kinds {
        println!("{}: {} sites", kind.kind, kind.sites);
    }
    // Jump labels whose bytes lie in two cache lines: one store cannot change them at once.
    let filter = Filter { kinds: vec![Kind::JumpLabel], crossing: Some(64), ..Filter::default() };
    for row in linux::rows(&images, &filter) {
        println!("{} {} -> {}", row.site, row.bytes, row.other.unwrap_or_default());
    }
    Ok(())
}
