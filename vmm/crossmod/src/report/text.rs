//! Reports for people.

use std::fmt::Write;

use super::{Bounds, Report, Status};
use crossmod_model::checks::stall::Stall;

use crate::explore::Ended;
use crate::property::expectation;
use crate::x86::VendorRule;

/// One line: verdict, name, what was found, counts.
pub fn line(report: &Report, name_width: usize) -> String {
    let mark = match (report.status, report.as_expected) {
        (Status::Skipped, _) => "skip",
        (Status::HarnessError, _) => "ERR",
        (_, true) => "ok",
        (_, false) => "FAIL",
    };
    let found: Vec<&str> = report.findings.iter().map(|finding| finding.violation.property.name()).collect();
    let verdict = match report.status {
        Status::Safe => "safe".to_owned(),
        Status::Hazard => found.join(", ") + &short(report).map_or(String::new(), |why| format!(" ({why})")),
        Status::NotDecided => format!("not decided: {}", short(report).unwrap_or("not exhaustive")),
        Status::Skipped | Status::HarnessError => no_verdict(report),
    };
    let rule = rule(report);
    let bounds = report.bounds.as_ref().map_or_else(|| "-".into(), Bounds::short);
    let mut line = format!(
        "{mark:<4} {:name_width$}  {rule:<5}  {:<15}  {bounds:<9}  {verdict:<30}",
        report.name, report.fetch
    );
    if report.bounds.is_some() {
        let stall = report.stalls.iter().map(|stall| stall.patcher).max();
        let stall = stall.map_or(String::from("-"), |stall| stall.to_string());
        let _ = write!(line, " {:>9} {:>10} {stall:>6}", report.counts.states, report.counts.transitions);
        if let Some(seconds) = report.counts.seconds {
            let _ = write!(line, " {:>7.0} ms", seconds * 1e3);
        }
    }
    line.trim_end().to_owned()
}

/// The header of a table of lines, with or without times.
pub fn table(name_width: usize, timed: bool) -> String {
    let header = format!(
        "     {:name_width$}  {:<5}  {:<15}  {:<9}  {:<30} {:>9} {:>10} {:>6}",
        "scenario", "rule", "fetch", "bounds", "verdict", "states", "moves", "stall"
    );
    if timed { format!("{header} {:>10}", "time") } else { header }
}

/// What the columns of a table mean.
pub const LEGEND: &str = "ok: the verdict is what the scenario expects. rule: whose promises about code \
fetch are in force. fetch: which bytes a fetch may see. bounds: executors x passes of each, then how many NMIs (n), \
interrupts (i), SMIs (s) and machine checks (m) may come; safe means within these. stall: most patcher moves in one interrupts-off window of an executor.";

/// The tier, as every text report names it.
pub const TIER: &str = "tier explore: single-stepped on KVM, not timed; fetches as the fetch model has them";

/// What a report says where KVM cannot raise SMIs.
pub const MODELLED_SMI: &str =
    "SMIs: KVM here has no SMM; of one, only that its RSM serialises the CPU is taken into account";

/// Why a search or sample is not the whole, for a table.
pub(super) fn short(report: &Report) -> Option<&'static str> {
    match report.ended? {
        Ended::MaxStates => Some("state limit"),
        Ended::MaxMemory => Some("memory limit"),
        Ended::Timeout => Some("time limit"),
        Ended::Interrupted => Some("interrupted"),
        Ended::Exhausted => report.sampled.as_ref().map(|_| "sampled"),
    }
}

fn rule(report: &Report) -> &'static str {
    report.rule.map_or("-", VendorRule::name)
}

fn no_verdict(report: &Report) -> String {
    let what = if report.status == Status::Skipped { "skipped" } else { "harness error" };
    format!("{what}: {}", report.reason.as_deref().unwrap_or("no reason"))
}

/// The bounds of a verdict in one line.
pub fn bounds(report: &Report) -> String {
    let Some(bounds) = &report.bounds else { return "none".into() };
    format!(
        "{}, {}, {}, {}, {}{}",
        number(bounds.executors, "executor", "executors"),
        each(&bounds.passes, "pass", "passes"),
        match bounds.rings.iter().max() {
            Some(ring) if bounds.rings.iter().all(|other| other == ring) => format!("ring {ring}"),
            _ => format!("rings {}", list(&bounds.rings)),
        },
        number(bounds.nmi.into(), "NMI", "NMIs"),
        number(bounds.irq.into(), "IRQ", "IRQs"),
        rarer(bounds),
    )
}

/// What a verdict says, and within what, in one line: for formats that have no room for more.
pub(super) fn claim(report: &Report) -> String {
    let found = match report.status {
        Status::Skipped | Status::HarnessError => return no_verdict(report),
        Status::Safe => "safe".to_owned(),
        _ => verdict(report),
    };
    format!("{found}; {}; fetch model {}, rule {}; {TIER}", bounds(report), report.fetch, rule(report))
}

/// The whole report of one scenario.
pub fn detail(report: &Report) -> String {
    let mut out = String::new();
    let _ = writeln!(out, "{}: {}", report.name, report.title);
    if matches!(report.status, Status::Skipped | Status::HarnessError) {
        let _ = writeln!(out, "  {}", no_verdict(report));
        return out;
    }
    let _ = writeln!(out, "  verdict    {}", verdict(report));
    let missing = report.expect.iter().any(|&property| report.finding(property).is_none());
    if !report.as_expected || missing {
        let _ = writeln!(out, "  expected   {}", expectation(&report.expect));
    }
    let _ =
        writeln!(out, "  bounds     {}; fetch model {}, rule {}", bounds(report), report.fetch, rule(report));
    let counts = &report.counts;
    if let Some(sampled) = &report.sampled {
        let bound = match sampled.bound {
            Some(bound) => format!(
                "a violation of the chosen depth, if there is one, is found by a run with probability at least \
                 {:.1e}; {} runs count, in {} a spinning actor had to be set back or there were more than {} moves",
                bound.chance,
                sampled.runs - sampled.uncovered,
                sampled.uncovered,
                bound.length
            ),
            None => "no bound on what may have been missed".into(),
        };
        let _ = writeln!(
            out,
            "  sampled    {} runs, {} complete, {} moves, longest {}; NOT exhaustive: {bound}",
            sampled.runs, sampled.completed, sampled.moves, sampled.longest
        );
    } else {
        let time = counts.seconds.map_or(String::new(), |seconds| format!(", {seconds:.3} s"));
        let _ = writeln!(
            out,
            "  explored   {} states, {} transitions, depth {}{time}",
            counts.states, counts.transitions, counts.depth
        );
        if report.ended.is_some_and(|ended| ended != Ended::Exhausted) {
            let _ = writeln!(
                out,
                "  covered    {} states with all their successors: every schedule of fewer than {} moves",
                counts.expanded,
                counts.depth + 1
            );
        }
        let _ = writeln!(
            out,
            "  memory     {:.1} MiB, {} bytes a state",
            counts.memory as f64 / f64::from(1 << 20),
            counts.memory / counts.states.max(1)
        );
    }
    let _ = writeln!(out, "  tier       {}: single-stepped on KVM, not timed", report.tier);
    if !report.modelled.is_empty() {
        let _ = writeln!(out, "  modelled   {MODELLED_SMI}");
    }
    let memo = &counts.memo;
    let _ = writeln!(
        out,
        "  executed   {} steps on KVM for {} moves of executors; remembered for {} uses, {} of them executed again and \
         compared",
        memo.executed,
        memo.moves,
        counts.lookups.max(memo.outcome_hits),
        memo.rechecked
    );
    if !report.outcomes.is_empty() {
        let _ = writeln!(out, "  outcomes   {}", report.outcomes.join("; "));
    }
    if !report.unreached.is_empty() {
        let _ = writeln!(out, "  unreached  no schedule came to {}", report.unreached.join(", "));
    }
    if !report.stalls.is_empty() {
        let window = |stall: &Stall| {
            let patcher = number(stall.patcher as usize, "patcher move", "patcher moves");
            format!("{patcher} ({} of all other actors)", stall.others)
        };
        let text = if report.stalls.iter().all(|stall| *stall == report.stalls[0]) {
            window(&report.stalls[0])
        } else {
            let each = report.stalls.iter().enumerate();
            each.map(|(cpu, stall)| format!("CPU {cpu} {}", window(stall))).collect::<Vec<_>>().join(", ")
        };
        let _ = writeln!(out, "  stall      longest interrupts-off window: {text}");
    } else if report.ended == Some(Ended::Exhausted) && report.sampled.is_none() {
        let _ = writeln!(out, "  stall      not measured");
    }
    if !report.digest.is_empty() {
        let again = if report.verified { " (twice)" } else { "" };
        let _ = writeln!(out, "  hash       {}{again}", report.digest);
    }
    for (index, finding) in report.findings.iter().enumerate() {
        let note = if finding.expected { "expected" } else { "NOT EXPECTED" };
        let _ = writeln!(out, "\n  {} ({note}): {}", finding.violation.property, finding.violation.detail);
        let earlier = report.findings[..index].iter().find(|earlier| earlier.schedule == finding.schedule);
        if let Some(earlier) = earlier.filter(|earlier| !earlier.schedule.is_empty()) {
            let _ = writeln!(out, "  the schedule is that of `{}` above", earlier.violation.property);
            continue;
        }
        let _ = writeln!(
            out,
            "  {}, {}\n",
            number(finding.schedule.len(), "move", "moves"),
            number(finding.switches, "context switch", "context switches")
        );
        for line in finding.rendering.lines() {
            let _ = writeln!(out, "  {line}");
        }
    }
    out
}

/// The events that most scenarios do without.
fn rarer(bounds: &Bounds) -> String {
    let mut text = String::new();
    for (count, one, many) in [(bounds.smi, "SMI", "SMIs"), (bounds.mce, "machine check", "machine checks")] {
        if count > 0 {
            let _ = write!(text, ", {}", number(count.into(), one, many));
        }
    }
    text
}

fn number(count: usize, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

fn list(numbers: &[u8]) -> String {
    numbers.iter().map(u8::to_string).collect::<Vec<_>>().join(", ")
}

/// `2 passes each`, or the number of every executor in turn.
fn each(numbers: &[u8], one: &str, many: &str) -> String {
    match numbers {
        [only] => number(usize::from(*only), one, many),
        [first, rest @ ..] if rest.iter().all(|other| other == first) => {
            format!("{} each", number(usize::from(*first), one, many))
        }
        _ => format!("{many} {}", list(numbers)),
    }
}

fn verdict(report: &Report) -> String {
    let found: Vec<&str> = report.findings.iter().map(|finding| finding.violation.property.name()).collect();
    let mut text = match report.status {
        Status::Safe => "safe within the bounds below".to_owned(),
        Status::Hazard => format!("hazard: {}", found.join(", ")),
        Status::NotDecided => "not decided: no violation found".to_owned(),
        Status::Skipped | Status::HarnessError => no_verdict(report),
    };
    text.push_str(match report.ended {
        Some(Ended::MaxStates) => " (bounded, not exhaustive: the limit of states was reached)",
        Some(Ended::MaxMemory) => " (bounded, not exhaustive: the limit of memory was reached)",
        Some(Ended::Timeout) => " (bounded, not exhaustive: the time limit was reached)",
        Some(Ended::Interrupted) => " (bounded, not exhaustive: interrupted)",
        Some(Ended::Exhausted) if report.sampled.is_some() => " (sampled, not exhaustive)",
        Some(Ended::Exhausted) | None => "",
    });
    text
}
