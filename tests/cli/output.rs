//! What works, in every format; exit statuses; pipes.

use std::io::{BufRead, BufReader, Read};
use std::process::{Command as Process, Stdio};

use super::{BROKEN, HARNESS, HELD, NOT_HELD, SKIPPED, crossmod, ok, run, write};
use crate::{kvm, shipped};

#[test]
fn what_is_listed_can_be_shown_and_what_is_shown_can_be_listed() {
    let list = ok(&["list"]).out;
    let json: serde_json::Value = serde_json::from_str(&ok(&["list", "--json"]).out).unwrap();
    let rows = json.as_array().unwrap();
    assert_eq!(rows.len(), crossmod::scenario::library().len());
    for row in rows {
        let (name, title) = (row["name"].as_str().unwrap(), row["title"].as_str().unwrap());
        assert!(list.lines().any(|line| line.starts_with(name) && line.ends_with(title)), "{name}");
    }
    let filtered = ok(&["list", "linux/"]).out;
    let listed = filtered.lines().filter(|line| line.starts_with("linux/")).count();
    assert_eq!(listed, shipped::group("linux").len(), "{filtered}");
    assert!(!filtered.contains("seed/"), "{filtered}");
    let shown = ok(&["show", "seed/fixup"]).out;
    assert_eq!(shown, include_str!("../../vmm/scenarios/seed/fixup.toml"));
    assert!(ok(&["show", "protocols/text_poke_fixup"]).out.contains("[[step]]"));
}

#[test]
fn a_scenario_is_checked_by_name_by_file_and_by_directory() {
    kvm::required();
    let by_name = ok(&["check", "seed/fixup"]);
    assert!(by_name.out.contains("safe within the bounds"), "{}", by_name.out);
    assert!(by_name.out.contains("1 as expected, 0 not, 0 skipped"), "{}", by_name.out);
    let directory = tempfile::tempdir().unwrap();
    let file = write(directory.path(), "mine.toml", ok(&["show", "seed/fixup"]).out);
    write(directory.path(), "also.toml", BROKEN);
    write(directory.path(), "notes.txt", "not a scenario");
    let by_file = ok(&["check", &file]);
    let hash = |text: &str| text.lines().find(|line| line.contains("hash ")).map(str::to_owned);
    assert!(hash(&by_name.out).is_some());
    assert_eq!(hash(&by_name.out), hash(&by_file.out));
    let by_directory = ok(&["check", directory.path().to_str().unwrap()]);
    assert!(by_directory.out.contains("2 as expected, 0 not"), "{}", by_directory.out);
    let group = ok(&["check", "linux", "--timeout", "600"]);
    assert!(group.out.contains(" 0 not, 0 skipped, 0 harness errors"), "{}", group.out);
}

#[test]
fn nothing_but_results_is_printed_where_there_is_no_terminal() {
    kvm::required();
    let run = ok(&["check", "seed/hold-2", "seed/fixup"]);
    assert_eq!(run.err, "", "no progress, no noise");
    assert!(!run.out.contains('\u{1b}') && !run.out.contains('\r'), "{}", run.out);
}

#[test]
fn json_ktap_and_junit_tell_the_same() {
    kvm::required();
    let directory = tempfile::tempdir().unwrap();
    let wrong = write(directory.path(), "wrong.toml", BROKEN.replace("[\"unserialised\"]", "\"safe\""));
    let check = |format| run(&mut crossmod(&["check", "seed/fixup", &wrong, "--format", format]));

    let json = check("json");
    assert_eq!(json.status, NOT_HELD);
    let suite: serde_json::Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!(suite["image"], crossmod::image::Image::digest());
    let reports = suite["reports"].as_array().unwrap();
    let held: Vec<_> = reports.iter().map(|report| report["as_expected"].as_bool().unwrap()).collect();
    assert_eq!(held, [true, false]);
    assert_eq!(reports[0]["status"], "safe");
    assert_eq!(reports[1]["findings"][0]["violation"]["property"], "unserialised");
    assert!(reports[0]["counts"]["states"].as_u64().unwrap() > 100);

    let ktap = check("ktap");
    assert_eq!(ktap.status, NOT_HELD);
    let mut lines = ktap.out.lines();
    assert_eq!((lines.next(), lines.next()), (Some("KTAP version 1"), Some("1..2")));
    let results: Vec<&str> = lines.filter(|line| !line.starts_with('#')).collect();
    assert_eq!(results[0], "ok 1 seed/fixup");
    assert!(results[1].starts_with("not ok 2 ") && results[1].ends_with("/wrong"), "{results:?}");
    assert_eq!(results.len(), 2);

    let junit = check("junit");
    assert_eq!(junit.status, NOT_HELD);
    assert!(junit.out.starts_with("<?xml"), "{}", junit.out);
    let count = |text| junit.out.matches(text).count();
    assert_eq!((count("<testcase "), count("</testcase>") + count("/>")), (2, 2), "{}", junit.out);
    assert_eq!((count("<failure"), count("</failure>")), (1, 1));
    assert!(junit.out.contains("tests=\"2\"") && junit.out.contains("failures=\"1\""), "{}", junit.out);
}

#[test]
fn what_was_not_expected_and_what_could_not_run_have_their_statuses() {
    kvm::required();
    let directory = tempfile::tempdir().unwrap();
    for (expect, status) in [("[\"unserialised\"]", HELD), ("\"safe\"", NOT_HELD), ("[\"torn\"]", NOT_HELD)] {
        let file = write(directory.path(), "x.toml", BROKEN.replace("[\"unserialised\"]", expect));
        let run = run(&mut crossmod(&["check", &file]));
        assert_eq!(run.status, status, "{expect}: {}{}", run.out, run.err);
        assert!(run.out.contains("unserialised"), "{}", run.out);
        assert_eq!(run.out.contains("NOT EXPECTED"), status == NOT_HELD, "{}", run.out);
    }
    // Interrupts-off executors do not exist at ring 3.
    let skipped = run(&mut crossmod(&["check", "seed/retry-irqs-off", "--ring", "3"]));
    assert_eq!(skipped.status, SKIPPED, "{}{}", skipped.out, skipped.err);
    assert!(skipped.out.contains("skipped"), "{}", skipped.out);
    // A bound that is met decides nothing: no pass.
    let bounded = run(&mut crossmod(&["check", "seed/hold-2", "--max-states", "50"]));
    assert_eq!(bounded.status, NOT_HELD, "{}", bounded.out);
    assert!(bounded.out.contains("not exhaustive: the limit of states"), "{}", bounded.out);
}

/// The same, of the whole program: in the lab nothing that it prints is a time, elsewhere the table has them.
#[test]
fn times_are_printed_on_silicon_only() {
    kvm::required();
    let emulated = crossmod::host::emulated();
    let has_time = |text: &str| {
        let words: Vec<&str> = text.split_whitespace().collect();
        words.windows(2).any(|pair| {
            pair[0].parse::<f64>().is_ok()
                && matches!(pair[1].trim_end_matches(';'), "s" | "ms" | "µs" | "ns")
        })
    };
    for arguments in
        [&["check", "seed/naive-store", "seed/stop-machine"][..], &["check", "seed/stop-machine"]]
    {
        let run = ok(arguments);
        assert_eq!(has_time(&run.out), !emulated, "{}", run.out);
        assert_eq!(run.out.contains("QEMU/TCG lab: correctness only"), emulated, "{}", run.out);
    }
    for format in ["json", "ktap", "junit"] {
        let run = ok(&["check", "seed/stop-machine", "--format", format]);
        let time = run.out.contains(" time=") || run.out.contains("\"seconds\": 0.");
        assert_eq!(time, !emulated && format != "ktap", "{}", run.out);
    }
    let probe = ok(&["probe"]);
    assert!(!has_time(&probe.out), "{}", probe.out);
}

#[test]
fn probe_tells_facts_with_consequences() {
    kvm::required();
    let text = run(&mut crossmod(&["probe"]));
    let json = run(&mut crossmod(&["probe", "--json"]));
    let probe: serde_json::Value = serde_json::from_str(&json.out).unwrap();
    let usable = probe["usable"].as_bool().unwrap();
    assert_eq!((text.status, json.status), if usable { (HELD, HELD) } else { (SKIPPED, SKIPPED) });
    let facts = probe["facts"].as_array().unwrap();
    assert!(facts.len() >= 10, "{facts:?}");
    let known = probe["capabilities"].as_object().unwrap();
    for feature in crossmod::machine::Feature::ALL {
        assert!(known.contains_key(&feature.to_string()), "{feature}");
    }
    for fact in facts {
        let part = |name: &str| fact[name].as_str().unwrap().to_owned();
        assert!(text.out.contains(&format!("{}: {}", part("question"), part("answer"))), "{fact}");
        assert!(text.out.contains(&part("consequence")), "{fact}");
    }
}

/// The pipe is closed before anything is written to it, so that every write fails.
fn assert_ends_into_a_closed_pipe(arguments: &[&str], status: i32) {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let child = Process::new(env!("CARGO_BIN_EXE_crossmod"))
        .args(arguments)
        .stdout(writer)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let output = child.wait_with_output().unwrap();
    let err = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(status), "{arguments:?}: {err}");
    assert_eq!(err, "", "{arguments:?}");
}

#[test]
fn a_closed_pipe_is_no_error_and_changes_no_status() {
    for arguments in [&["list"][..], &["show", "seed/fixup"], &["--help"]] {
        assert_ends_into_a_closed_pipe(arguments, HELD);
    }
}

#[test]
fn a_closed_pipe_changes_no_verdict() {
    kvm::required();
    let directory = tempfile::tempdir().unwrap();
    let wrong = write(directory.path(), "wrong.toml", BROKEN.replace("[\"unserialised\"]", "\"safe\""));
    assert_ends_into_a_closed_pipe(&["check", "seed/fixup"], HELD);
    assert_ends_into_a_closed_pipe(&["check", &wrong], NOT_HELD);
    assert_ends_into_a_closed_pipe(&["check", &wrong, "--format", "json"], NOT_HELD);
}

#[test]
fn a_reader_that_wants_one_line_gets_one() {
    let mut child = Process::new(env!("CARGO_BIN_EXE_crossmod"))
        .arg("list")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.contains('/'), "{line}");
    let mut err = String::new();
    child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
    assert_eq!((child.wait().unwrap().code(), err.as_str()), (Some(HELD), ""));
}

/// A result that cannot be written is not a result.
#[test]
fn a_full_disk_is_an_error() {
    let full = || std::fs::File::options().write(true).open("/dev/full").unwrap();
    for arguments in [&["list"][..], &["show", "seed/fixup"]] {
        let output =
            Process::new(env!("CARGO_BIN_EXE_crossmod")).args(arguments).stdout(full()).output().unwrap();
        let err = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(HARNESS), "{arguments:?}: {err}");
        assert!(err.contains("standard output: No space left"), "{err}");
    }
}
