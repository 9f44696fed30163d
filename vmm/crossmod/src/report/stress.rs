//! A scenario at full speed, as text.

use std::fmt::Write;

use crossmod_model::property::Property;
use itertools::Itertools;

use super::survey::per_million;
use crate::freerun::stress::Stress;

/// The results of a run.
pub fn text(stress: &Stress) -> String {
    let (run, counts) = (&stress.run, &stress.counts);
    let mut out = format!("{}: {}\n", run.scenario, stress.title);
    let passes = counts.passes + counts.handler_passes;
    let _ = writeln!(
        out,
        "  {} rounds in {:.1} s, {passes} passes ({} by interrupt handlers): {} old, {} new; {} traps claimed",
        stress.rounds, stress.seconds, counts.handler_passes, counts.old, counts.new, counts.claimed
    );
    let _ = writeln!(out, "  {:16}  {:>12}  {:>12}  expected", "property", "seen", "per million");
    for &property in &stress.claims {
        let seen = counts.of(property).unwrap_or_default();
        let rate = if property == Property::Deadlock { "-".into() } else { per_million(seen, passes) };
        let expected = if stress.expect.contains(&property) { "yes" } else { "" };
        let line = format!("  {:16}  {seen:>12}  {rate:>12}  {expected}", property.name());
        let _ = writeln!(out, "{}", line.trim_end());
    }
    let silent = stress.expect.iter().filter(|property| !stress.claims.contains(property)).join(", ");
    if !silent.is_empty() {
        let _ = writeln!(out, "  expected, but not visible at full speed: {silent}");
    }
    if stress.two_valued {
        out.push_str("  two-valued site: neither version has room for a number, so there is no claim about `stale` and `order`\n");
    }
    if counts.ahead > 0 {
        let _ = writeln!(out, "  UNEXPLAINED: {} passes ahead of the patcher", counts.ahead);
    }
    for (name, messages) in [("NMIs", &stress.nmi), ("interrupts", &stress.irq)] {
        if messages.injected > 0 {
            let _ = writeln!(out, "  {name}: {messages}");
        }
    }
    for finding in &stress.findings {
        let _ = writeln!(out, "  {finding}\n    the same hazard, deterministically: {}", finding.explore);
    }
    let unexpected = stress.unexpected();
    if !unexpected.is_empty() {
        let _ = writeln!(out, "  NOT EXPECTED by the scenario: {}", unexpected.iter().join(", "));
    }
    let _ = write!(
        out,
        "{} executor{}{}, seed {}{}\n{}\n{}, microcode {}",
        run.executors,
        if run.executors == 1 { "" } else { "s" },
        if stress.overcommitted { " (OVERCOMMITTED: more than CPUs besides the patcher's)" } else { "" },
        run.seed,
        if stress.interrupted { "; INTERRUPTED" } else { "" },
        run.tier,
        run.host.line(),
        run.host.microcode.as_deref().unwrap_or("unknown"),
    );
    out
}
