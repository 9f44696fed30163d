//! What protocols cost, as text: ratios first, absolute times second.

use std::fmt::Write;

use crate::freerun::bench::{Bench, Protocol, Quantiles};

/// The tables.
pub fn text(bench: &Bench) -> String {
    let mut out = String::new();
    let base = Protocol::BASE.name();
    let _ = writeln!(out, "relative to \"{base}\", medians over {} interleaved rounds", bench.rounds);
    let _ = writeln!(
        out,
        "  {:18}  {:>7}  {:>7}  {:>6}  {:>8}  {:>9}",
        "protocol", "patch", "stall", "rounds", "messages", "traps"
    );
    for line in &bench.lines {
        let per_patch = |count: u64| count as f64 / line.patches.max(1) as f64;
        let _ = writeln!(
            out,
            "  {:18}  {:>7.3}  {:>7.3}  {:>6}  {:>8.1}  {:>9.3}",
            line.protocol.name(),
            line.patch_ratio,
            line.stall_ratio,
            line.protocol.rounds(),
            per_patch(line.sent),
            per_patch(line.traps),
        );
    }
    let _ = writeln!(out, "\nmicroseconds           patcher time                            executor stall");
    let _ = write!(out, "  {:18}", "protocol");
    for _ in 0..2 {
        let _ = write!(out, "  {:>8} {:>8} {:>8} {:>9}", "p50", "p99", "p99.9", "max");
    }
    out.push('\n');
    for line in &bench.lines {
        let quantiles = |Quantiles { p50, p99, p999, max }: Quantiles| {
            let us = |ns: u64| ns as f64 / 1e3;
            format!("{:>8.2} {:>8.1} {:>8.1} {:>9.1}", us(p50), us(p99), us(p999), us(max))
        };
        let _ = writeln!(
            out,
            "  {:18}  {}  {}",
            line.protocol.name(),
            quantiles(line.patch),
            quantiles(line.stall)
        );
    }
    let (sent, delivered) = bench
        .lines
        .iter()
        .fold((0, 0), |(sent, delivered), line| (sent + line.sent, delivered + line.delivered));
    let _ = write!(
        out,
        "\n{} executor{}{}, {} rounds of {} patches in {:.1} s, seed {}{}; {} passes; {sent} messages sent, \
         {delivered} counted by handlers\npatch = the patcher's time from first store to last wait; stall = \
         longest time between two passes of an executor about the patch\n{}\n{}, microcode {}",
        bench.executors,
        if bench.executors == 1 { "" } else { "s" },
        if bench.overcommitted { " (OVERCOMMITTED: more than CPUs beside the patcher's)" } else { "" },
        bench.rounds,
        bench.lines.len(),
        bench.seconds,
        bench.seed,
        if bench.interrupted { "; INTERRUPTED" } else { "" },
        bench.passes,
        bench.tier,
        bench.host.line(),
        bench.host.microcode.as_deref().unwrap_or("unknown"),
    );
    out
}
