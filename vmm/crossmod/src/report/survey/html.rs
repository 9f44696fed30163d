//! A page's section about a survey: heat maps of torn and stale passes, rules, models.

use itertools::Itertools;
use maud::{Markup, html};

use super::{FACTOR, headlines, host, per_million};
use crate::freerun::survey::{Crosses, PairRow, PairSeen, PassCounts, Side, Standing, Survey, SurveyRow};
use crate::report::page::table;
use crossmod_kvm::free::survey::Length;

/// The section.
pub fn section(survey: &Survey) -> Markup {
    let torn = |counts: &PassCounts| counts.torn;
    let stale = |counts: &PassCounts| counts.stale;
    html! {
        h2 { "Where this CPU tears instructions, and where it keeps old ones" }
        p.soft { (host(survey)) }
        p.soft { (survey.rows.len()) " places and " (survey.pairs.len()) " pairs at places in " (format!("{:.0}", survey.seconds)) " s, seed " (survey.seed) @if survey.interrupted { "; " b { "interrupted" } } "; Crossmod " (survey.crossmod) }
        @for headline in headlines(survey) { p.finding { b { (headline) } } }
        @if !survey.findings.is_empty() {
            details {
                summary { (survey.findings.len()) " findings in the order of their occurrence" }
                @for finding in &survey.findings { p.soft { (finding) } }
            }
        }
        p { "Passes in a million; “<” marks a 95 % upper bound if there were none. Rows: the store. Columns: offset of its first byte in the line (only tears between bytes of the immediate are visible); p1 to p3: that many bytes before a page boundary. Blue frame: AMD promises that the store is seen whole. Empty places were not tried." }
        (map(survey, "Torn, two vCPUs", Side::Vcpu, torn))
        (map(survey, "Torn, host thread as writer", Side::Host, torn))
        (map(survey, "Torn, two plain threads without KVM", Side::Plain, torn))
        (map(survey, "Torn, executor executes other instructions just before the site", Side::Neighbours, torn))
        (map(survey, "Torn, executor flushes the site out of every cache before each pass", Side::Cold, torn))
        (map(survey, "Torn, writer on the executor’s CPU", Side::SameCpu, torn))
        (map(survey, "Stale, two vCPUs, nothing serialises", Side::Vcpu, stale))
        (map(survey, "Stale, executor serialises before each pass", Side::Serialised, stale))
        (order(survey))
        (pairs(survey))
        (classes(survey))
        (rules(survey))
        (models(survey))
    }
}

/// Torn passes of plain stores, as a picture.
pub fn map_svg(survey: &Survey) -> String {
    const SIZE: [f64; 2] = [31.0, 26.0];
    let columns = columns(survey);
    let surveyed = |length: &Length| survey.rows.iter().any(|row| row.cell.length == *length);
    let lengths: Vec<Length> = whole().filter(surveyed).collect();
    let (left, top) = (100.0, 58.0);
    let width = left + SIZE[0] * columns.len() as f64 + 16.0;
    let bottom = top + SIZE[1] * lengths.len() as f64;
    let body = html! {
        text.strong x="16" y="20" { "Torn passes in a million, one vCPU storing to what another executes" }
        text x="16" y="38" { "store, bytes; by offset of its first byte in the line, and bytes before a page boundary (p)" }
        @for (x, (page, offset)) in columns.iter().enumerate() {
            text x=(left + SIZE[0] * (x as f64 + 0.5)) y=(top - 5.0) text-anchor="middle" { @if *page { "p" } (offset) }
        }
        @for (y, &length) in lengths.iter().enumerate() {
            @let at = top + SIZE[1] * y as f64;
            text.strong x=(left - 8.0) y=(at + 17.0) text-anchor="end" { (length.name()) }
            @for (x, &place) in columns.iter().enumerate() {
                @if let Some((row, seen)) = find(survey, length, place).and_then(|row| Some((row, row.side(Side::Vcpu)?))) {
                    @let x = left + SIZE[0] * x as f64;
                    @let (torn, passes) = (seen.counts.torn, seen.counts.passes);
                    @let fill = if torn > 0 { format!("rgba(var(--heat),{:.2})", share(torn, passes)) } else { "var(--safe)".into() };
                    rect x=(x + 1.0) y=(at + 1.0) width=(SIZE[0] - 2.0) height=(SIZE[1] - 2.0) rx="3" style=(format!("fill:{fill}")) {}
                    @if row.cell.amd_promises_whole() { rect.frame x=(x + 2.5) y=(at + 2.5) width=(SIZE[0] - 5.0) height=(SIZE[1] - 5.0) rx="2" {} }
                    @if torn > 0 { text.strong x=(x + SIZE[0] / 2.0) y=(at + 17.0) text-anchor="middle" style="font-size:10px" { (brief(torn, passes)) } }
                }
            }
        }
        text x="16" y=(bottom + 20.0) { "green: none seen; framed: AMD promises that the store is seen whole" }
        text x="16" y=(bottom + 36.0) { (survey.host.line()) }
    };
    crate::report::chart::alone(width, bottom + 48.0, &body)
}

/// Passes in a million, in four characters.
fn brief(count: u64, passes: u64) -> String {
    let rate = 1e6 * count as f64 / passes.max(1) as f64;
    match rate {
        10_000.0.. => format!("{:.0}k", rate / 1e3),
        1_000.0.. => format!("{:.1}k", rate / 1e3),
        1.0.. => format!("{rate:.0}"),
        _ => "<1".into(),
    }
}

/// The opacity of a rate: from one in a million, pale, to one in a hundred, full.
fn share(count: u64, passes: u64) -> f64 {
    ((1e6 * count as f64 / passes.max(1) as f64).log10() / 4.0).clamp(0.0, 1.0) * 0.7 + 0.15
}

/// The lengths of stores that are made at once.
fn whole() -> impl Iterator<Item = Length> {
    Length::ALL.into_iter().filter(|length| !length.halves())
}

fn columns(survey: &Survey) -> Vec<(bool, usize)> {
    let rows = survey.rows.iter().filter(|row| !row.cell.length.halves());
    rows.map(column).sorted_unstable().dedup().collect()
}

fn find(survey: &Survey, length: Length, place: (bool, usize)) -> Option<&SurveyRow> {
    survey.rows.iter().find(|row| row.cell.length == length && column(row) == place)
}

/// The column of a place.
fn column(row: &SurveyRow) -> (bool, usize) {
    match row.cell.before_page() {
        Some(first) => (true, first),
        None => (false, row.cell.offset()),
    }
}

fn map(survey: &Survey, title: &str, side: Side, what: fn(&PassCounts) -> u64) -> Markup {
    let columns = columns(survey);
    html! {
        h3 { (title) }
        div.scroll { table.map {
            thead { tr { th { "store" } @for (page, offset) in &columns { th { @if *page { "p" } (offset) } } } }
            tbody { @for length in whole() { tr {
                th scope="row" { (length.name()) }
                @for &place in &columns {
                    @match find(survey, length, place).and_then(|row| Some((row, row.side(side)?))) {
                        None => td.none {},
                        Some((row, seen)) => (cell(row, what(&seen.counts), seen.counts.passes)),
                    }
                }
            } } }
        } }
    }
}

fn cell(row: &SurveyRow, count: u64, passes: u64) -> Markup {
    let title = format!("{count} of {passes}; crosses {}", row.cell.crosses().name());
    let text = per_million(count, passes);
    heat(count, passes, row.cell.amd_promises_whole(), &title, &text)
}

/// A cell with the colour of a rate.
fn heat(count: u64, passes: u64, promised: bool, title: &str, text: &str) -> Markup {
    let style = format!("--share:{:.2}", share(count, passes));
    let heat = if count > 0 { "hot" } else { "zero" };
    html! { td class={ (heat) @if promised { " promised" } } style=(style) title=(title) { (text) } }
}

/// Which block of an instruction is fetched first.
fn order(survey: &Survey) -> Markup {
    let rows = || survey.rows.iter().filter(|row| row.cell.length.halves());
    let sides = Side::ALL.map(Side::name);
    html! {
        @if rows().next().is_some() {
            h3 { "In which order the blocks of one instruction are fetched" }
            p.soft { "Passes in a million whose first half is newer than their second. The writer stores the second half first, so that a CPU that fetches the blocks in one order never executes one." }
            (table(&[&["stores", "crosses"], &sides[..]].concat(), &html! { @for row in rows() { tr {
                th scope="row" { (row.cell.length.name()) } td { (row.cell.crosses().name()) }
                @for side in Side::ALL { @match row.side(side) {
                    None => td.none { "–" },
                    Some(seen) => (cell(row, seen.counts.first_newer, seen.counts.passes)),
                } }
            } } }))
        }
    }
}

fn pairs(survey: &Survey) -> Markup {
    let kinds: Vec<Crosses> = survey.pairs.iter().map(|row| row.crosses).sorted_unstable().dedup().collect();
    let names: Vec<&PairRow> = survey.pairs.iter().dedup_by(|one, next| one.pair == next.pair).collect();
    let head = |kind: Crosses| if kind == Crosses::Nothing { "nothing" } else { kind.name() };
    html! {
        @if !survey.pairs.is_empty() {
            h3 { "Two instructions in turn" }
            p.soft { "Torn passes in a million, by what the bytes that differ cross. Each mix of the bytes is a harmless instruction of its own, and was tried alone before. Hover over a place for the mixes that were executed. Since old and new take turns, a stale instruction looks like a later one: pairs claim torn only." }
            @for (side, title) in [(Side::Vcpu, "two vCPUs"), (Side::Host, "host thread as writer"), (Side::Plain, "two plain threads without KVM"), (Side::Cold, "flushed out of every cache before each pass")] {
                h4 { "Torn, " (title) }
                div.scroll { table.map {
                    thead { tr { th { "pair" } @for &kind in &kinds { th { (head(kind)) } } } }
                    tbody { @for name in &names { tr {
                        th scope="row" { (name.pair) }
                        @for &kind in &kinds { (pair(survey, &name.pair, kind, side)) }
                    } } }
                } }
            }
            details {
                summary { "The bytes of the pairs" }
                (table(&["pair", "old", "new"], &html! {
                    @for name in &names { tr { th scope="row" { (name.pair) } td { code { (name.old) } } td { code { (name.new) } } } }
                }))
            }
        }
    }
}

/// A pair at the places that cross the same boundary.
fn pair(survey: &Survey, name: &str, kind: Crosses, side: Side) -> Markup {
    let rows = || survey.pairs.iter().filter(|row| row.pair == name && row.crosses == kind);
    let seen: Vec<_> = rows().filter_map(|row| row.side(side)).collect();
    if seen.is_empty() {
        return html! { td.none { "–" } };
    }
    let sum = |what: fn(&PairSeen) -> u64| seen.iter().map(|seen| what(seen)).sum::<u64>();
    let (torn, passes) = (sum(|seen| seen.torn), sum(|seen| seen.passes));
    let promised = rows().all(|row| row.amd_promises_whole);
    let mut mixes = seen.iter().flat_map(|seen| &seen.mixes).map(|(mix, count)| format!("{mix}: {count}"));
    let title = format!("{torn} of {passes}; {}", mixes.join(", "));
    let several = rows().any(|row| row.several_bytes);
    let text = if several { per_million(torn, passes) } else { "one byte".into() };
    heat(torn, passes, promised, &title, &text)
}

fn classes(survey: &Survey) -> Markup {
    let sides = Side::ALL.map(Side::name);
    let heads = [&["crosses", "places"], &sides[..], &["host / plain", "vcpu / plain"]].concat();
    html! {
        h3 { "By what a single store crosses" }
        p.soft { "Torn passes in a million, and the rates of a vCPU with a host thread and with another vCPU divided by that of two plain threads. " (FACTOR) }
        (table(&heads, &html! { @for class in survey.classes() { tr {
            th scope="row" { (class.crosses.name()) } td { (class.places) }
            @for (_, counts) in &class.counts { td { (per_million(counts.torn, counts.passes)) } }
            @for factor in class.factors { td { (super::factor(factor)) } }
        } } }))
    }
}

fn rules(survey: &Survey) -> Markup {
    let class = |standing| match standing {
        Standing::Confirmed | Standing::NotSeen => "safe",
        Standing::Broken => "hazard",
        Standing::Seen => "race",
    };
    html! {
        h3 { "Rules compared with the counts" }
        (table(&["promised by", "rule", "passes against it", "of", "state"], &html! { @for rule in survey.rules() { tr {
            th scope="row" { (rule.whose) } td.wide { (rule.says) } td { (rule.against) } td { (rule.trials) }
            td.wide class=(class(rule.standing)) { (rule.standing.words()) @if let Some(bound) = rule.bound() { "; below " (format!("{bound:.1e}")) } }
        } } }))
    }
}

fn models(survey: &Survey) -> Markup {
    html! {
        h3 { "Observed is allowed" }
        p.soft { "Different outcomes, neither old nor new, that each fetch model of the explorer allows and forbids for the same site." }
        (table(&["model", "allowed", "forbidden", "forbidden passes", "not compared"], &html! { @for model in &survey.models { tr {
            th scope="row" { (model.model) } td { (model.allowed) }
            td class=(if model.forbidden > 0 { "race" } else { "safe" }) { (model.forbidden) }
            td { (model.forbidden_passes) } td { (model.unknown) }
        } } }))
    }
}
