//! The table as text.

use std::fmt::Write;

use crossmod_model::property::Property;
use itertools::Itertools;

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
    let line = |begin: &str, cell: &dyn Fn(usize) -> String| {
        let cells = (0..).zip(&widths).map(|(model, width)| format!("  {:width$}", cell(model))).join("");
        format!("{}\n", format!("  {begin:first$}{cells}").trim_end())
    };
    let mut out = String::new();
    let mut block = "";
    for row in &matrix.rows {
        if row.scenario != block {
            let _ =
                writeln!(out, "{}{}: {}", if block.is_empty() { "" } else { "\n" }, row.scenario, row.title);
            out.push_str(&line("", &|model| matrix.models[model].clone()));
            block = &row.scenario;
        }
        let change = if row.change.is_empty() { "(as it is)" } else { &row.change };
        if let Some(reason) = &row.refused {
            let _ = writeln!(out, "  {change:first$}  not a scenario: {reason}");
            continue;
        }
        out.push_str(&line(change, &|model| cell(row, model)));
    }
    out
}

/// The abbreviations that occur in the table, and what the verdicts are based on.
pub fn legend(matrix: &Matrix<'_>) -> String {
    let cells = || matrix.rows.iter().flat_map(|row| &row.cells);
    let words = Property::ALL
        .into_iter()
        .filter(|property| property.short() != property.name())
        .filter(|property| cells().any(|cell| cell.finding(*property).is_some()))
        .map(|property| format!("{} = {property}", property.short()))
        .join(", ");
    let hazards = cells().filter(|cell| !cell.findings.is_empty()).count();
    let searched: u64 = cells().map(|cell| cell.counts.transitions).sum();
    let mut out = String::new();
    if !words.is_empty() {
        let _ = writeln!(out, "{words}; ? = not decided within the limits");
    }
    let _ = write!(
        out,
        "{} cells, {hazards} with a hazard, each executed again live; {searched} transitions\n{TIER}\n{}",
        cells().count(),
        matrix.host.line()
    );
    out
}
