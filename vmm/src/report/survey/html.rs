//! A survey as one self-contained page: heat maps of where this CPU tears and stays stale, rules, models.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::{host, per_million};
use crate::freerun::outcome::Counts;
use crate::freerun::{Row, Side, Standing, Survey};
use crate::machine::free::Length;
use crate::report::matrix::STYLE;

const HEAT: &str = "
:root { --heat: 196, 60, 30; } @media (prefers-color-scheme: dark) { :root { --heat: 240, 110, 70; } }
table.map td { text-align: center; min-width: 3.2rem; font-variant-numeric: tabular-nums; }
table.map td.zero { background: var(--safe); } table.map td.promised { outline: 2px solid var(--mark); outline-offset: -3px; }
table.map td.hot { background: rgba(var(--heat), var(--share)); }
.finding { border-left: 4px solid rgb(var(--heat)); padding-left: 0.8rem; }
@media print { table.map td { print-color-adjust: exact; -webkit-print-color-adjust: exact; } }
";

/// The page.
pub fn html(survey: &Survey) -> String {
    let torn = |counts: &Counts| counts.torn;
    let stale = |counts: &Counts| counts.stale;
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { "Crossmod: where this CPU tears" }
                style { (PreEscaped(STYLE)) (PreEscaped(HEAT)) }
            }
            body {
                h1 { "Where this CPU tears instructions, and where it keeps old ones" }
                p.soft { (host(survey)) }
                p.soft { (survey.tier) ". " (survey.rows.len()) " places in " (format!("{:.0}", survey.seconds)) " s, seed " (survey.seed) @if survey.interrupted { "; " b { "interrupted" } } "; Crossmod " (survey.crossmod) }
                @for headline in survey.headlines() { p.finding { b { (headline) } } }
                @if !survey.findings.is_empty() {
                    details {
                        summary { (survey.findings.len()) " findings as they came" }
                        @for finding in &survey.findings { p.soft { (finding) } }
                    }
                }
                p { "Passes in a million; “<” is a 95 % bound where none was seen. Rows: the store. Columns: offset of its first byte in the line (a tear shows only between bytes of the immediate); p1 to p3: that many bytes before a page boundary. Blue frame: AMD promises that the store is seen whole. An empty place was not tried." }
                (map(survey, "Torn, two vCPUs", Side::Vcpu, torn))
                (map(survey, "Torn, host thread as writer", Side::Host, torn))
                (map(survey, "Torn, two plain threads without KVM", Side::Plain, torn))
                (map(survey, "Stale, two vCPUs, nothing serialises", Side::Vcpu, stale))
                (map(survey, "Stale, executor serialises before each pass", Side::Serialised, stale))
                (classes(survey))
                (rules(survey))
                (models(survey))
            }
        }
    };
    page.into_string()
}

/// Name of a place's column.
fn column(row: &Row) -> (bool, usize) {
    match row.cell.before_page() {
        Some(first) => (true, first),
        None => (false, row.offset),
    }
}

fn map(survey: &Survey, title: &str, side: Side, what: fn(&Counts) -> u64) -> Markup {
    let mut columns: Vec<(bool, usize)> = survey.rows.iter().map(column).collect();
    columns.sort_unstable();
    columns.dedup();
    let row =
        |length: Length, place| survey.rows.iter().find(|row| row.length == length && column(row) == place);
    html! {
        h2 { (title) }
        div.scroll { table.map {
            thead { tr { th { "store" } @for (page, offset) in &columns { th { @if *page { "p" } (offset) } } } }
            tbody { @for length in Length::ALL { tr {
                th scope="row" { (length.name()) }
                @for &place in &columns {
                    @match row(length, place).and_then(|row| Some((row, row.side(side)?))) {
                        None => td.none {},
                        Some((row, seen)) => (cell(row, what(&seen.counts), seen.counts.passes)),
                    }
                }
            } } }
        } }
    }
}

fn cell(row: &Row, count: u64, passes: u64) -> Markup {
    // From one in a million, pale, to one in a hundred, full.
    let share = ((1e6 * count as f64 / passes.max(1) as f64).log10() / 4.0).clamp(0.0, 1.0) * 0.7 + 0.15;
    let heat = if count > 0 { "hot" } else { "zero" };
    let promised = if row.amd_promises_whole { " promised" } else { "" };
    html! {
        td class=(format!("{heat}{promised}")) style=(format!("--share:{share:.2}"))
            title=(format!("{count} of {passes}; crosses {}", row.crosses.name())) { (per_million(count, passes)) }
    }
}

fn classes(survey: &Survey) -> Markup {
    html! {
        h2 { "By what a single store crosses" }
        p.soft { "Torn passes in a million, and the rate of two vCPUs over that of two plain threads. " (crate::freerun::FACTOR) }
        div.scroll { table {
            thead { tr { th { "crosses" } th { "places" } @for side in Side::ALL { th { (side.name()) } } th { "vcpu / plain" } } }
            tbody { @for class in survey.classes() { tr {
                th scope="row" { (class.crosses.name()) } td { (class.places) }
                @for (_, counts) in &class.counts { td { (per_million(counts.torn, counts.passes)) } }
                td { @match class.factor { Some(factor) => (format!("{factor:.2}")), None => "–" } }
            } } }
        } }
    }
}

fn rules(survey: &Survey) -> Markup {
    let class = |standing| match standing {
        Standing::Confirmed | Standing::NotSeen => "safe",
        Standing::Broken => "hazard",
        Standing::Seen => "race",
    };
    html! {
        h2 { "Rules and what was seen" }
        div.scroll { table {
            thead { tr { th { "whose" } th { "rule" } th { "against" } th { "of" } th { "standing" } } }
            tbody { @for rule in survey.rules() { tr {
                th scope="row" { (rule.whose) } td { (rule.says) } td { (rule.against) } td { (rule.trials) }
                td class=(class(rule.standing)) { (rule.standing.words()) @if let Some(bound) = rule.bound() { "; below " (format!("{bound:.1e}")) } }
            } } }
        } }
    }
}

fn models(survey: &Survey) -> Markup {
    html! {
        h2 { "Observed is allowed" }
        p.soft { "Different outcomes, neither old nor new, that each fetch model of the explorer has and has not for the same site." }
        div.scroll { table {
            thead { tr { th { "model" } th { "has" } th { "has not" } th { "passes with these" } th { "not asked" } } }
            tbody { @for model in &survey.models { tr {
                th scope="row" { (model.model) } td { (model.allowed) }
                td class=(if model.forbidden > 0 { "race" } else { "safe" }) { (model.forbidden) }
                td { (model.forbidden_passes) } td { (model.unknown) }
            } } }
        } }
    }
}
