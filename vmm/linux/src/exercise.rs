//! Every analysis on untrusted bytes.

use crate::code;
use crate::error::ImageError;
use crate::image::Image;
use crate::list::{Filter, rows};
use crate::versions::Versions;
use crate::{class, diff, inventory, window};

/// Reads an image from the bytes of a file and runs every analysis of this crate on it. Fuzzers and tests look for
/// panics, for time and for memory; the results are dropped, except for the image itself.
///
/// # Errors
///
/// Those of [`Image::parse`].
pub fn exercise(bytes: Vec<u8>) -> Result<Image, ImageError> {
    let images = [Image::parse("untrusted", bytes)?];
    let all = Filter::default();
    let _ = inventory::inventory(&images);
    let _ = diff::diff(&images, &images, &all);
    let _ = class::classes(&images, &all);
    let _ = class::without_class(&images, &all);
    rows(&images, &all).for_each(drop);
    let [image] = images;
    let _ = window::windows(&image, "*function");
    for site in &image.tables.sites {
        if let Some(versions) = Versions::of(&image, site) {
            versions.bytes.iter().for_each(|bytes| drop(code::decode(bytes, versions.address)));
        }
    }
    Ok(image)
}
