//! Linux images, made up: what is read out of them, and what happens when they are damaged.

mod facts;
mod hostile;
mod judging;
mod readers;
mod results;
pub mod synth;

use crossmod::linux::{Image, Kind, Site};

/// Reads an image that is fine.
fn parse(bytes: Vec<u8>) -> Image {
    Image::parse("synthetic", bytes).unwrap()
}

/// The sites of one kind.
fn of(image: &Image, kind: Kind) -> Vec<&Site> {
    image.tables.sites.iter().filter(|site| site.kind == kind).collect()
}
