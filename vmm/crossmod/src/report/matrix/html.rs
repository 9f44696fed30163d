//! The table as one self-contained page: no script, no network, readable on a phone and on paper.

use crossmod_model::property::Property;
use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::plot::plot;
use super::{Matrix, MatrixRow, verdict};
use crate::report::TIER;
use crate::results::{Report, Status};

/// Colours, type and tables of every page.
pub(in crate::report) const STYLE: &str = "
:root { color-scheme: light dark; --ink: #1c2733; --paper: #fff; --soft: #5c6b7a; --line: #d5dce3; --safe: #d9f0dc;
  --hazard: #fbd9d3; --race: #fdeccb; --none: #eceff2; --mark: #2467b0; }
@media (prefers-color-scheme: dark) { :root { --ink: #e3e8ee; --paper: #14191f; --soft: #93a1b0; --line: #36414d;
  --safe: #1d4027; --hazard: #5a2620; --race: #55431a; --none: #28303a; --mark: #78b4f5; } }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 75rem;
  margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.5rem; margin: 0; } h2 { font-size: 1.15rem; margin: 2.5rem 0 0.2rem; } p { margin: 0.3rem 0; }
.soft { color: var(--soft); } .scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: 0.85rem; margin-top: 0.5rem; }
th, td { border: 1px solid var(--line); padding: 0.25rem 0.5rem; text-align: left; vertical-align: top; }
thead th { font-weight: 600; } tbody th { font-weight: 400; white-space: nowrap; }
tr.original th { font-weight: 600; }
tbody th, thead th:first-child { position: sticky; left: 0; background: var(--paper); }
td.safe { background: var(--safe); } td.hazard { background: var(--hazard); } td.race { background: var(--race); }
td.none { background: var(--none); color: var(--soft); }
td a { color: inherit; }
pre { font: 0.75rem/1.4 ui-monospace, monospace; overflow-x: auto; border-left: 3px solid var(--line); padding-left: 0.8rem; }
details { margin: 0.3rem 0; } details details { margin-left: 1rem; } summary { cursor: pointer; }
svg { width: 100%; max-width: 40rem; height: auto; } svg text { fill: var(--soft); font-size: 12px; }
svg .grid { stroke: var(--line); } svg .rate { stroke: var(--soft); stroke-dasharray: 4 4; fill: var(--soft); }
svg text.rate { stroke: none; } svg circle { fill: var(--mark); fill-opacity: 0.6; }
@media print { body { max-width: none; font-size: 11px; } details:not([open]) { display: none; } h2 { break-after: avoid; } tr { break-inside: avoid; } }
";

/// The page.
pub fn html(matrix: &Matrix<'_>) -> String {
    let mut scenarios: Vec<&str> = matrix.rows.iter().map(|row| row.scenario.as_str()).collect();
    scenarios.dedup();
    let costs = matrix.all_costs();
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { "Crossmod: protocols and mutants against fetch models" }
                style { (PreEscaped(STYLE)) }
            }
            body {
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
            }
        }
    };
    page.into_string()
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
        Status::NotDecided | Status::Skipped | Status::HarnessError => "none",
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
