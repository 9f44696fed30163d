//! Fetch models: what each lets the int3 protocol and its mutants show, and that what is seen is executed.

use std::collections::BTreeMap;

use crossmod::fetch::FetchModel;
use crossmod::property::Property;
use crossmod::report::detail;
use crossmod::{CheckOptions, Checker, Scenario};

use crate::bench::{inline, options, plain, violated};
use crate::{harness, kvm, shipped};

/// Inside one quadword, across two of one line, across two lines.
const OFFSETS: [u64; 3] = [0x100, 0x106, 0x13e];

fn protocol(name: &str, changes: &str, offset: u64) -> Scenario {
    let text = format!(
        "protocol = \"{name}\"\n{changes}\n[site]\nold = \"nop5\"\nnew = \"jmp32\"\noffset = {offset:#x}\n\
         [executors]\ncount = 1\npasses = 2\n"
    );
    inline("fetch", &text)
}

/// What a scenario violates, `unserialised` aside, in one word each.
fn shown(checker: &mut Checker, scenario: &Scenario, model: &str) -> String {
    let options = CheckOptions { fetch: Some(model.parse().unwrap()), ..options() };
    let report = checker.check(scenario, &options, |_| {}).unwrap();
    let found: Vec<&str> = violated(&report)
        .into_iter()
        .filter(|property| *property != Property::Unserialised)
        .map(Property::short)
        .collect();
    if found.is_empty() { "safe".into() } else { found.join(" ") }
}

/// Atoms of 8 bytes divide the second and third site, those of 32 and 64 only the third. Where nothing is divided,
/// program order, block order and whole lines are the same.
#[test]
fn the_int3_protocol_and_its_mutants_under_every_preset() {
    kvm::required();
    // For each change: coherent, then stale fetches with the site in one atom; across two in program order;
    // the same in block order; byte by byte in any order.
    let rows = [
        ("text_poke_fixup", "", ["safe", "safe", "safe", "safe", "safe"]),
        ("text_poke_fixup", "without = [\"sync-int3\"]", ["safe", "safe", "torn", "torn", "torn"]),
        ("text_poke_fixup", "without = [\"sync-tail\"]", ["safe", "safe", "safe", "torn", "torn"]),
        (
            "text_poke_fixup",
            "without = [\"sync-first\"]",
            ["trap", "stale trap", "stale trap", "stale trap", "stale trap"],
        ),
        ("plain_store", "", ["safe", "stale", "torn stale", "torn stale", "torn order stale"]),
    ];
    let mut checker = harness::checker();
    for (name, changes, expected) in rows {
        for offset in OFFSETS {
            let scenario = protocol(name, changes, offset);
            for model in FetchModel::preset_names() {
                let divided = match model {
                    "amd" | "amd-block" => offset != OFFSETS[0],
                    _ => offset == OFFSETS[2],
                };
                let expected = match model {
                    // One piece of a store is committed without the other.
                    "coherent" if divided && name == "plain_store" => "torn",
                    "coherent" => expected[0],
                    "intel" => expected[4],
                    _ if !divided => expected[1],
                    "amd-block" | "half-line-block" | "line-block" => expected[3],
                    _ => expected[2],
                };
                let shown = shown(&mut checker, &scenario, model);
                assert_eq!(shown, expected, "{name} {changes} at {offset:#x} under {model}");
            }
        }
    }
}

#[test]
fn the_intact_protocol_is_unserialised_under_no_preset() {
    kvm::required();
    let mut checker = harness::checker();
    for offset in OFFSETS {
        for fetch in FetchModel::presets() {
            let options = CheckOptions { fetch: Some(fetch), ..options() };
            let report = checker.check(&protocol("text_poke_fixup", "", offset), &options, |_| {}).unwrap();
            assert!(report.findings.is_empty() && report.holds(), "{}", detail(&report));
        }
    }
}

/// The one choice that is not made is that of all: a site of one block under one clock is the same as with a
/// clock for each block, and a fetch that is never stale is the coherent one whatever the order is called.
#[test]
fn custom_parameters_are_what_the_presets_are_made_of() {
    kvm::required();
    let mut checker = harness::checker();
    let scenario = protocol("text_poke_fixup", "without = [\"sync-tail\"]", OFFSETS[1]);
    for (custom, like) in [
        ("atom=8,stale,program", "amd"),
        ("atom=16,stale,program", "line"),
        ("atom=1,stale,any", "intel"),
        ("atom=64,fresh", "coherent"),
        ("atom=8,stale,block", "amd-block"),
    ] {
        assert_eq!(shown(&mut checker, &scenario, custom), shown(&mut checker, &scenario, like), "{custom}");
    }
    // Byte by byte, but in order: the tail is older than the first byte, and a clock does not go back.
    assert_eq!(shown(&mut checker, &scenario, "atom=1,stale,program"), "safe");
    assert_eq!(shown(&mut checker, &scenario, "atom=1,stale,block"), "torn");
}

/// A stale fetch is executed by KVM, says so in the schedule, and replays.
#[test]
fn stale_bytes_are_executed_and_shown_as_such() {
    kvm::required();
    let mut checker = harness::checker();
    let options = CheckOptions { fetch: Some("line".parse().unwrap()), ..options() };
    let report = checker.check(&protocol("plain_store", "", OFFSETS[0]), &options, |_| {}).unwrap();
    let stale = report.finding(Property::Stale).unwrap();
    assert!(stale.rendering.contains("[stale]"), "{}", stale.rendering);
    let trace = stale.trace.as_ref().unwrap();
    assert_eq!(trace.fetch, "line");
    let replayed = checker.replay(trace, 80).unwrap();
    assert_eq!(replayed.difference, None);
    // Which view was chosen is part of the schedule.
    let chosen = trace.moves.iter().position(|step| step.step.starts_with("execute 0 view")).or_else(|| {
        // The oldest view is number 0, and needs no mention.
        trace.moves.iter().rposition(|step| step.step == "execute 0")
    });
    let mut other = trace.clone();
    other.moves[chosen.unwrap()].step = "execute 0 view 1".into();
    assert!(checker.replay(&other, 80).unwrap().difference.is_some());
}

/// Verdicts that were derived from the semantics by hand, before any program ran them.
#[test]
fn derived_verdicts_hold() {
    kvm::required();
    let mut checked: BTreeMap<String, usize> = BTreeMap::new();
    let derived = shipped::group("derived");
    for scenario in &derived {
        for fetch in scenario.models().unwrap() {
            let report = plain(scenario, None, Some(fetch));
            assert!(report.holds(), "{fetch}\n{}", detail(&report));
            *checked.entry(fetch.to_string()).or_default() += 1;
        }
    }
    for name in FetchModel::preset_names() {
        assert_eq!(checked.get(name), Some(&derived.len()), "{name}: {checked:?}");
    }
}
