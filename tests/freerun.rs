//! The free-running tier: counts, invariants and forms. Nothing here depends on how long something takes, and the
//! only rates asserted are zeros that the CPU's vendor promises.

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};
use std::time::Duration;

use crossmod::freerun::survey::{
    Cell, Crosses, Odd, Pair, PairCell, PairRow, PairSeen, Side, Survey, SurveyOptions, survey,
};
use crossmod::machine::free::survey::Length;
use crossmod::plan::Ring;
use crossmod::report::survey as report;

use crate::{harness, kvm};

const BINARY: &str = env!("CARGO_BIN_EXE_crossmod");

/// Ignores the test that calls it where nothing can be counted: no KVM, an emulated CPU, or one CPU.
pub fn counting_required() {
    kvm::required();
    match (crossmod::host::emulated(), crossmod::machine::allowed_cpus().len()) {
        (true, _) => harness::ignore("an emulated CPU"),
        (_, 0 | 1) => harness::ignore("one CPU only"),
        _ => {}
    }
}

fn run(cells: Vec<Cell>) -> Survey {
    let pairs = vec![PairCell::across(Pair::ALL[0], 64)];
    let options =
        SurveyOptions { cells, pairs, duration: Duration::from_millis(1500), seed: 7, ring: Ring::User };
    // A thread of its own: the survey binds the one that calls it to a CPU.
    std::thread::spawn(move || survey(&options, |_| {}, |_| {}).unwrap()).join().unwrap()
}

#[test]
fn counts_add_up_and_each_side_has_run() {
    counting_required();
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
    assert!(survey.held() && survey.tier.contains("at ring 3"), "{:?}", survey.findings);
}

/// AMD promises that a fetch finds an aligned quadword as it was at one moment, and at none is the first half newer.
#[test]
fn inside_a_quadword_the_first_of_two_halves_is_never_the_newer_one() {
    counting_required();
    let lengths = [Length::Halves, Length::HalvesFence, Length::HalvesPause];
    let survey = run(lengths.map(|length| Cell::in_line(length, 0)).to_vec());
    let seen = || survey.rows.iter().flat_map(|row| &row.seen);
    let newer: u64 = seen().map(|seen| seen.counts.first_newer).sum();
    assert!(survey.host.vendor() != "amd" || newer == 0, "{newer}");
    assert!(seen().map(|seen| seen.stores).sum::<u64>() > 0);
    assert!(report::summary(&survey).contains("the blocks of one instruction are fetched in one order"));
}

fn run_pairs(pairs: Vec<PairCell>) -> Survey {
    let options = SurveyOptions {
        cells: Vec::new(),
        pairs,
        duration: Duration::from_millis(2500),
        seed: 7,
        ring: Ring::User,
    };
    std::thread::spawn(move || survey(&options, |_| {}, |_| {}).unwrap()).join().unwrap()
}

/// That each mix of bytes is a harmless instruction of its own is tried before anything is stored: an error otherwise.
#[test(long)]
fn every_pair_runs_everywhere_and_shows_both_versions_and_nothing_else_inside_a_quadword() {
    counting_required();
    let cells = PairCell::all();
    let survey = run_pairs(cells.clone());
    assert_eq!(survey.pairs.len(), cells.len());
    for row in &survey.pairs {
        let sides: Vec<Side> = row.seen.iter().map(|seen| seen.side).collect();
        let trap = row.pair.contains("int3");
        assert_eq!(sides.len(), PairRow::SIDES.len() - usize::from(trap), "{row:?}");
        for seen in &row.seen {
            assert!(seen.passes > 0, "{row:?}");
            assert_eq!(seen.old + seen.new + seen.torn, seen.passes, "{row:?}");
            assert_eq!((seen.unexplained, seen.exceptions), (0, 0), "{row:?}");
            assert_eq!(seen.mixes.values().sum::<u64>(), seen.torn, "{row:?}");
            let whole = !row.several_bytes || row.amd_promises_whole && survey.host.vendor() == "amd";
            assert!(!whole || seen.torn == 0, "{row:?}");
        }
    }
    // Not at each place: on a busy machine a writer may have had no turn in so short a time.
    for pair in Pair::ALL {
        let rows = survey.pairs.iter().filter(|row| row.pair == pair.name).flat_map(|row| &row.seen);
        let sum = |what: fn(&PairSeen) -> u64| rows.clone().map(what).sum::<u64>();
        let counts = [sum(|seen| seen.stores), sum(|seen| seen.old), sum(|seen| seen.new)];
        assert!(counts.iter().all(|&count| count > 0), "{pair:?}: {counts:?}");
    }
    let text = report::summary(&survey);
    assert!(text.contains("pairs claim torn only"), "{text}");
    assert!(report::pair(&survey.pairs[0]).starts_with("jmp <-> jmp       0  -        AMD"));
    let json = serde_json::to_string(&report::Document::new(&survey)).unwrap();
    let mut results = crossmod::report::free::SavedResults::default();
    results.add(&json).unwrap();
    assert_eq!(results.survey.as_ref().unwrap().pairs.len(), cells.len());
    let html = crossmod::report::free::html(&results);
    assert!(html.contains("Two instructions in turn") && html.contains("nop5 &lt;-&gt; jmp"), "{html}");
}

#[test]
fn a_mix_that_is_not_harmless_is_no_pair() {
    counting_required();
    let refused = |pair: Pair| {
        let cells = vec![PairCell::inside(pair)];
        let options = SurveyOptions {
            cells: Vec::new(),
            pairs: cells,
            duration: Duration::from_millis(100),
            seed: 7,
            ring: Ring::User,
        };
        let run = std::thread::spawn(move || survey(&options, |_| {}, |_| {}).unwrap_err().to_string());
        run.join().unwrap()
    };
    // One of the two is UD2.
    let error = refused(Pair { new: [0x0f, 0x0b, 0, 0, 0, 0, 0, 0], ..Pair::ALL[0] });
    assert!(error.contains("alone raises an exception"), "{error}");
    // Byte 5 does not change what a pass leaves.
    let mut new = Pair::ALL[0].new;
    new[5] = 0x90;
    let error = refused(Pair { new, ..Pair::ALL[0] });
    assert!(error.contains("leaves the same value in RAX as another mix"), "{error}");
}

#[test]
fn ring_0_is_surveyed_where_it_is_native_and_refused_where_it_is_emulated() {
    counting_required();
    let output =
        Command::new(BINARY).args(["survey", "--quick", "--seconds", "1", "--ring", "0"]).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    if crossmod::host::Host::read().emulates_ring_0() {
        assert_eq!(output.status.code(), Some(4), "{errors}");
        assert!(errors.contains("kvm_pvm emulates ring 0") && output.stdout.is_empty(), "{errors}");
        assert!(errors.contains("--ring 3"), "{errors}");
    } else {
        assert!(String::from_utf8_lossy(&output.stdout).contains("at ring 0;"), "{errors}");
    }
}

#[test]
fn what_the_vendor_promises_is_not_seen_broken() {
    counting_required();
    let quadwords = [Length::One, Length::Two, Length::Four, Length::Eight];
    let survey = run(quadwords.into_iter().map(|length| Cell::in_line(length, 0)).collect());
    for row in &survey.rows {
        assert!(row.cell.amd_promises_whole() && row.cell.crosses() == Crosses::Nothing);
        for seen in &row.seen {
            // Intel promises nothing of the kind, except that one byte has no parts.
            let whole = row.cell.length == Length::One || survey.host.vendor() == "amd";
            assert!(!whole || seen.counts.torn == 0, "{:?} {seen:?}", row.cell);
        }
        assert_eq!(row.side(Side::Serialised).unwrap().counts.stale, 0);
    }
    assert!(survey.findings.iter().all(|finding| !finding.broken), "{:?}", survey.findings);
}

#[test]
fn every_form_has_the_counts() {
    counting_required();
    let survey = run(vec![Cell::in_line(Length::Two, 63), Cell::in_line(Length::Five, 0)]);
    let passes = survey.rows[0].side(Side::Vcpu).unwrap().counts.passes;
    let json: serde_json::Value = serde_json::to_value(report::Document::new(&survey)).unwrap();
    assert_eq!(json["rows"][0]["seen"][1]["passes"], passes);
    assert_eq!(json["rows"][0]["seen"].as_array().unwrap().len(), Side::ALL.len());
    assert_eq!(json["rows"][0]["seen"][1]["side"], "vcpu");
    let place = ["length", "offset", "crosses", "amd_promises_whole"].map(|key| json["rows"][0][key].clone());
    assert_eq!(serde_json::Value::from(place.to_vec()), serde_json::json!(["2", 63, "line", false]));
    assert!(json["tier"].as_str().unwrap().contains("nothing here is replayable"));
    assert!(json["host"]["cpu"].is_string() && json["rules"].is_array() && json["classes"].is_array());
    let mut results = crossmod::report::free::SavedResults::default();
    results.add(&serde_json::to_string(&report::Document::new(&survey)).unwrap()).unwrap();
    let html = crossmod::report::free::html(&results);
    assert!(html.contains(&format!("of {passes}; crosses line")), "{html}");
    for network in ["<script", "http:", "https:", "@import", "src=", "url("] {
        assert!(!html.contains(network), "{network}");
    }
    let again = serde_json::to_string(&survey).unwrap();
    assert!(results.add(&again).unwrap_err().contains("second of its kind"));
    assert!(results.add("{}").unwrap_err().contains("neither a survey nor a benchmark"));
    let picture = report::map_svg(&survey);
    assert!(picture.starts_with("<svg") && picture.contains("AMD promises"), "{picture}");
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
    counting_required();
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
    counting_required();
    let (mut child, mut seen, mut lines) = started();
    child.kill().unwrap();
    lines.read_to_string(&mut seen).unwrap();
    child.wait().unwrap();
    // What comes behind the last place: killed before.
    assert!(!seen.contains("\nrules\n"), "{seen}");
    assert!(seen.lines().filter(|line| line.ends_with(" M")).count() >= 2, "{seen}");
}

#[test]
fn unusable_arguments_are_refused() {
    for arguments in [&["survey", "--seconds", "0"][..], &["survey", "--format", "ktap"]] {
        let output = Command::new(BINARY).args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
    }
}

#[test(long)]
fn the_bench_performs_every_protocol_and_loses_no_message() {
    use crossmod::freerun::bench::{Bench, BenchOptions, Case, Protocol, bench, compare};
    counting_required();
    let spare = crossmod::machine::allowed_cpus().len() - 1;
    let mut cases = Case::sweep(1, spare);
    cases.push(Case::plain(3));
    let count = cases.len();
    // The rounds end it, however busy the host is.
    let options = BenchOptions { cases, duration: Duration::from_secs(86_400), rounds: 5, seed: 7 };
    let bench = std::thread::spawn(move || bench(&options, |_| {}).unwrap()).join().unwrap();
    assert_eq!(bench.cases.len(), count);
    for outcome in &bench.cases {
        let case = outcome.case;
        assert_eq!(outcome.rounds, 5);
        assert_eq!(outcome.overcommitted, case.executors > spare);
        let protocols = Protocol::ALL.len() - usize::from(case.nmi_rate > 0);
        assert_eq!(outcome.lines.len(), protocols, "{case}");
        let nmis = outcome.nmis;
        assert_eq!((nmis.injected, nmis.pending), (nmis.delivered + nmis.coalesced, 0), "{case} {nmis:?}");
        assert!(nmis.coalesced <= nmis.crowded && (nmis.crowded > 0) <= (nmis.injected > 1), "{nmis:?}");
        for line in &outcome.lines {
            // Each message of each round, to each executor, seen by a handler; as many for all sites as for one.
            assert_eq!(line.sent, 5 * line.protocol.rounds() * case.executors as u64, "{case} {line:?}");
            assert_eq!(line.delivered, line.sent, "{case} {line:?}");
            if matches!(line.protocol, Protocol::Naive | Protocol::Atomic8 | Protocol::Stop) {
                assert_eq!(line.traps, 0, "{line:?}");
            }
            assert!(line.patch.p50 <= line.patch.p99 && line.patch.p99 <= line.patch.max, "{line:?}");
            assert_eq!(line.patch_ratio.is_none(), outcome.overcommitted, "{case} {line:?}");
            assert!(line.stall.max > 0, "{line:?}");
            // A round is part of a patch, and only what has rounds has their times; so with traps.
            assert_eq!(line.round.max > 0, line.protocol.rounds() > 0, "{line:?}");
            assert!(line.round.max <= line.patch.max + line.patch.max / 500, "{line:?}");
            assert_eq!(line.trap.max > 0, line.traps > 0, "{case} {line:?}");
            assert_eq!(line.a_site, line.patch.p50 as f64 / case.sites as f64);
        }
        let base = outcome.line(Protocol::BASE).unwrap();
        assert!(outcome.overcommitted || base.patch_ratio == Some(1.0) && base.stall_ratio == Some(1.0));
    }
    let text = crossmod::report::bench::text(&bench);
    assert!(
        text.contains("one round of messages") && text.contains("additional time of a pass with traps"),
        "{text}"
    );
    assert!(text.contains("256 sites") && text.contains("* overcommitted"), "{text}");
    // Saved and read again, it is the same, and has not changed.
    let json = serde_json::to_string(&bench).unwrap();
    let again: Bench = serde_json::from_str(&json).unwrap();
    for (then, now) in again.cases.iter().zip(&bench.cases) {
        assert_eq!((then.case, then.lines.len()), (now.case, now.lines.len()));
        assert!(then.lines.iter().zip(&now.lines).all(|(then, now)| then.ratios == now.ratios));
    }
    let changes = compare(&again, &bench, 7).unwrap();
    assert_eq!(changes.len(), 2 * (Protocol::ALL.len() - 1));
    assert!(changes.iter().all(|change| change.then == change.now), "{changes:?}");
    let mut other = again.clone();
    other.cases.remove(0);
    assert!(compare(&other, &bench, 7).unwrap_err().contains("plain case is another"));
    let mut results = crossmod::report::free::SavedResults::default();
    results.add(&json).unwrap();
    let html = crossmod::report::free::html(&results);
    for (what, least) in [("<svg", 7), ("class=\"hollow\"", 9), ("stop_machine", 8)] {
        assert!(html.matches(what).count() >= least, "{what}");
    }
    assert!(!html.contains("<script") && !html.contains("http:") && !html.contains("NaN"));
    let picture = crossmod::report::bench::comparison_svg(&bench).unwrap();
    assert!(picture.starts_with("<svg") && picture.contains("stop_machine"));
}

#[test(long)]
fn saved_results_make_a_page_and_what_is_none_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("no-result.json");
    std::fs::write(&file, "{\"rows\": 1}").unwrap();
    let file = file.to_str().unwrap();
    for arguments in [
        &["report", file][..],
        &["report", "no-such.json"],
        &["bench", "--plain", "--rounds", "1", "--compare", file],
    ] {
        let output = Command::new(BINARY).args(arguments).output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{errors}");
        assert!(errors.contains("json") && errors.contains("crossmod"), "{errors}");
    }
    counting_required();
    let saved = directory.path().join("bench.json");
    let saved = saved.to_str().unwrap();
    let run = |arguments: &[&str]| {
        let output = Command::new(BINARY).args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    run(&["bench", "--plain", "--rounds", "30", "--save", saved]);
    let text = run(&["bench", "--plain", "--rounds", "30", "--compare", saved]);
    assert_eq!(text.matches("significan").count(), 16, "{text}");
    // Of another machine: refused before anything is measured.
    let mut other: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(saved).unwrap()).unwrap();
    other["host"]["cpu"] = "an i486".into();
    std::fs::write(file, other.to_string()).unwrap();
    let output = Command::new(BINARY).args(["bench", "--plain", "--compare", file]).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{errors}");
    assert!(errors.contains("another machine: an i486, and here") && errors.contains(file), "{errors}");
    assert!(errors.contains("crossmod bench --save") && output.stdout.is_empty(), "{errors}");
    assert!(run(&["report", saved]).starts_with("<!DOCTYPE html>"));
    run(&["report", saved, "--pictures", directory.path().to_str().unwrap()]);
    assert!(directory.path().join("protocols.svg").exists());
}

#[test]
fn an_exception_in_the_guest_is_counted_and_the_executor_goes_on() {
    use crossmod::machine::free::survey::{Job, Pinning, Shape, SurveyVm, Writer};
    counting_required();
    let exceptions = std::thread::spawn(|| {
        let cpus = crossmod::machine::allowed_cpus();
        let cell = Cell::in_line(Length::One, 0);
        let job = Job {
            site: cell.site(),
            code: vec![0x0f, 0x0b], // ud2; the writer stores to a byte that is not executed
            store: cell.store + 8,
            length: cell.length,
            alternating: None,
            shape: Shape::Tight,
            spacing: 127,
            seed: 7,
            duration: Duration::from_millis(100),
        };
        let place = Pinning { executor: cpus[0], writer: cpus[1] };
        let mut machine = SurveyVm::new(Ring::User).unwrap();
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
