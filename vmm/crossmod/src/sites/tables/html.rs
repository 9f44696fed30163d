//! A self-contained page: no scripts, and no fonts or pictures from elsewhere.

use maud::{DOCTYPE, Markup, PreEscaped, html as markup};

use super::{Cell, Document, Table};

/// The style, for light and dark screens and for print.
const STYLE: &str = "\
:root{color-scheme:light dark;--ink:#1c1f23;--paper:#fdfdfb;--soft:#5b6470;--line:#d8dade;--bar:#bcd3ee;--head:#f0f1ee}
@media(prefers-color-scheme:dark){:root{--ink:#e4e6e8;--paper:#16181b;--soft:#9aa3ad;--line:#353a40;--bar:#2b4a6f;--head:#202429}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:78rem;padding:2rem 1.25rem 4rem;font:16px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--paper)}
h1{font-size:1.5rem;line-height:1.25;margin:0 0 .5rem;overflow-wrap:anywhere}
p{margin:.25rem 0;color:var(--soft);max-width:70ch;overflow-wrap:anywhere}
p.sum{color:var(--ink)}
p.fine{font-size:.8125rem}
figure{margin:2rem 0 0;overflow-x:auto}
figcaption{font-weight:600;margin-bottom:.5rem}
table{border-collapse:collapse;width:100%;font-size:.875rem;font-variant-numeric:tabular-nums}
th,td{padding:.3rem .6rem;border-bottom:1px solid var(--line);text-align:left;vertical-align:top}
h2{font-size:1rem;margin:2rem 0 .25rem}
details{border-bottom:1px solid var(--line);padding:.4rem 0}
summary{cursor:pointer;overflow-wrap:anywhere}
pre{margin:.5rem 0;padding:.75rem;overflow-x:auto;background:var(--head);font:.8125rem/1.45 ui-monospace,monospace}
th{background:var(--head);position:sticky;top:0}
td:not(:last-child){white-space:nowrap}
td:last-child{min-width:9rem}
.n{text-align:right;white-space:nowrap}
td.bar{background:linear-gradient(to left,var(--bar) var(--w),transparent var(--w)) no-repeat}
@media print{:root{--ink:#000;--paper:#fff;--soft:#333;--line:#bbb;--bar:#ddd;--head:#fff}body{max-width:none;padding:0;font-size:10pt}figure{overflow:visible}tr{break-inside:avoid}thead{display:table-header-group}th{position:static}td.bar{print-color-adjust:exact;-webkit-print-color-adjust:exact}}
";

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
    markup! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { "Crossmod: " (headline) }
                style { (PreEscaped(STYLE)) }
            }
            body {
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
            }
        }
    }
    .into_string()
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
    match cell.share {
        Some(share) => markup! {
            td.n.bar style=(format!("--w:{:.1}%", share * 100.0)) title=(format!("{:.1} %", share * 100.0)) { (cell.text) }
        },
        None => markup! { td.n[number] { (cell.text) } },
    }
}
