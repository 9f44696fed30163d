//! Trace files: replayed, and refused or contradicted when they were changed.

use serde_json::{Value, json};

use super::{HARNESS, HELD, UNUSABLE, crossmod, ok, refused, run, write};
use crate::kvm;

/// A trace of a torn site, and a directory for it and its changed copies.
fn trace() -> (tempfile::TempDir, Value) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_str().unwrap();
    ok(&["check", "seed/naive-store-crossing-line", "--traces", path]);
    let file = directory.path().join("seed.naive-store-crossing-line.torn.trace.json");
    let text = std::fs::read_to_string(file).unwrap();
    (directory, serde_json::from_str(&text).unwrap())
}

#[test]
fn the_command_that_a_check_prints_replays_the_finding() {
    kvm::required();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_str().unwrap();
    for patcher in [&[][..], &["--patcher", "vcpu"]] {
        let check = [&["check", "seed/naive-store-crossing-line", "--traces", path], patcher].concat();
        let found = run(&mut crossmod(&check)).out;
        let commands: Vec<&str> =
            found.lines().filter_map(|line| line.trim().strip_prefix("crossmod ")).collect();
        assert!(commands.len() >= 2, "{found}");
        for command in commands {
            let arguments: Vec<&str> = command.split(' ').collect();
            let replayed = ok(&arguments).out;
            assert!(
                replayed.contains("reproduced 1 of 1") && replayed.contains("every state equal"),
                "{replayed}"
            );
            assert!(replayed.contains("CPU 0"), "a column for each CPU: {replayed}");
            assert_eq!(replayed.contains("patcher.store"), !patcher.is_empty(), "{replayed}");
        }
    }
    let torn = directory.path().join("seed.naive-store-crossing-line.torn.trace.json");
    let quiet = ok(&["replay", "--quiet", "--times", "3", torn.to_str().unwrap()]).out;
    assert!(quiet.contains("reproduced 3 of 3") && !quiet.contains("CPU 0"), "{quiet}");
}

#[test]
fn traces_of_something_else_are_refused_with_a_reason() {
    kvm::required();
    let (directory, trace) = trace();
    let text = trace["text"].as_str().unwrap();
    let zeroes = "0".repeat(64);
    for (key, value, parts) in [
        ("format", json!(1), &["another format", "it has 1, this program has 2"][..]),
        ("image", json!(zeroes), &["another guest image", &zeroes]),
        ("plan", json!(zeroes), &["another plan", &zeroes]),
        ("text", json!(text.replace("nop5", "nop6")), &["the scenario inside the trace"]),
        ("text", json!(""), &["the scenario inside the trace"]),
        ("text", json!(format!("{text}\n[executors]\ncount = 1\n")), &["another plan"]),
        ("ring", json!(3), &["another plan"]),
        ("fetch", json!("line"), &["another plan"]),
        ("fetch", json!("itanium"), &["unknown fetch model `itanium`"]),
        ("ring", json!(7), &["ring 0 or 3, not 7"]),
        ("violation", json!({ "property": "torn-ish", "detail": "" }), &["not a trace", "torn-ish"]),
        ("moves", json!([{ "move": "jump", "state": "" }]), &["move 1", "`jump`"]),
        ("moves", json!("none"), &["not a trace"]),
    ] {
        let mut changed = trace.clone();
        assert!(changed.get(key).is_some(), "{key}");
        changed[key] = value;
        let path = write(directory.path(), "changed.json", changed.to_string());
        refused(&["replay", &path], &[parts, &["changed.json"]].concat());
    }
    let mut extended = trace.clone();
    extended["comment"] = json!("x");
    let path = write(directory.path(), "extended.json", extended.to_string());
    refused(&["replay", &path], &["extended.json", "unknown field `comment`"]);
}

#[test]
fn files_that_are_no_traces_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    for (name, bytes, part) in [
        ("empty.json", &b""[..], "not a trace: EOF"),
        ("cut.json", b"{\"format\": 1, \"crossmod\": \"0.1", "not a trace: EOF"),
        ("garbage.json", b"\x00\xff\xfe\x80", "not UTF-8 text"),
        ("list.json", b"[1, 2]", "not a trace"),
        ("number.json", b"{\"format\": -1}", "not a trace"),
        ("deep.json", "[".repeat(100_000).as_bytes(), "not a trace"),
    ] {
        let path = write(directory.path(), name, bytes);
        refused(&["replay", &path], &[name, part]);
    }
    refused(&["replay", directory.path().to_str().unwrap()], &["this is a directory"]);
}

#[test]
fn a_trace_that_does_not_happen_names_its_first_differing_step() {
    kvm::required();
    let (directory, trace) = trace();
    let moves = trace["moves"].as_array().unwrap().clone();
    assert!(moves.len() >= 4, "{moves:?}");
    let contradicted = |name: &str, change: &dyn Fn(&mut Value), parts: &[&str]| {
        let mut changed = trace.clone();
        change(&mut changed);
        let path = write(directory.path(), name, changed.to_string());
        let run = run(&mut crossmod(&["replay", &path]));
        assert_eq!(run.status, HARNESS, "{name}: {}{}", run.out, run.err);
        for part in [parts, &[name, "not reproduced"]].concat() {
            assert!(run.err.contains(part), "{name} does not say `{part}`: {}", run.err);
        }
    };
    let step = |index: usize| moves[index]["move"].as_str().unwrap().to_owned();
    let zeroes = "0".repeat(32);
    contradicted("initial.json", &|trace| trace["initial"] = json!(zeroes), &["the initial state differs"]);
    contradicted(
        "hash.json",
        &|trace| trace["moves"][2]["state"] = json!(zeroes),
        &[&format!("the state after move 3 (`{}`) differs", step(2))],
    );
    contradicted(
        "impossible.json",
        &|trace| trace["moves"][1]["move"] = json!("nmi 0"),
        &["move 2 (`nmi 0`) is not possible in the state before it"],
    );
    contradicted(
        "short.json",
        &|trace| {
            trace["moves"].as_array_mut().unwrap().pop();
        },
        &["does not violate `torn`"],
    );
    contradicted(
        "other.json",
        &|trace| trace["violation"]["property"] = json!("recursion"),
        &["does not violate `recursion`"],
    );
    // Not one of these was the original's fault.
    let path = write(directory.path(), "original.json", trace.to_string());
    let run = run(&mut crossmod(&["replay", &path]));
    assert_eq!(run.status, HELD, "{}", run.err);
    assert_ne!(HARNESS, UNUSABLE);
}
