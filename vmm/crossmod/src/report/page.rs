//! The frame of every page: self-contained, without scripts, fonts or pictures from elsewhere.

use maud::{DOCTYPE, Markup, PreEscaped, html};

/// Colours, type and tables of reports.
pub(super) const STYLE: &str = include_str!("page.css");

/// A page with a title, styles and a body.
pub(crate) fn page(title: &str, styles: &[&str], body: &Markup) -> String {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (title) }
                style { @for style in styles { (PreEscaped(style)) } }
            }
            body { (body) }
        }
    };
    page.into_string()
}

/// A table that scrolls on its own.
pub(super) fn table(heads: &[&str], rows: &Markup) -> Markup {
    html! {
        div.scroll { table {
            thead { tr { @for head in heads { th { (head) } } } }
            tbody { (rows) }
        } }
    }
}
