//! How a search is made changes nothing that it finds: workers, symmetry, memory, limits.

use crossmod::explore::{Ended, Limits};
use crossmod::report::detail;
use crossmod::results::{FinalValues, Outcome, Status};
use crossmod::{CheckOptions, Report};

use crate::bench::{inline, options, plain, shipped, violated};
use crate::shipped::{LITMUS, belongs, without_catalogue};
use crate::{harness, kvm};

fn verdict(report: &Report) -> (Status, String, Vec<Outcome>, Option<FinalValues>, Vec<u32>) {
    let found: Vec<&str> = violated(report).into_iter().map(|property| property.name()).collect();
    let stalls = report.stalls.iter().map(|stall| stall.patcher).collect();
    (report.status, found.join(" "), report.outcomes.clone(), report.finals.clone(), stalls)
}

/// Under every fetch model that it asks for, each shipped scenario has the same hash (states, schedules,
/// outcomes) with one worker and with three, and the same verdict without symmetry. The small ones also have the same
/// hash when every transition is executed each time it is used.
#[test(long)]
fn the_shipped_set_is_the_same_however_it_is_searched() {
    kvm::required();
    const SMALL: u64 = 300;
    const LARGE: u64 = 40_000;
    let mut checker = harness::checker();
    let (mut cases, mut executed) = (0, 0);
    for scenario in without_catalogue() {
        let mut models = scenario.models().unwrap();
        if belongs(&scenario, LITMUS) {
            // They are about memory; the fetch models leave their states as they are.
            models.truncate(1);
        }
        for fetch in models {
            let one = plain(&scenario, None, Some(fetch));
            let plain = CheckOptions { fetch: Some(fetch), recheck: 64, ..options() };
            let mut look = |options: &CheckOptions| checker.check(&scenario, options, |_| {}).unwrap();
            assert!(one.holds(), "{}", detail(&one));
            assert_eq!(one.ended, Some(Ended::Exhausted));
            let three = look(&CheckOptions { workers: 3, ..plain });
            assert_eq!(three.digest, one.digest, "{} under {fetch} with three workers", one.name);
            assert_eq!(three.counts.transitions, one.counts.transitions);
            // A single executor has nothing to exchange.
            if one.counts.states < LARGE && one.bounds.as_ref().unwrap().executors > 1 {
                let apart = look(&CheckOptions { symmetry: false, ..plain });
                assert_eq!(verdict(&apart), verdict(&one), "{} under {fetch} without symmetry", one.name);
                assert!(apart.counts.states >= one.counts.states);
            }
            if one.counts.states < SMALL {
                let fresh = look(&CheckOptions { memo: false, ..plain });
                assert_eq!(fresh.digest, one.digest, "{} under {fetch} without memory", one.name);
                assert_eq!(fresh.counts.memo.rechecked, fresh.counts.lookups);
                executed += 1;
            }
            cases += 1;
        }
    }
    assert!(cases > 150 && executed > 20, "{cases}, {executed}");
}

/// Three equal executors turn up to six states into one; fewer where two of them do the same.
#[test]
fn symmetry_saves_nearly_the_number_of_exchanges() {
    kvm::required();
    let scenario = shipped("seed/hold-3");
    let mut checker = harness::checker();
    let mut states = |symmetry| {
        let report = checker.check(&scenario, &CheckOptions { symmetry, ..options() }, |_| {}).unwrap();
        report.counts.states as f64
    };
    let saved = states(false) / states(true);
    assert!((4.0..=6.0).contains(&saved), "{saved}");
}

/// What a wait or a mask tells apart is not exchanged: the round misses CPU 0, and only CPU 0 is torn.
#[test]
fn executors_that_a_mask_tells_apart_are_not_exchanged() {
    kvm::required();
    let text = "[executors]\ncount = 2\npasses = 1\n[site]\nold = \"nop5\"\nnew = \"jmp32\"\noffset = 0x13e\n\
        [handler]\nresume = \"new\"\narmed = true\n[[step]]\nstore = { what = \"int3\" }\n\
        [[step]]\nsync = { to = [1] }\n[[step]]\nstore = { what = \"new-tail\" }\n[[step]]\nabandon = {}\n";
    let scenario = inline("mask", text);
    let options = CheckOptions { fetch: Some("line".parse().unwrap()), ..options() };
    let report = harness::checker().check(&scenario, &options, |_| {}).unwrap();
    let torn = report.finding(crossmod::property::Property::Torn).unwrap();
    let last = torn.schedule.last().unwrap();
    assert_eq!(last.executor(), Some(0), "{}", detail(&report));
}

#[test]
fn limits_give_an_honest_answer() {
    kvm::required();
    let scenario = shipped("seed/hold-3");
    let mut checker = harness::checker();
    let mut bounded = |limits: Limits| {
        let report = checker.check(&scenario, &CheckOptions { limits, ..options() }, |_| {}).unwrap();
        assert_eq!(report.status, Status::NotDecided);
        assert!(!report.holds() && !report.not_decided.is_empty());
        assert!(report.counts.expanded < report.counts.states);
        assert!(report.stalls.is_empty());
        (report.ended.unwrap(), report.counts.states, detail(&report))
    };
    let (ended, states, text) = bounded(Limits { max_states: 1000, ..Limits::default() });
    assert_eq!(ended, Ended::MaxStates);
    assert!((1000..1400).contains(&states), "{states}");
    assert!(text.contains("bounded, not exhaustive: the limit of states was reached"), "{text}");
    assert!(text.contains("every schedule of fewer than"), "{text}");
    let (ended, _, text) = bounded(Limits { max_memory: 1 << 16, ..Limits::default() });
    assert_eq!(ended, Ended::MaxMemory);
    assert!(text.contains("the limit of memory was reached"), "{text}");
    let timeout = Some(std::time::Duration::ZERO);
    let (ended, ..) = bounded(Limits { timeout, ..Limits::default() });
    assert_eq!(ended, Ended::Timeout);
}
