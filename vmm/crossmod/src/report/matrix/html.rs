//! The table as one self-contained page: no script, no network, readable on a phone and on paper.

use crossmod_model::property::Property;
use itertools::Itertools;
use maud::{Markup, html};

use super::plot::plot;
use super::{Matrix, MatrixRow, verdict};
use crate::report::TIER;
use crate::report::page::{STYLE, page};
use crate::results::{Report, Status};

/// The page.
pub fn html(matrix: &Matrix<'_>) -> String {
    let scenarios = matrix.rows.iter().map(|row| &row.scenario).dedup();
    let costs = matrix.all_costs();
    let body = html! {
        h1 { "Protocols and their mutants against fetch models" }
        p.soft { (TIER) ". Each cell is an exhaustive search within the bounds named above its table; each hazard was executed again live before it was reported." }
        p.soft { (matrix.host.line()) "; Crossmod " (matrix.crossmod) }
        @for scenario in scenarios {
            (block(matrix, scenario))
        }
        @if let Some(plot) = plot(&costs) {
            h2 { "Cost of searching" }
            p.soft { (costs.len()) " searches. Along a dashed line the cost is linear." }
            (plot)
        }
    };
    page("Crossmod: protocols and mutants against fetch models", &[STYLE], &body)
}

fn block(matrix: &Matrix<'_>, scenario: &str) -> Markup {
    let rows = || matrix.rows.iter().enumerate().filter(|(_, row)| row.scenario == scenario);
    let first = rows().next().map(|(_, row)| row);
    let bounds = first.and_then(|row| row.cells.first()).map(crate::report::bounds);
    html! {
        h2 { (scenario) }
        p { (first.map_or("", |row| &row.title)) }
        @if let Some(bounds) = bounds { p.soft { (bounds) } }
        div.scroll {
            table {
                thead { tr { th { "change" } @for model in &matrix.models { th { (model) } } } }
                tbody {
                    @for (number, row) in rows() {
                        tr.original[row.change.is_empty()] {
                            th scope="row" { @if row.change.is_empty() { "as it is" } @else { (row.change) } }
                            (cells(matrix, number, row))
                        }
                    }
                }
            }
        }
        @let hazards = rows().flat_map(|(_, row)| &row.cells).filter(|cell| !cell.findings.is_empty()).count();
        @if hazards > 0 {
            details {
                summary { "The schedules behind the " (hazards) " hazards" }
                @for (number, row) in rows() {
                    @for cell in row.cells.iter().filter(|cell| !cell.findings.is_empty()) {
                        (evidence(number, row, cell))
                    }
                }
            }
        }
    }
}

fn anchor(number: usize, cell: &Report) -> String {
    format!("row{number}-{}", cell.fetch)
}

fn cells(matrix: &Matrix<'_>, number: usize, row: &MatrixRow) -> Markup {
    if let Some(reason) = &row.refused {
        return html! { td.none colspan=(matrix.models.len()) { "not a scenario: " (reason) } };
    }
    html! {
        @for model in 0..matrix.models.len() {
            @match row.cells.get(model) {
                None => td.none { "interrupted" },
                Some(cell) => td class=(class(cell)) {
                    @if cell.findings.is_empty() { (verdict(cell, ", ", Property::name)) }
                    @else { a href=(format!("#{}", anchor(number, cell))) { (verdict(cell, ", ", Property::name)) } }
                },
            }
        }
    }
}

/// `unserialised` alone is a missing sync, a risk on real CPUs; every other violation was executed.
fn class(cell: &Report) -> &'static str {
    match cell.status {
        Status::Safe => "safe",
        Status::Hazard if cell.violated().eq([Property::Unserialised]) => "race",
        Status::Hazard => "hazard",
        Status::Vacuous | Status::NotDecided | Status::Skipped | Status::HarnessError => "none",
    }
}

fn evidence(number: usize, row: &MatrixRow, cell: &Report) -> Markup {
    html! {
        details id=(anchor(number, cell)) {
            summary {
                @if row.change.is_empty() { "as it is" } @else { (row.change) }
                ", " (cell.fetch) ": " (verdict(cell, ", ", Property::name))
            }
            @for finding in &cell.findings {
                p { b { (finding.violation.property) } ": " (finding.violation.detail) }
                pre { (finding.rendering) }
            }
        }
    }
}
