//! A page that needs nothing else: no script, no font, no picture from elsewhere.

use maud::{DOCTYPE, Markup, PreEscaped, html as markup};

use super::{Cell, Sheet, Table};

/// Follows the reader's light or dark, and the paper's white.
const STYLE: &str = "\
:root{color-scheme:light dark;--ink:#1c1f23;--paper:#fdfdfb;--soft:#5b6470;--line:#d8dade;--bar:#bcd3ee;--head:#f0f1ee}
@media(prefers-color-scheme:dark){:root{--ink:#e4e6e8;--paper:#16181b;--soft:#9aa3ad;--line:#353a40;--bar:#2b4a6f;--head:#202429}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:78rem;padding:2rem 1.25rem 4rem;font:16px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--paper)}
h1{font-size:1.5rem;line-height:1.25;margin:0 0 .5rem;overflow-wrap:anywhere}
p{margin:.25rem 0;color:var(--soft);max-width:70ch;overflow-wrap:anywhere}
p.sum{color:var(--ink)}
figure{margin:2rem 0 0;overflow-x:auto}
figcaption{font-weight:600;margin-bottom:.5rem}
table{border-collapse:collapse;width:100%;font-size:.875rem;font-variant-numeric:tabular-nums}
th,td{padding:.3rem .6rem;border-bottom:1px solid var(--line);text-align:left;vertical-align:top}
th{background:var(--head);position:sticky;top:0}
.n{text-align:right;white-space:nowrap}
td.bar{background:linear-gradient(to left,var(--bar) var(--w),transparent var(--w)) no-repeat}
@media print{:root{--ink:#000;--paper:#fff;--soft:#333;--line:#bbb;--bar:#ddd;--head:#fff}body{max-width:none;padding:0;font-size:10pt}figure{overflow:visible}tr{break-inside:avoid}thead{display:table-header-group}th{position:static}td.bar{print-color-adjust:exact;-webkit-print-color-adjust:exact}}
";

/// The sheet as a page.
pub fn html(sheet: &Sheet) -> String {
    markup! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { "Crossmod: " (sheet.title) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                h1 { (sheet.title) }
                @for line in &sheet.notes { p { (line) } }
                @for line in &sheet.summary { p.sum { (line) } }
                @for table in &sheet.tables { (one(table)) }
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
