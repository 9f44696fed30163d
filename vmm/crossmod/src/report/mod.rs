//! Rendering of results: text, JSON, KTAP and JUnit of reports; text, pages and pictures of everything else.

pub mod bench;
mod chart;
mod formats;
pub mod free;
pub mod matrix;
pub(crate) mod page;
pub mod stress;
pub mod survey;
mod text;

pub use formats::{json, junit, ktap};
pub use text::{LEGEND, MODELLED_SMI, TIER, bounds, detail, line, models, table};
