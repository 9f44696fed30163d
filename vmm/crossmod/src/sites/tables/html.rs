//! A self-contained page: no scripts, and no fonts or pictures from elsewhere.

use maud::{Markup, html as markup};

use super::{Cell, Document, Table};
use crate::report::page::page;

/// The style, for light and dark screens and for print.
const STYLE: &str = include_str!("page.css");

/// The document as HTML.
pub fn html(document: &Document) -> String {
    // The banner of a kernel also names the compiler, which does not belong in the headline.
    let (headline, rest) = match document.title.split_once(" (") {
        Some((headline, rest)) => (headline, format!("({rest}")),
        None => (document.title.as_str(), String::new()),
    };
    // Lines about rows that a table omits follow the tables.
    let (left_out, said): (Vec<_>, Vec<_>) =
        document.summary.iter().partition(|line| line.starts_with("..."));
    let body = markup! {
        h1 { (headline) }
        @if !rest.is_empty() { p.fine { (rest) } }
        @for line in &document.notes { p { (line) } }
        @for line in said { p.sum { (line) } }
        @for table in &document.tables { (one(table)) }
        @for line in left_out { p { (line) } }
        @if !document.schedules.is_empty() {
            h2 { "Schedules" }
            p { "One schedule for each verdict, of its largest class: every transition in order, with a column for each CPU." }
            @for (name, text) in &document.schedules {
                details { summary { (name) } pre tabindex="0" { (text) } }
            }
        }
    };
    page(&format!("Crossmod: {headline}"), &[STYLE], &body)
}

fn one(table: &Table) -> Markup {
    markup! {
        figure {
            @if !table.caption.is_empty() { figcaption { (table.caption) } }
            table {
                thead { tr { @for (head, number) in &table.columns { th.n[*number] scope="col" { (head) } } } }
                tbody {
                    @for row in &table.rows {
                        tr { @for (cell, (_, number)) in row.iter().zip(&table.columns) { (self::cell(cell, *number)) } }
                    }
                }
            }
        }
    }
}

fn cell(cell: &Cell, number: bool) -> Markup {
    let share = cell.share.map(|share| format!("{:.1}", share * 100.0));
    let width = share.as_ref().map(|share| format!("--w:{share}%"));
    let title = share.as_ref().map(|share| format!("{share} %"));
    markup! { td.n[number].bar[share.is_some()] style=[width] title=[title] { (cell.text) } }
}
