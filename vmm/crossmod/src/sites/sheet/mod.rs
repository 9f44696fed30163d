//! Results as tables, and tables as text, CSV and a page of HTML.
//!
//! A result becomes a [`Sheet`] once; each form knows sheets only.

mod build;
mod csv;
mod html;
mod judgement;
mod text;

pub use build::{differences, inventory, list, windows};
pub use csv::csv;
pub use html::html;
pub use judgement::{judgement, without_class};
pub use text::text;

/// A cell.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Cell {
    /// What it says.
    pub text: String,
    /// Its share of a whole, 0 to 1, where that can be shown.
    pub share: Option<f64>,
}

impl<T: ToString> From<T> for Cell {
    fn from(value: T) -> Cell {
        Cell { text: value.to_string(), share: None }
    }
}

impl Cell {
    /// A number as a part of a whole; an empty cell for none.
    pub fn part(count: usize, whole: usize) -> Cell {
        let share = (whole > 0).then(|| count as f64 / whole as f64);
        Cell { text: count.to_string(), share }
    }
}

/// A table.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Table {
    /// What it shows, in a line.
    pub caption: String,
    /// Heads, and whether the column holds numbers.
    pub columns: Vec<(&'static str, bool)>,
    /// Rows, each with a cell for each column.
    pub rows: Vec<Vec<Cell>>,
}

/// A result: a title, lines about it, tables.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sheet {
    /// What it is about.
    pub title: String,
    /// Lines before the tables.
    pub notes: Vec<String>,
    /// Its tables.
    pub tables: Vec<Table>,
    /// What CSV holds, if not the first of them.
    pub csv: Option<Table>,
    /// Lines behind the tables.
    pub summary: Vec<String>,
    /// Schedules: what each is of, and its columns. Only a page shows them.
    pub schedules: Vec<(String, String)>,
}

impl Sheet {
    /// This sheet with the tables of another behind its own.
    pub fn followed_by(mut self, other: Sheet) -> Sheet {
        self.tables.extend(other.tables);
        self
    }
}
