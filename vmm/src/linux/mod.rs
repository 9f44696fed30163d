//! Linux images: where they are patched.

mod error;
mod image;
pub mod limits;
mod memory;
mod read;
mod site;
mod symbols;
mod table;

pub use error::ImageError;
pub use image::{Image, load};
pub use memory::{Memory, Region};
pub use read::payload::Compression;
pub use read::Binary;
pub use site::{BOUNDARIES, Exception, Kind, Site, State};
pub use symbols::{Symbol, Symbols};
pub use table::Tables;
