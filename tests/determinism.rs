//! The same search, the same answer: over repetitions, with and without memory, whatever is executed again,
//! for any seed. And every counter-example is what happens again when it is replayed.

use std::collections::BTreeSet;

use assert_cmd::Command;
use crossmod::explore::Stalls;
use crossmod::plan::Ring;
use crossmod::results::Outcome;
use crossmod::{CheckOptions, Report};

use crate::bench::{check, options, plain, shipped};
use crate::shipped::without_catalogue;
use crate::{harness, kvm};

/// An NMI runs the site while it is changed under the handshake of one IPI.
const SCENARIO: &str = "seed/hold-1-nmi";

/// Digests of repeated checks, each with a memo of its own; the machine is reset, as between any two checks.
fn digests(options: &CheckOptions, times: usize) -> BTreeSet<String> {
    let scenario = shipped(SCENARIO);
    let mut checker = harness::checker();
    (0..times)
        .map(|_| {
            checker.forget();
            let report = checker.check(&scenario, options, |_| {}).unwrap();
            assert!(report.counts.states >= 1000 && report.holds());
            assert!(report.counts.memo.executed > 500, "the memo was not fresh");
            report.digest
        })
        .collect()
}

#[test(long)]
fn a_thousand_explorations_have_one_hash() {
    kvm::required();
    let kernel = CheckOptions { ring: Some(Ring::Kernel), stalls: Stalls::No, ..options() };
    assert_eq!(digests(&kernel, 1000).len(), 1);
}

#[test(long)]
fn explorations_at_ring_3_have_one_hash() {
    kvm::required();
    let user = CheckOptions { ring: Some(Ring::User), ..options() };
    assert_eq!(digests(&user, 50).len(), 1);
}

fn digest(report: &Report) -> (&str, &[Outcome]) {
    (&report.digest, &report.outcomes)
}

#[test]
fn memory_rechecks_and_seeds_change_no_hash() {
    kvm::required();
    for name in
        ["seed/hold-1-nmi", "seed/interior-parked", "seed/stop-machine", "seed/retry-irqs-off-counting"]
    {
        for ring in [None, Some(Ring::User)] {
            let scenario = shipped(name);
            let plain = CheckOptions { ring, recheck: 0, ..options() };
            let reference = check(&scenario, &plain);
            let variants = [
                CheckOptions { memo: false, ..plain },
                CheckOptions { recheck: 1, ..plain },
                CheckOptions { recheck: 7, seed: 2, ..plain },
                CheckOptions { recheck: 64, seed: u64::MAX, ..plain },
            ];
            for variant in variants {
                let report = check(&scenario, &variant);
                assert_eq!(digest(&report), digest(&reference), "{name}: {variant:?}");
                assert_eq!(report.counts.transitions, reference.counts.transitions, "{name}");
            }
        }
    }
}

#[test]
fn verify_searches_twice_and_says_so() {
    kvm::required();
    let scenario = shipped("seed/interior-parked");
    let once = check(&scenario, &options());
    let twice = check(&scenario, &CheckOptions { verify: true, ..options() });
    assert!(!once.verified && twice.verified);
    assert_eq!(digest(&once), digest(&twice));
    let run = Command::new(env!("CARGO_BIN_EXE_crossmod"))
        .args(["check", "--verify", "--verbose", "seed/interior-parked"])
        .assert()
        .success();
    let text = String::from_utf8_lossy(&run.get_output().stdout).into_owned();
    assert!(text.contains(&format!("{} (twice)", once.digest)), "{text}");
}

#[test]
fn different_scenarios_have_different_hashes() {
    kvm::required();
    let names =
        ["seed/hold-1", "seed/hold-1-nmi", "seed/softirq-none", "seed/softirq-8", "seed/traced-handler"];
    let digests: BTreeSet<String> =
        names.iter().map(|name| check(&shipped(name), &options()).digest).collect();
    assert_eq!(digests.len(), names.len());
}

/// Replays every counter-example of the shipped set; returns how many there are.
fn replay_all(ring: Ring, times: usize) -> usize {
    let mut checker = harness::checker();
    let mut traces = 0;
    for scenario in without_catalogue() {
        let report = plain(&scenario, Some(ring), None);
        for finding in &report.findings {
            let trace = finding.trace.as_ref().unwrap();
            for time in 0..times {
                let replayed = checker.replay(trace, 80).unwrap();
                assert_eq!(replayed.difference, None, "{}, replay {time}", report.name);
                assert!(replayed.steps > 0);
            }
            traces += 1;
        }
    }
    traces
}

#[test(long)]
fn every_counter_example_replays_a_hundred_times() {
    kvm::required();
    assert!(replay_all(Ring::Kernel, 100) >= 40);
}

#[test(long)]
fn every_counter_example_replays_at_ring_3() {
    kvm::required();
    assert!(replay_all(Ring::User, 25) >= 35);
}

#[test]
fn a_replay_names_the_first_difference() {
    kvm::required();
    let mut checker = harness::checker();
    let report = checker.check(&shipped("seed/traced-handler"), &options(), |_| {}).unwrap();
    let trace = report.findings[0].trace.clone().unwrap();
    let mut differs = |change: &dyn Fn(&mut crossmod::Trace)| {
        let mut changed = trace.clone();
        change(&mut changed);
        checker.replay(&changed, 80).unwrap().difference
    };
    assert_eq!(differs(&|_| {}), None);
    let other = "0".repeat(32);
    assert_eq!(differs(&|trace| trace.initial = other.clone()), Some("the initial state differs".into()));
    let difference = differs(&|trace| trace.moves[4].state = other.clone()).unwrap();
    assert!(difference.starts_with("the state after move 5 ("), "{difference}");
    let difference = differs(&|trace| trace.moves[0].step = "nmi 0".into()).unwrap();
    assert_eq!(difference, "move 1 (`nmi 0`) is not possible in the state before it");
    let difference = differs(&|trace| trace.moves.truncate(3)).unwrap();
    assert!(difference.contains("does not violate `recursion`"), "{difference}");
}
