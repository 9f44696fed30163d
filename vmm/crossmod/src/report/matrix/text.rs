//! The table as text.

use std::fmt::Write;

use crossmod_model::property::Property;

use super::{Matrix, verdict};
use crate::report::TIER;

/// The table, with a block for each scenario.
pub fn text(matrix: &Matrix<'_>) -> String {
    let cell = |row: &super::MatrixRow, model: usize| {
        row.cells.get(model).map_or_else(|| "-".to_owned(), |cell| verdict(cell, " ", Property::short))
    };
    let rows = || matrix.rows.iter().filter(|row| row.refused.is_none());
    let width = |(model, name): (usize, &String)| {
        rows().map(|row| cell(row, model).len()).chain([name.len()]).max().unwrap_or_default()
    };
    let widths: Vec<usize> = matrix.models.iter().enumerate().map(width).collect();
    let first = rows().map(|row| row.change.len()).chain([12]).max().unwrap_or_default();
    let mut out = String::new();
    let mut block = "";
    for row in &matrix.rows {
        if row.scenario != block {
            let _ =
                writeln!(out, "{}{}: {}", if block.is_empty() { "" } else { "\n" }, row.scenario, row.title);
            let mut header = format!("  {:first$}", "");
            for (name, width) in matrix.models.iter().zip(&widths) {
                let _ = write!(header, "  {name:width$}");
            }
            let _ = writeln!(out, "{}", header.trim_end());
            block = &row.scenario;
        }
        let change = if row.change.is_empty() { "(as it is)" } else { &row.change };
        if let Some(reason) = &row.refused {
            let _ = writeln!(out, "  {change:first$}  not a scenario: {reason}");
            continue;
        }
        let mut line = format!("  {change:first$}");
        for (model, width) in widths.iter().enumerate() {
            let _ = write!(line, "  {:width$}", cell(row, model));
        }
        let _ = writeln!(out, "{}", line.trim_end());
    }
    out
}

/// The abbreviations that occur in the table, and what the verdicts are based on.
pub fn legend(matrix: &Matrix<'_>) -> String {
    let cells = || matrix.rows.iter().flat_map(|row| &row.cells);
    let words: Vec<String> = Property::ALL
        .into_iter()
        .filter(|property| property.short() != property.name())
        .filter(|property| cells().any(|cell| cell.finding(*property).is_some()))
        .map(|property| format!("{} = {}", property.short(), property.name()))
        .collect();
    let hazards = cells().filter(|cell| !cell.findings.is_empty()).count();
    let searched: u64 = cells().map(|cell| cell.counts.transitions).sum();
    let mut out = String::new();
    if !words.is_empty() {
        let _ = writeln!(out, "{}; ? = not decided within the limits", words.join(", "));
    }
    let _ = write!(
        out,
        "{} cells, {hazards} with a hazard, each executed again live; {searched} transitions\n{TIER}\n{}",
        cells().count(),
        matrix.host.line()
    );
    out
}
