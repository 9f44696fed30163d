//! Output of `crossmod sites`.

use crossmod::sites::tables::{self, Document};
use indicatif::ProgressBar;
use serde::Serialize;

use super::arguments::Format;
use crate::cli::output::json;
use crate::cli::{Exit, Failure, answer, progress};

/// A result as JSON.
#[derive(Serialize)]
struct Versioned<T> {
    crossmod: &'static str,
    #[serde(flatten)]
    result: T,
}

/// Prints a result: as JSON its data, otherwise its document.
pub fn show<T: Serialize>(
    format: Format,
    document: impl FnOnce() -> Document,
    result: impl FnOnce() -> T,
) -> Result<Exit, Failure> {
    answer(&match format {
        Format::Text => tables::text(&document()),
        Format::Csv => tables::csv(&document()),
        Format::Html => tables::html(&document()),
        Format::Json => json(&Versioned { crossmod: env!("CARGO_PKG_VERSION"), result: result() })?,
    })
}

/// A progress bar, on a terminal.
pub fn bar(length: u64) -> ProgressBar {
    progress::bar("{spinner} {pos}/{len} {wide_bar} {msg}", length)
}
