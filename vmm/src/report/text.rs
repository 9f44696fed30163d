//! Reports for people.

use std::fmt::Write;

use super::{Report, Status};
use crate::explore::Ended;

/// One line: verdict, name, what was found, counts.
pub fn line(report: &Report, name_width: usize) -> String {
    let mark = match (report.status, report.as_expected) {
        (Status::Skipped, _) => "skip",
        (_, true) => "ok",
        (_, false) => "FAIL",
    };
    let found: Vec<&str> = report.findings.iter().map(|finding| finding.violation.property.name()).collect();
    let verdict = match report.status {
        Status::Safe => "safe".to_owned(),
        Status::Hazard => found.join(", "),
        Status::NotDecided => "nothing found, not exhaustive".to_owned(),
        Status::Skipped => format!("skipped: {}", report.reason.as_deref().unwrap_or("no reason")),
    };
    let mut line = format!("{mark:<4} {:name_width$}  {verdict:<38}", report.name);
    if report.status != Status::Skipped {
        let stall = report.stalls.iter().map(|stall| stall.patcher).max();
        let stall = stall.map_or(String::from("-"), |stall| stall.to_string());
        let _ = write!(
            line,
            " {:>9} {:>10} {stall:>6}",
            report.counts.states, report.counts.transitions
        );
        if let Some(seconds) = report.counts.seconds {
            let _ = write!(line, " {:>7.0} ms", seconds * 1e3);
        }
    }
    line.trim_end().to_owned()
}

/// The header of a table of lines, with or without times.
pub fn table(name_width: usize, timed: bool) -> String {
    let header = format!(
        "     {:name_width$}  {:<38} {:>9} {:>10} {:>6}",
        "scenario", "violated", "states", "moves", "stall"
    );
    if timed { format!("{header} {:>10}", "time") } else { header }
}

/// The whole report of one scenario.
pub fn detail(report: &Report) -> String {
    let mut out = String::new();
    let _ = writeln!(out, "{}: {}", report.name, report.title);
    if report.status == Status::Skipped {
        let _ = writeln!(out, "  skipped: {}", report.reason.as_deref().unwrap_or("no reason"));
        return out;
    }
    let _ = writeln!(out, "  verdict    {}", verdict(report));
    if !report.as_expected {
        let names: Vec<&str> = report.expect.iter().map(|property| property.name()).collect();
        let expected = if names.is_empty() { "safe".to_owned() } else { names.join(", ") };
        let _ = writeln!(out, "  expected   {expected}");
    }
    if let Some(bounds) = &report.bounds {
        let _ = writeln!(
            out,
            "  bounds     {} executor{}, passes {:?}, ring {:?}, {} NMI, {} IRQ; fetch model {}, rule {}",
            bounds.executors,
            if bounds.executors == 1 { "" } else { "s" },
            bounds.passes,
            bounds.rings,
            bounds.nmi,
            bounds.irq,
            report.fetch,
            report.rule.map_or("-".into(), |rule| format!("{rule:?}").to_lowercase()),
        );
    }
    let counts = &report.counts;
    if let Some(sampled) = &report.sampled {
        let bound = match sampled.bound {
            Some(bound) => format!(
                "a run shows a violation of the chosen depth with a chance of at least {bound:.3e}, in the {} runs \
                 without a set-back",
                sampled.runs - sampled.yielded
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
            "  explored   {} states, {} transitions, depth {}{time}; tier explore (real execution, no silicon \
             timing)",
            counts.states, counts.transitions, counts.depth
        );
    }
    let memo = &counts.memo;
    let _ = writeln!(
        out,
        "  executed   {} steps on KVM for {} executor moves; {} remembered ones executed again and compared",
        memo.executed, memo.moves, memo.rechecked
    );
    if !report.outcomes.is_empty() {
        let _ = writeln!(out, "  outcomes   {}", report.outcomes.join("; "));
    }
    if !report.stalls.is_empty() {
        let stalls: Vec<String> = report
            .stalls
            .iter()
            .map(|stall| format!("{} ({} of all)", stall.patcher, stall.others))
            .collect();
        let _ = writeln!(
            out,
            "  stall      patcher moves in the longest interrupts-off window, by executor: {}",
            stalls.join(", ")
        );
    }
    if !report.digest.is_empty() {
        let again = if report.verified { " (twice)" } else { "" };
        let _ = writeln!(out, "  hash       {}{again}", report.digest);
    }
    for finding in &report.findings {
        let note = if finding.expected { "expected" } else { "NOT EXPECTED" };
        let _ = writeln!(
            out,
            "\n  {} ({note}): {}\n  {} moves, {} context switches\n",
            finding.violation.property,
            finding.violation.detail,
            finding.schedule.len(),
            finding.switches
        );
        for line in finding.rendering.lines() {
            let _ = writeln!(out, "  {line}");
        }
    }
    out
}

fn verdict(report: &Report) -> String {
    let found: Vec<&str> = report.findings.iter().map(|finding| finding.violation.property.name()).collect();
    let mut text = match report.status {
        Status::Safe => "safe within the bounds below".to_owned(),
        Status::Hazard => format!("hazard: {}", found.join(", ")),
        Status::NotDecided => "no violation found".to_owned(),
        Status::Skipped => "skipped".to_owned(),
    };
    text.push_str(match report.ended {
        Some(Ended::MaxStates) => " (bounded, not exhaustive: the limit of states was reached)",
        Some(Ended::Timeout) => " (bounded, not exhaustive: the time was up)",
        Some(Ended::Interrupted) => " (bounded, not exhaustive: interrupted)",
        Some(Ended::Exhausted) | None => "",
    });
    text
}
