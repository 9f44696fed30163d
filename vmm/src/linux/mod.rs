//! Linux images: where they are patched.

mod class;
mod diff;
mod error;
pub mod export;
mod flow;
mod image;
mod inventory;
pub mod judge;
pub mod limits;
mod memory;
mod read;
pub mod sheet;
mod site;
mod symbols;
mod table;
mod window;

pub use class::{Class, Member, Traits, classes};
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
pub use window::{Hazard, Window, windows};
