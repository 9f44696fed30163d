//! For spreadsheets and scripts: RFC 4180, one table.

use super::Sheet;

/// The table that the sheet has for it, or else its first; heads first.
pub fn csv(sheet: &Sheet) -> String {
    let Some(table) = sheet.csv.as_ref().or(sheet.tables.first()) else { return String::new() };
    let heads = table.columns.iter().map(|(head, _)| field(head)).collect::<Vec<_>>().join(",");
    let rows =
        table.rows.iter().map(|row| row.iter().map(|cell| field(&cell.text)).collect::<Vec<_>>().join(","));
    std::iter::once(heads).chain(rows).map(|line| line + "\r\n").collect()
}

fn field(text: &str) -> String {
    if text.contains([',', '"', '\r', '\n']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}
