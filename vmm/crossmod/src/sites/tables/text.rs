//! Aligned columns, for terminals and logs.

use std::fmt::Write;

use super::{Document, Table};

/// The document as text.
pub fn text(document: &Document) -> String {
    let mut text = String::new();
    for line in std::iter::once(&document.title).chain(&document.notes).filter(|line| !line.is_empty()) {
        let _ = writeln!(text, "{line}");
    }
    for table in &document.tables {
        if !text.is_empty() {
            text.push('\n');
        }
        one(&mut text, table);
    }
    if !document.summary.is_empty() {
        text.push('\n');
    }
    for line in &document.summary {
        let _ = writeln!(text, "{line}");
    }
    text
}

fn one(text: &mut String, table: &Table) {
    if !table.caption.is_empty() {
        let _ = writeln!(text, "{}", table.caption);
    }
    let mut widths: Vec<usize> = table.columns.iter().map(|(head, _)| head.chars().count()).collect();
    for row in &table.rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.text.chars().count());
        }
    }
    let heads = table.columns.iter().map(|(head, _)| *head).collect();
    let rows = table.rows.iter().map(|row| row.iter().map(|cell| cell.text.as_str()).collect());
    for row in std::iter::once::<Vec<&str>>(heads).chain(rows) {
        let mut line = String::new();
        for ((cell, width), (_, number)) in row.into_iter().zip(&widths).zip(&table.columns) {
            let _ = if *number { write!(line, "{cell:>width$}  ") } else { write!(line, "{cell:width$}  ") };
        }
        let _ = writeln!(text, "{}", line.trim_end());
    }
}
