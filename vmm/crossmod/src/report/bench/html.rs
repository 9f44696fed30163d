//! A page's section about the cost of protocols.

use itertools::Itertools;
use maud::{Markup, html};

use crate::freerun::bench::{Bench, Case, CaseResult, Protocol, ProtocolResult, Quantiles};
use crate::report::chart::{self, Scale, Series};

/// Colour of a protocol: its place in [`Protocol::ALL`].
fn colour(protocol: Protocol) -> usize {
    Protocol::ALL.iter().position(|&other| other == protocol).unwrap_or_default()
}

/// The section.
pub fn section(bench: &Bench) -> Markup {
    let Some(plain) = bench.cases.first() else { return html! {} };
    html! {
        h2 { "What protocols cost" }
        p.soft { "All protocols take turns in one run, in random order, " (plain.rounds) " rounds; " (plain.case) ". " b { "Patch" } " is the patcher’s time from its first store to its last wait, " b { "stall" } " the longest time between two passes of an executor around it. A round of messages lasts from its first message until every executor has acknowledged it, or is held. A ratio compares a protocol with “" (Protocol::BASE.name()) "” in the same round." }
        @if plain.overcommitted { p.finding { "Overcommitted: more executors than CPUs besides the patcher’s. Times depend on the host’s scheduler, so there are no ratios." } }
        @else { div.figure { (ratios(plain)) } }
        div.scroll { (table(plain)) }
        h2 { "Latency" }
        p.soft { "Percentiles, rarer ones to the right; both axes are logarithmic. Steps near multiples of a few milliseconds come from the host’s scheduler, which gave a CPU to another thread." }
        (legend())
        div.pair {
            figure { figcaption { "Patcher" } (curves(plain, |line| &line.patch)) }
            figure { figcaption { "Executor’s stall" } (curves(plain, |line| &line.stall)) }
        }
        @if bench.cases.len() > 1 { (growth(bench)) }
    }
}

/// Names and colours, for screens that are too narrow for names in the pictures.
fn legend() -> Markup {
    html! {
        div.legend aria-hidden="true" { @for &protocol in Protocol::ALL {
            span { i style=(format!("background:var(--s{})", colour(protocol))) {} (protocol.name()) }
        } }
    }
}

/// Ratios of protocols, as a picture; none without ratios.
pub fn comparison_svg(bench: &Bench) -> Option<String> {
    let plain = bench.cases.first().filter(|case| !case.overcommitted && case.rounds > 0)?;
    let (body, height) = drawing(plain, 44.0);
    let note = format!("{}; {} rounds; {}", plain.case, plain.rounds, bench.host.line());
    let body = html! {
        text.strong x="16" y="20" { "Cost relative to int3 with three rounds: patcher’s time (full), executor’s stall (pale)" }
        (body)
        text x="16" y=(height + 18.0) { (note) }
    };
    Some(chart::alone(640.0, height + 30.0, &body))
}

fn drawing(plain: &CaseResult, top: f64) -> (Markup, f64) {
    let row = |line: &ProtocolResult| {
        let values = [line.patch_ratio?, line.stall_ratio?];
        Some((line.protocol.name().to_owned(), colour(line.protocol), values))
    };
    let rows: Vec<(String, usize, [f64; 2])> = plain.lines.iter().filter_map(row).collect();
    chart::bars(&rows, top, 640.0)
}

fn ratios(plain: &CaseResult) -> Markup {
    let (body, height) = drawing(plain, 6.0);
    html! {
        p { b { "Cost relative to int3 with three rounds" } ": patcher’s time (full colour), executor’s stall (pale)" }
        svg.chart viewBox=(format!("0 0 640 {height}")) role="img" aria-label="patcher time and stall of each protocol relative to int3 with three rounds" { (body) }
    }
}

fn us(nanoseconds: u64) -> String {
    let us = nanoseconds as f64 / 1e3;
    let digits = match us {
        100.0.. => 0,
        1.0.. => 1,
        _ => 2,
    };
    format!("{us:.digits$}")
}

fn ratio(value: Option<f64>) -> String {
    value.map_or("–".into(), |ratio| format!("{ratio:.3}"))
}

fn table(plain: &CaseResult) -> Markup {
    let quantiles = |quantiles: &Quantiles| {
        let Quantiles { p50, p99, p999, max, .. } = quantiles;
        html! { @for value in [p50, p99, p999, max] { td.number { @if *max == 0 { "–" } @else { (us(*value)) } } } }
    };
    html! {
        table {
            thead {
                tr { th rowspan="2" { "protocol" } th colspan="2" { "ratio" } th rowspan="2" { "messages" } th rowspan="2" { "traps" } th colspan="4" { "patch, µs" } th colspan="4" { "stall, µs" } }
                tr { th { "patch" } th { "stall" } @for _ in 0..2 { th { "p50" } th { "p99" } th { "p99.9" } th { "max" } } }
            }
            tbody { @for line in &plain.lines { tr {
                th scope="row" { (line.protocol.name()) }
                td.number { (ratio(line.patch_ratio)) } td.number { (ratio(line.stall_ratio)) }
                @for count in [line.sent, line.traps] { td.number { (format!("{:.2}", count as f64 / plain.rounds.max(1) as f64)) } }
                @for times in [&line.patch, &line.stall] { (quantiles(times)) }
            } } }
        }
        table {
            thead {
                tr { th rowspan="2" { "protocol" } th colspan="4" { "a round of messages, µs" } th colspan="4" { "additional time of a pass with traps, µs" } }
                tr { @for _ in 0..2 { th { "p50" } th { "p99" } th { "p99.9" } th { "max" } } }
            }
            tbody { @for line in plain.lines.iter().filter(|line| line.round.max > 0) { tr {
                th scope="row" { (line.protocol.name()) }
                @for times in [&line.round, &line.trap] { (quantiles(times)) }
            } } }
        }
    }
}

/// The curve of a protocol.
fn series(protocol: Protocol, points: Vec<(f64, f64)>, hollow_from: Option<f64>) -> Series {
    Series { name: protocol.name().into(), colour: colour(protocol), points, hollow_from }
}

fn curves(plain: &CaseResult, of: fn(&ProtocolResult) -> &Quantiles) -> Markup {
    // The maximum has no place on this axis: it goes to the end.
    let point = |&(quantile, value): &(f64, u64)| (quantile.min(1.0 - 1e-4), value.max(1) as f64 / 1e3);
    let curve = |line| of(line).curve.iter().map(point).collect();
    let curves: Vec<Series> =
        plain.lines.iter().map(|line| series(line.protocol, curve(line), None)).collect();
    let axis = (Scale::Tail, "percentile (the end is the maximum)");
    chart::lines("percentiles", axis, (Scale::Log, "µs"), &curves)
}

/// Medians by one thing that varies.
fn grown(
    bench: &Bench,
    varied: fn(&Case) -> f64,
    of: &dyn Fn(&CaseResult, &ProtocolResult) -> f64,
) -> Vec<Series> {
    let plain = bench.cases[0].case;
    let differs = |case: &Case| varied(case) != varied(&plain);
    let cases = bench.cases.iter().filter(|case| case.case == plain || differs(&case.case));
    let cases: Vec<_> = cases.sorted_by(|a, b| varied(&a.case).total_cmp(&varied(&b.case))).collect();
    if cases.len() < 2 {
        return Vec::new();
    }
    let hollow_from =
        cases.iter().filter(|case| case.overcommitted).map(|case| varied(&case.case)).min_by(f64::total_cmp);
    let points = |protocol| {
        let point = |case: &&CaseResult| Some((varied(&case.case), of(case, case.line(protocol)?).max(1e-3)));
        cases.iter().filter_map(point).collect()
    };
    Protocol::ALL.iter().map(|&protocol| series(protocol, points(protocol), hollow_from)).collect()
}

fn growth(bench: &Bench) -> Markup {
    let patch = |_: &CaseResult, line: &ProtocolResult| line.patch.p50 as f64 / 1e3;
    let stall = |_: &CaseResult, line: &ProtocolResult| line.stall.p50 as f64 / 1e3;
    let a_site = |_: &CaseResult, line: &ProtocolResult| line.a_site / 1e3;
    let sites = |case: &Case| case.sites as f64;
    let executors = |case: &Case| case.executors as f64;
    // 0 has no logarithm.
    let nmis = |case: &Case| f64::from(case.nmi_rate.max(100));
    let delay = |case: &Case| f64::from(case.delay.max(2));
    let figure = |title: &str, x: (Scale, &str), y: &str, series: Vec<Series>| {
        html! { @if !series.is_empty() { figure { figcaption { (title) } (chart::lines(title, x, (Scale::Log, y), &series)) } } }
    };
    let doublings = Scale::Doublings;
    html! {
        h2 { "Growth" }
        p.soft { "Medians in microseconds. Each picture varies one thing; the other cases took turns with it. Hollow: more executors than CPUs besides the patcher’s, so that times depend on the host’s scheduler." }
        (legend())
        div.pair {
            (figure("Patcher’s time per site, by sites patched at once", (doublings, "sites"), "µs per site", grown(bench, sites, &a_site)))
            (figure("Stall, by sites patched at once", (doublings, "sites"), "µs", grown(bench, sites, &stall)))
            (figure("Patcher’s time, by executors", (doublings, "executors"), "µs", grown(bench, executors, &patch)))
            (figure("Stall, by executors", (doublings, "executors"), "µs", grown(bench, executors, &stall)))
            (figure("Patcher’s time, by NMIs from another thread", (Scale::Log, "NMIs per second (leftmost: none)"), "µs", grown(bench, nmis, &patch)))
            (figure("Stall, by the patcher’s delay", (Scale::Log, "µs before the last store (leftmost: none)"), "µs", grown(bench, delay, &stall)))
        }
    }
}
