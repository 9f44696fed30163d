//! Renders results as tables, in text, CSV and HTML.
//!
//! Each kind of result becomes a [`Document`]; each format renders documents.

mod build;
mod csv;
mod html;
mod judgement;
mod text;

use std::fmt::Display;

pub use build::{differences, inventory, list, windows};
pub use csv::csv;
pub use html::html;
pub use judgement::{judgement, judgements, without_class};
pub use text::text;

/// A cell.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Cell {
    /// Its text.
    pub text: String,
    /// Its share of a whole, from 0 to 1, if the cell can show it.
    pub share: Option<f64>,
}

impl<T: ToString> From<T> for Cell {
    fn from(value: T) -> Cell {
        Cell { text: value.to_string(), share: None }
    }
}

impl Cell {
    /// A number as a part of a whole.
    pub fn part(count: usize, whole: usize) -> Cell {
        let share = (whole > 0).then(|| count as f64 / whole as f64);
        Cell { text: count.to_string(), share }
    }
}

/// Cells with these texts.
fn row(texts: &[&dyn Display]) -> Vec<Cell> {
    texts.iter().map(Cell::from).collect()
}

/// A table.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Table {
    /// What it shows, in one line.
    pub caption: String,
    /// Heads of the columns, and whether each contains numbers.
    pub columns: Vec<(&'static str, bool)>,
    /// Rows, each with one cell per column.
    pub rows: Vec<Vec<Cell>>,
}

impl Table {
    /// A table; `columns` are the heads, separated by commas, with `#` in front of those of numbers.
    fn new(caption: &str, columns: &'static str, rows: impl IntoIterator<Item = Vec<Cell>>) -> Table {
        let columns = columns.split(", ").map(|head| (head.trim_start_matches('#'), head.starts_with('#')));
        Table { caption: caption.into(), columns: columns.collect(), rows: rows.into_iter().collect() }
    }
}

/// A result: a title, lines about it, tables.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Document {
    /// Its title.
    pub title: String,
    /// Lines before the tables.
    pub notes: Vec<String>,
    /// Its tables.
    pub tables: Vec<Table>,
    /// The table for CSV, if not the first one.
    pub csv: Option<Table>,
    /// Lines after the tables.
    pub summary: Vec<String>,
    /// Schedules, each with a heading; only HTML shows them.
    pub schedules: Vec<(String, String)>,
}
