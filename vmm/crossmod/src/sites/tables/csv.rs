//! One table as CSV (RFC 4180), for spreadsheets and scripts.

use itertools::Itertools;

use super::Document;

/// The document's table for CSV, or else its first table, with a header line.
pub fn csv(document: &Document) -> String {
    let Some(table) = document.csv.as_ref().or(document.tables.first()) else { return String::new() };
    let heads = table.columns.iter().map(|(head, _)| field(head)).join(",");
    let rows = table.rows.iter().map(|row| row.iter().map(|cell| field(&cell.text)).join(","));
    std::iter::once(heads).chain(rows).map(|line| line + "\r\n").collect()
}

fn field(text: &str) -> String {
    if text.contains([',', '"', '\r', '\n']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}
