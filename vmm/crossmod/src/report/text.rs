//! Reports for people.

use std::collections::BTreeSet;
use std::fmt::Write;

use crossmod_explore::schedule::Sampled;
use crossmod_explore::{Ended, MemoStats};
use crossmod_model::checks::stall::Stall;
use crossmod_model::memory::MemoryModel;
use crossmod_model::property::expectation;
use crossmod_model::x86::VendorRule;
use itertools::Itertools;

use crate::results::{Bounds, FinalValues, Report, SearchCounts, Status, Witness};

/// One line: verdict, name, violated properties, counts.
pub fn line(report: &Report, name_width: usize) -> String {
    let mark = match (report.status, report.as_expected) {
        (Status::Skipped, _) => "skip",
        (Status::HarnessError, _) => "ERR",
        (_, true) => "ok",
        (_, false) => "FAIL",
    };
    let verdict = match report.status {
        Status::Safe => "safe".to_owned(),
        Status::Vacuous => format!("vacuous: {}", report.vacuous.join("; ")),
        Status::Hazard => {
            report.violated().join(", ") + &short(report).map_or(String::new(), |why| format!(" ({why})"))
        }
        Status::NotDecided => format!("not decided: {}", short(report).unwrap_or("not exhaustive")),
        Status::Skipped | Status::HarnessError => no_verdict(report),
    };
    let bounds = report.bounds.as_ref();
    let bounds = bounds.map_or_else(|| "-".into(), |bounds| short_bounds(bounds, report.memory));
    let mut line = format!(
        "{mark:<4} {:name_width$}  {:<5}  {:<15}  {bounds:<9}  {verdict:<30}",
        report.name,
        rule(report),
        report.fetch.to_string()
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

/// The header of a table of lines, with or without a column for times.
pub fn table(name_width: usize, timed: bool) -> String {
    let header = format!(
        "     {:name_width$}  {:<5}  {:<15}  {:<9}  {:<30} {:>9} {:>10} {:>6}",
        "scenario", "rule", "fetch", "bounds", "verdict", "states", "moves", "stall"
    );
    if timed { format!("{header} {:>10}", "time") } else { header }
}

/// What the columns of a table mean.
pub const LEGEND: &str = "ok: the verdict is what the scenario expects. rule: whose promises about code fetch \
apply. fetch: which bytes a fetch may see. bounds: executors x passes of each, then the most NMIs (n), interrupts (i), \
SMIs (s) and machine checks (m); the memory model is tso, or sc where they say so; safe means within these. stall: most patcher moves in one interrupts-off window of an \
executor.";

/// The tier, as every text report names it.
pub const TIER: &str = "tier explore: single-stepped on KVM, not timed; fetches as the fetch model has them, stores of \
    programs as the memory model has them, steps of the host at once";

/// The note about SMIs that were modelled instead of raised.
pub const MODELLED_SMI: &str =
    "SMIs: KVM here has no SMM; of an SMI, only that its RSM serialises the CPU is taken into account";

/// Why a search or a sample ended early: for a table, and in words.
fn cut_short(ended: Ended) -> Option<(&'static str, &'static str)> {
    match ended {
        Ended::MaxStates => Some(("state limit", "the limit of states was reached")),
        Ended::MaxMemory => Some(("memory limit", "the limit of memory was reached")),
        Ended::Timeout => Some(("time limit", "the time limit was reached")),
        Ended::Interrupted => Some(("interrupted", "interrupted")),
        Ended::Exhausted => None,
    }
}

/// Why a search or a sample does not cover everything, for a table.
pub(super) fn short(report: &Report) -> Option<&'static str> {
    let sampled = report.sampled.as_ref().map(|_| "sampled");
    cut_short(report.ended?).map(|(short, _)| short).or(sampled)
}

fn rule(report: &Report) -> &'static str {
    report.rule.map_or("-", VendorRule::name)
}

fn no_verdict(report: &Report) -> String {
    let reason = report.reason.as_ref().map_or("no reason".into(), ToString::to_string);
    format!("{}: {reason}", report.status.name())
}

/// Bounds in a few characters: `2x1+1n` is two executors with a pass each and one NMI; `1,2` are the passes of executors
/// that differ.
fn short_bounds(bounds: &Bounds, memory: Option<MemoryModel>) -> String {
    let mut out = match uniform(&bounds.passes) {
        Some(passes) => format!("{}x{passes}", bounds.executors),
        None => list(&bounds.passes).replace(' ', ""),
    };
    for (count, letter) in [(bounds.nmi, 'n'), (bounds.irq, 'i'), (bounds.smi, 's'), (bounds.mce, 'm')] {
        if count > 0 {
            let _ = write!(out, "+{count}{letter}");
        }
    }
    if memory == Some(MemoryModel::Sc) {
        out.push_str("+sc");
    }
    out
}

/// The bounds of a verdict, in one line.
pub fn bounds(report: &Report) -> String {
    let Some(bounds) = &report.bounds else { return "none".into() };
    let rings = match uniform(&bounds.rings) {
        Some(ring) => format!("ring {ring}"),
        None => format!("rings {}", list(&bounds.rings)),
    };
    let mut parts = vec![
        number(bounds.executors, "executor", "executors"),
        each(&bounds.passes, "pass", "passes"),
        rings,
        number(bounds.nmi.into(), "NMI", "NMIs"),
        number(bounds.irq.into(), "IRQ", "IRQs"),
    ];
    // Events that most scenarios do not have.
    for (count, one, many) in [(bounds.smi, "SMI", "SMIs"), (bounds.mce, "machine check", "machine checks")] {
        parts.extend((count > 0).then(|| number(count.into(), one, many)));
    }
    parts.join(", ")
}

/// The models that a verdict rests on.
pub fn models(report: &Report) -> String {
    let memory = report.memory.map_or(String::new(), |memory| format!(", memory {memory}"));
    format!("fetch model {}, rule {}{memory}", report.fetch, rule(report))
}

/// The verdict and its bounds in one line, for formats without room for more.
pub(super) fn claim(report: &Report) -> String {
    let found = match report.status {
        Status::Skipped | Status::HarnessError => return no_verdict(report),
        Status::Safe => "safe".to_owned(),
        _ => verdict(report),
    };
    format!("{found}; {}; {}; {TIER}", bounds(report), models(report))
}

/// The whole report of one scenario.
pub fn detail(report: &Report) -> String {
    let mut out = format!("{}: {}\n", report.name, report.title);
    if matches!(report.status, Status::Skipped | Status::HarnessError) {
        let _ = writeln!(out, "  {}", no_verdict(report));
        return out;
    }
    for (label, text) in facts(report) {
        let _ = text.map(|text| writeln!(out, "  {label:<10} {text}"));
    }
    for index in 0..report.findings.len() {
        out.push_str(&finding(report, index));
    }
    if let Some(Witness { schedule, rendering }) = &report.witness {
        let _ = writeln!(out, "\n  one schedule to the end, {}\n", number(schedule.len(), "move", "moves"));
        rendering.lines().for_each(|line| _ = writeln!(out, "  {line}"));
    }
    out
}

/// The labelled lines of [`detail`], in their order; those that do not apply have no text.
fn facts(report: &Report) -> [(&'static str, Option<String>); 16] {
    let SearchCounts { states, expanded, transitions, depth, seconds, memory, .. } = report.counts;
    let sampled = report.sampled.as_ref();
    let missing = report.expect.iter().any(|&property| report.finding(property).is_none());
    let time = seconds.map_or(String::new(), |seconds| format!(", {seconds:.3} s"));
    let explored = format!("{states} states, {transitions} transitions, depth {depth}{time}");
    let bounded = sampled.is_none() && report.ended.and_then(cut_short).is_some();
    let covered = "states with all their successors: every schedule of fewer than";
    let covered = format!("{expanded} {covered} {} moves", depth + 1);
    let mebibytes = memory as f64 / f64::from(1 << 20);
    let memory = format!("{mebibytes:.1} MiB, {} bytes a state", memory / states.max(1));
    let (outcomes, unreached) = (report.outcomes.iter().join("; "), report.unreached.join(", "));
    let measured = match report.stalls.is_empty() {
        false => Some(format!("longest interrupts-off window: {}", stalls(&report.stalls))),
        true if report.ended == Some(Ended::Exhausted) && sampled.is_none() => Some("not measured".into()),
        true => None,
    };
    let ideal = report.bounds.as_ref().is_some_and(|bounds| bounds.host > 0);
    let again = if report.verified { " (twice)" } else { "" };
    [
        ("verdict", Some(verdict(report))),
        ("expected", (!report.as_expected || missing).then(|| expectation(&report.expect))),
        ("bounds", Some(format!("{}; {}", bounds(report), models(report)))),
        ("sampled", sampled.map(coverage_of_sample)),
        ("explored", sampled.is_none().then_some(explored)),
        ("covered", bounded.then_some(covered)),
        ("memory", sampled.is_none().then_some(memory)),
        (
            "assumes",
            ideal.then(|| "each step of the host takes effect at once, and nothing interrupts it".into()),
        ),
        ("tier", Some(format!("{}: single-stepped on KVM, not timed", report.tier))),
        ("modelled", (!report.modelled.is_empty()).then(|| MODELLED_SMI.into())),
        ("executed", Some(executed(&report.counts))),
        ("outcomes", (!outcomes.is_empty()).then_some(outcomes)),
        ("final", report.finals.as_ref().map(finals)),
        ("unreached", (!unreached.is_empty()).then(|| format!("no schedule reached {unreached}"))),
        ("stall", measured),
        ("hash", (!report.digest.is_empty()).then(|| format!("{}{again}", report.digest))),
    ]
}

/// Every combination of final values; those that are too many or missing are marked.
fn finals(finals: &FinalValues) -> String {
    let FinalValues { words, reached, expected } = finals;
    let all: BTreeSet<&Vec<u32>> = reached.iter().chain(expected).collect();
    let written = |values: &Vec<u32>| {
        let note = match (reached.contains(values), expected.contains(values)) {
            (true, false) => " (NOT EXPECTED)",
            (false, _) => " (expected, but never reached)",
            (true, true) => "",
        };
        let values = words.iter().zip(values).map(|(word, value)| format!("{word}={value}"));
        format!("{}{note}", values.collect::<Vec<_>>().join(" "))
    };
    all.into_iter().map(written).collect::<Vec<_>>().join("; ")
}

fn coverage_of_sample(sampled: &Sampled) -> String {
    let Sampled { runs, completed, moves, longest, uncovered, .. } = sampled;
    let bound = sampled.bound.map_or("no bound on what may have been missed".into(), |bound| {
        format!(
            "a violation of the chosen depth, if there is one, is found by a run with probability at least {:.1e}; {} runs \
             count, in {uncovered} a spinning actor had to be set back or there were more than {} moves",
            bound.chance,
            runs - uncovered,
            bound.length
        )
    });
    format!("{runs} runs, {completed} complete, {moves} moves, longest {longest}; NOT exhaustive: {bound}")
}

fn executed(counts: &SearchCounts) -> String {
    let MemoStats { executed, earlier, moves, rechecked, outcome_hits, .. } = counts.memo;
    let uses = counts.lookups.max(outcome_hits);
    format!(
        "{executed} steps on KVM{} for {moves} moves of executors; remembered for {uses} uses, {rechecked} of them \
         executed again and compared",
        if earlier == 0 { String::new() } else { format!(", {earlier} by an earlier search of this guest,") }
    )
}

fn stalls(stalls: &[Stall]) -> String {
    let window = |stall: &Stall| {
        let patcher = number(stall.patcher as usize, "patcher move", "patcher moves");
        format!("{patcher} ({} of all other actors)", stall.others)
    };
    match stalls {
        [first, rest @ ..] if rest.iter().all(|stall| stall == first) => window(first),
        _ => (0..).zip(stalls).map(|(cpu, stall)| format!("CPU {cpu} {}", window(stall))).join(", "),
    }
}

/// A violation with its schedule, unless an earlier finding has the same one.
fn finding(report: &Report, index: usize) -> String {
    let finding = &report.findings[index];
    let note = if finding.expected { "expected" } else { "NOT EXPECTED" };
    let mut out = format!("\n  {} ({note}): {}\n", finding.violation.property, finding.violation.detail);
    let earlier = report.findings[..index].iter().find(|earlier| earlier.schedule == finding.schedule);
    if let Some(earlier) = earlier.filter(|earlier| !earlier.schedule.is_empty()) {
        let _ = writeln!(out, "  the schedule is that of `{}` above", earlier.violation.property);
        return out;
    }
    let moves = number(finding.schedule.len(), "move", "moves");
    let _ = writeln!(out, "  {moves}, {}\n", number(finding.switches, "context switch", "context switches"));
    for line in finding.rendering.lines() {
        let _ = writeln!(out, "  {line}");
    }
    out
}

fn number(count: usize, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

fn list(numbers: &[u8]) -> String {
    numbers.iter().join(", ")
}

/// The number that all have, if there is one.
fn uniform(numbers: &[u8]) -> Option<u8> {
    numbers.iter().all_equal_value().ok().copied()
}

/// `2 passes each`, or the number of each executor in turn.
fn each(numbers: &[u8], one: &str, many: &str) -> String {
    match uniform(numbers) {
        Some(only) if numbers.len() == 1 => number(only.into(), one, many),
        Some(same) => format!("{} each", number(same.into(), one, many)),
        None => format!("{many} {}", list(numbers)),
    }
}

fn verdict(report: &Report) -> String {
    let text = match report.status {
        Status::Safe => "safe within the bounds below".to_owned(),
        Status::Vacuous => format!("vacuous, not safe: {}", report.vacuous.join("; ")),
        Status::Hazard => format!("hazard: {}", report.violated().join(", ")),
        Status::NotDecided => "not decided: no violation found".to_owned(),
        Status::Skipped | Status::HarnessError => no_verdict(report),
    };
    match (report.ended.and_then(cut_short), &report.sampled) {
        (Some((_, limit)), _) => format!("{text} (bounded, not exhaustive: {limit})"),
        (None, Some(_)) => format!("{text} (sampled, not exhaustive)"),
        (None, None) => text,
    }
}
