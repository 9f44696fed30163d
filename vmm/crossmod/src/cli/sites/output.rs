//! Output of `crossmod sites`.

use std::io::IsTerminal;

use crossmod::sites::tables::{self, Document};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use super::arguments::Format;
use crate::cli::{Failure, print};

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
) -> Result<(), Failure> {
    print(&match format {
        Format::Text => tables::text(&document()),
        Format::Csv => tables::csv(&document()),
        Format::Html => tables::html(&document()),
        Format::Json => {
            let versioned = Versioned { crossmod: env!("CARGO_PKG_VERSION"), result: result() };
            serde_json::to_string_pretty(&versioned).map_err(Failure::harness)?
        }
    });
    Ok(())
}

/// A progress bar, hidden unless standard error is a terminal.
pub fn bar(length: u64) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(length);
    if let Ok(style) = ProgressStyle::with_template("{spinner} {pos}/{len} {wide_bar} {msg}") {
        bar.set_style(style);
    }
    bar
}
