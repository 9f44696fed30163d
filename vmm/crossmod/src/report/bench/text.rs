//! Benchmarks as text.

use std::fmt::Write;

use crate::freerun::bench::{Bench, CaseResult, Comparison, Protocol, ProtocolResult, Quantiles};

/// The tables of a benchmark.
pub fn text(bench: &Bench) -> String {
    let mut out = String::new();
    let [plain, varied @ ..] = &bench.cases[..] else { return out };
    ratios(&mut out, plain);
    times(&mut out, plain, ["patcher time", "executor stall"], |line| [&line.patch, &line.stall]);
    let heads = ["one round of messages", "additional time of a pass with traps"];
    times(&mut out, plain, heads, |line| [&line.round, &line.trap]);
    if !varied.is_empty() {
        sweep(&mut out, &bench.cases);
    }
    let all = || bench.cases.iter().flat_map(|case| &case.lines);
    let (sent, delivered): (u64, u64) =
        (all().map(|line| line.sent).sum(), all().map(|line| line.delivered).sum());
    let rounds: u64 = bench.cases.iter().map(|case| case.rounds).sum();
    let passes: u64 = bench.cases.iter().map(|case| case.passes).sum();
    let _ = writeln!(
        out,
        "\n{rounds} rounds of {} cases in {:.1} s, seed {}{}; {passes} passes; {sent} messages sent, {delivered} counted \
         by handlers",
        bench.cases.len(),
        bench.seconds,
        bench.seed,
        if bench.interrupted { "; INTERRUPTED" } else { "" },
    );
    for case in bench.cases.iter().filter(|case| case.nmis.injected > 0) {
        let _ = writeln!(out, "{}: NMIs: {}", case.case, case.nmis);
    }
    let _ = write!(
        out,
        "patch = the patcher's time from first store to last wait; stall = longest time between two passes of an executor \
         around the patch; a round lasts from its first message until every executor has answered\n{}\n{}, microcode {}",
        bench.tier,
        bench.host.line(),
        bench.host.microcode.as_deref().unwrap_or("unknown"),
    );
    out
}

fn ratios(out: &mut String, plain: &CaseResult) {
    let over = " (OVERCOMMITTED: more executors than CPUs besides the patcher's; no ratios)";
    let over = if plain.overcommitted { over } else { "" };
    let (base, case, rounds) = (Protocol::BASE.name(), plain.case, plain.rounds);
    let _ = writeln!(out, "{case}{over}; relative to \"{base}\", medians over {rounds} interleaved rounds");
    let _ = writeln!(out, "  protocol              patch    stall  rounds  messages      traps");
    for line in &plain.lines {
        let [sent, traps] = [line.sent, line.traps].map(|count| count as f64 / rounds.max(1) as f64);
        let (patch, stall) = (ratio(line.patch_ratio), ratio(line.stall_ratio));
        let (name, rounds) = (line.protocol.name(), line.protocol.rounds());
        let _ = writeln!(out, "  {name:18}  {patch:>7}  {stall:>7}  {rounds:>6}  {sent:>8.1}  {traps:>9.3}");
    }
}

fn ratio(ratio: Option<f64>) -> String {
    ratio.map_or("-".into(), |ratio| format!("{ratio:.3}"))
}

/// Two groups of quantiles of each protocol, in microseconds.
fn times(
    out: &mut String,
    plain: &CaseResult,
    [left, right]: [&str; 2],
    of: fn(&ProtocolResult) -> [&Quantiles; 2],
) {
    let _ = writeln!(out, "\n{:22} {left:38} {right}", "microseconds");
    let _ = write!(out, "  {:18}", "protocol");
    for _ in 0..2 {
        let _ = write!(out, "  {:>8} {:>8} {:>8} {:>9}", "p50", "p99", "p99.9", "max");
    }
    out.push('\n');
    for line in &plain.lines {
        let quantiles = |Quantiles { p50, p99, p999, max, .. }: &Quantiles| {
            let us = |ns: u64| ns as f64 / 1e3;
            if *max == 0 {
                return format!("{:>8} {:>8} {:>8} {:>9}", "-", "-", "-", "-");
            }
            format!("{:>8.2} {:>8.1} {:>8.1} {:>9.1}", us(*p50), us(*p99), us(*p999), us(*max))
        };
        let [left, right] = of(line).map(quantiles);
        let _ = writeln!(out, "  {:18}  {left}  {right}", line.protocol.name());
    }
}

/// Tables with a column for each case: ratios, then medians.
fn sweep(out: &mut String, cases: &[CaseResult]) {
    let plain = &cases[0].case;
    let heads: Vec<String> = cases
        .iter()
        .map(|case| {
            let varied = &case.case;
            let name = if varied.sites != plain.sites {
                format!("{} sites", varied.sites)
            } else if varied.executors != plain.executors {
                format!("{} exec.", varied.executors)
            } else if varied.nmi_rate > 0 {
                format!("{} NMI/s", varied.nmi_rate)
            } else if varied.delay > 0 {
                format!("delay {} us", varied.delay)
            } else {
                "plain".into()
            };
            if case.overcommitted { name + "*" } else { name }
        })
        .collect();
    let mut table = |title: &str, cell: &dyn Fn(&CaseResult, Protocol) -> Option<String>| {
        let _ = write!(out, "\n{title}\n  {:18}", "protocol");
        heads.iter().for_each(|head| _ = write!(out, " {head:>11}"));
        out.push('\n');
        for &protocol in Protocol::ALL {
            let _ = write!(out, "  {:18}", protocol.name());
            for case in cases {
                let _ = write!(out, " {:>11}", cell(case, protocol).unwrap_or_else(|| "-".into()));
            }
            out.push('\n');
        }
    };
    let base = Protocol::BASE.name();
    let pair = |a: Option<f64>, b: Option<f64>| Some(format!("{:.2} {:.2}", a?, b?));
    table(
        &format!("patch and stall relative to \"{base}\" in the same rounds of each case"),
        &|case, protocol| {
            let line = case.line(protocol)?;
            pair(line.patch_ratio, line.stall_ratio)
        },
    );
    table("median patcher time per site, and stall, in microseconds", &|case, protocol| {
        let line = case.line(protocol)?;
        Some(format!("{:.1} {:.0}", line.a_site / 1e3, line.stall.p50 as f64 / 1e3))
    });
    if cases.iter().any(|case| case.overcommitted) {
        out.push_str("* overcommitted: more executors than CPUs besides the patcher's; times depend on the scheduler, so there are no ratios\n");
    }
}

/// The comparison with an earlier run.
pub fn comparisons(comparisons: &[Comparison], name: &str) -> String {
    let base = Protocol::BASE.name();
    let mut out = format!(
        "\ncompared with {name}: ratios to \"{base}\", then and now, and the 99 % interval of their quotient\n\
        \x20 protocol                      then      now       now / then\n"
    );
    for comparison in comparisons {
        let Comparison { protocol, patch, then, now, interval: [low, high], change } = comparison;
        let _ = writeln!(
            out,
            "  {:18}  {:5}  {then:>7.3}  {now:>7.3}  {low:>6.3} to {high:>5.3}  {}",
            protocol.name(),
            if *patch { "patch" } else { "stall" },
            change.words()
        );
    }
    out
}
