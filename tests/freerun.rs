//! The free-running tier: counts, invariants and forms. Nothing here depends on how long something takes, and the
//! only rates asserted are zeros that the CPU's vendor promises.

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};
use std::time::Duration;

use crossmod::freerun::cell::{Cell, Crosses};
use crossmod::freerun::outcome::Odd;
use crossmod::freerun::{Options, Side, Survey, survey};
use crossmod::machine::free::Length;
use crossmod::report::survey as report;

use crate::kvm;

const BINARY: &str = env!("CARGO_BIN_EXE_crossmod");

/// Where nothing can be counted: no KVM, an emulated CPU, or one CPU.
pub fn possible() -> bool {
    if !kvm::required() {
        return false;
    }
    let reason = match (crossmod::host::emulated(), crossmod::machine::allowed_cpus().len()) {
        (true, _) => "an emulated CPU",
        (_, 0 | 1) => "one CPU only",
        _ => return true,
    };
    eprintln!("\n*** SKIPPED, NOTHING WAS COUNTED: {reason} ***\n");
    false
}

fn run(cells: Vec<Cell>) -> Survey {
    let options = Options { cells, duration: Duration::from_millis(1500), seed: 7 };
    // A thread of its own: the survey binds the one that calls it to a CPU.
    std::thread::spawn(move || survey(&options, |_| {}, |_| {}).unwrap()).join().unwrap()
}

#[test]
fn counts_add_up_and_each_side_has_run() {
    if !possible() {
        return;
    }
    let survey = run(vec![Cell::in_line(Length::Four, 0), Cell::across_pages(Length::Eight, 3)]);
    assert_eq!(survey.rows.len(), 2);
    for row in &survey.rows {
        let sides: Vec<Side> = row.seen.iter().map(|seen| seen.side).collect();
        assert_eq!(sides, Side::ALL);
        for seen in &row.seen {
            let counts = &seen.counts;
            assert!(counts.passes > 0 && seen.stores > 0, "{seen:?}");
            let whole = counts.old + counts.new + counts.ahead + counts.unplaced;
            // Mixes with a stale byte are counted under `stale` as well.
            assert!(whole + counts.torn <= counts.passes, "{seen:?}");
            assert!(whole + counts.torn + counts.stale >= counts.passes, "{seen:?}");
            let torn: u64 =
                seen.odd.iter().filter(|(odd, _)| matches!(odd, Odd::Torn(_))).map(|(_, count)| count).sum();
            assert!(torn <= counts.torn && torn + seen.unasked >= counts.torn, "{seen:?}");
            assert_eq!((counts.ahead, counts.exceptions), (0, 0), "{seen:?}");
        }
    }
    assert_eq!(survey.models.len(), 8);
}

#[test]
fn what_the_vendor_promises_is_not_seen_broken() {
    if !possible() {
        return;
    }
    let quadwords = [Length::One, Length::Two, Length::Four, Length::Eight];
    let survey = run(quadwords.into_iter().map(|length| Cell::in_line(length, 0)).collect());
    for row in &survey.rows {
        assert!(row.amd_promises_whole && row.crosses == Crosses::Nothing);
        for seen in &row.seen {
            assert_eq!(seen.counts.torn, 0, "{:?} {seen:?}", row.length);
        }
        assert_eq!(row.side(Side::Serialised).unwrap().counts.stale, 0);
    }
    assert!(survey.findings.iter().all(|finding| !finding.broken), "{:?}", survey.findings);
}

#[test]
fn every_form_has_the_counts() {
    if !possible() {
        return;
    }
    let survey = run(vec![Cell::in_line(Length::Two, 63), Cell::in_line(Length::Five, 0)]);
    let passes = survey.rows[0].side(Side::Vcpu).unwrap().counts.passes;
    let json: serde_json::Value = serde_json::to_value(report::Document::new(&survey)).unwrap();
    assert_eq!(json["rows"][0]["seen"][1]["passes"], passes);
    assert_eq!(json["rows"][0]["seen"][1]["side"], "vcpu");
    assert!(json["tier"].as_str().unwrap().contains("nothing here is replayable"));
    assert!(json["host"]["cpu"].is_string() && json["rules"].is_array() && json["classes"].is_array());
    let html = report::html(&survey);
    assert!(html.contains(&format!("of {passes}; crosses line")), "{html}");
    for network in ["<script", "http://", "https://", "@import"] {
        assert!(!html.contains(network), "{network}");
    }
    let text = report::summary(&survey);
    assert!(text.contains("rules") && text.contains("observed is allowed"), "{text}");
}

/// Starts a survey in text form and reads lines until the second place is done.
fn started() -> (std::process::Child, String, BufReader<std::process::ChildStdout>) {
    let mut child = Command::new(BINARY)
        .args(["survey", "--quick", "--seconds", "60"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    let mut seen = String::new();
    while seen.lines().filter(|line| line.ends_with(" M")).count() < 2 {
        assert!(lines.read_line(&mut seen).unwrap() > 0, "ended early: {seen}");
    }
    (child, seen, lines)
}

#[test]
fn an_interrupted_survey_prints_what_it_knows() {
    if !possible() {
        return;
    }
    let (child, mut seen, mut lines) = started();
    // SAFETY: the child is ours and not yet waited for.
    unsafe { libc::kill(child.id() as i32, libc::SIGINT) };
    lines.read_to_string(&mut seen).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{seen}");
    assert!(seen.contains("INTERRUPTED") && seen.contains("rules"), "{seen}");
}

#[test]
fn a_killed_survey_has_printed_each_place_that_was_done() {
    if !possible() {
        return;
    }
    let (mut child, mut seen, mut lines) = started();
    child.kill().unwrap();
    lines.read_to_string(&mut seen).unwrap();
    child.wait().unwrap();
    assert!(seen.lines().filter(|line| line.ends_with(" M")).count() >= 2, "{seen}");
}

#[test]
fn unusable_arguments_are_refused() {
    for arguments in [&["survey", "--seconds", "0"][..], &["survey", "--format", "ktap"]] {
        let output = Command::new(BINARY).args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
    }
}

#[test]
fn the_bench_performs_every_protocol_and_loses_no_message() {
    use crossmod::freerun::bench::{Options, Protocol, bench};
    if !possible() {
        return;
    }
    for executors in [1, 3] {
        let options = Options { executors, duration: Duration::from_secs(60), rounds: 5, seed: 7 };
        let bench = std::thread::spawn(move || bench(&options).unwrap()).join().unwrap();
        assert_eq!((bench.rounds, bench.lines.len()), (5, Protocol::ALL.len()));
        assert_eq!(bench.overcommitted, executors > crossmod::machine::allowed_cpus().len() - 1);
        for line in &bench.lines {
            assert_eq!(line.patches, 5);
            // Each message of each round, to each executor, seen by a handler.
            assert_eq!(line.sent, 5 * line.protocol.rounds() * executors as u64, "{line:?}");
            assert_eq!(line.delivered, line.sent, "{line:?}");
            if matches!(line.protocol, Protocol::Naive | Protocol::Atomic8 | Protocol::Stop) {
                assert_eq!(line.traps, 0, "{line:?}");
            }
            assert!(line.patch.p50 <= line.patch.p99 && line.patch.p99 <= line.patch.max, "{line:?}");
            assert!(line.stall.max > 0 && line.patch_ratio > 0.0 && line.stall_ratio > 0.0, "{line:?}");
        }
        let base = bench.lines.iter().find(|line| line.protocol == Protocol::BASE).unwrap();
        assert_eq!((base.patch_ratio, base.stall_ratio), (1.0, 1.0));
        let text = crossmod::report::bench::text(&bench);
        assert_eq!(text.contains("OVERCOMMITTED"), bench.overcommitted, "{text}");
        for protocol in Protocol::ALL {
            assert_eq!(
                text.matches(protocol.name()).count(),
                2 + usize::from(protocol == Protocol::BASE),
                "{text}"
            );
        }
    }
}

#[test]
fn an_exception_in_the_guest_is_counted_and_the_executor_goes_on() {
    use crossmod::machine::free::{FreeMachine, Job, Place, Writer};
    if !possible() {
        return;
    }
    let exceptions = std::thread::spawn(|| {
        let cpus = crossmod::machine::allowed_cpus();
        let cell = Cell::in_line(Length::One, 0);
        let job = Job {
            site: cell.site(),
            code: vec![0x0f, 0x0b], // ud2; the writer stores to a byte that is not executed
            store: cell.store + 8,
            length: cell.length,
            serialised: false,
            spacing: 127,
            seed: 7,
            duration: Duration::from_millis(100),
        };
        let place = Place { executor: cpus[0], writer: cpus[1] };
        let mut machine = FreeMachine::new().unwrap();
        let slice = machine.slice(&job, Writer::Vcpu, place, |_| panic!("no pass can be complete")).unwrap();
        assert_eq!(slice.passes, 0);
        // The same machine still works.
        let job = Job { code: cell.code(), store: cell.store, ..job };
        let mut passes = 0;
        let after = machine.slice(&job, Writer::Host, place, |batch| passes += batch.len() as u64).unwrap();
        assert!(after.exceptions.is_empty() && passes > 0 && after.passes == passes);
        slice.exceptions
    })
    .join()
    .unwrap();
    assert!(exceptions.len() > 1 && exceptions.iter().all(|&vector| vector == 6), "{exceptions:?}");
}
