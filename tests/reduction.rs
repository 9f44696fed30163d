//! Leaving out what no other actor can tell changes no verdict: searches with and without reduction find the
//! same violations and the same outcomes, over the shipped set and over random scenarios.

use std::collections::{BTreeMap, BTreeSet};

use crossmod::explore::{Ended, Limits, Stalls};
use crossmod::property::Property;
use crossmod::results::{FinalValues, Outcome};
use crossmod::{CheckOptions, Report, Scenario, scenario};

use crate::bench::{options, plain, violated};
use crate::shipped::{BUGS, CATALOGUE, LINUX, LITMUS, VCPU, belongs};
use crate::{harness, kvm, random};

/// Everything that reduction must not change. Only the patcher's share of a stall is compared: what other actors do is
/// counted in moves, and reduced moves are longer.
#[derive(Debug, PartialEq, Eq)]
struct Verdict {
    violated: BTreeSet<Property>,
    outcomes: Vec<Outcome>,
    finals: Option<FinalValues>,
    stalls: Vec<u32>,
}

fn verdict(report: &Report) -> Verdict {
    Verdict {
        violated: violated(report),
        outcomes: report.outcomes.clone(),
        finals: report.finals.clone(),
        stalls: report.stalls.iter().map(|stall| stall.patcher).collect(),
    }
}

/// Without stalls, more is left out: all but the stalls must be the same.
fn assert_same_far(far: &Report, full: &Report, text: &str) {
    let without_stalls = |report| Verdict { stalls: Vec::new(), ..verdict(report) };
    assert_eq!(without_stalls(far), without_stalls(full), "far (left) and full: {}\n{text}", full.name);
    assert!(far.stalls.is_empty());
    for finding in &far.findings {
        assert!(finding.trace.is_some(), "{}", full.name);
    }
}

/// Returns how many schedules there are, and how many of them are longer than the shortest.
fn assert_same(reduced: &Report, full: &Report, text: &str) -> [usize; 2] {
    assert_eq!(verdict(reduced), verdict(full), "with reduction (left) and without: {}\n{text}", full.name);
    assert!(reduced.counts.states <= full.counts.states, "{}", full.name);
    let (mut schedules, mut longer) = (0, 0);
    for finding in &full.findings {
        let property = finding.violation.property;
        // A lack of progress is shown by a state, and the reduced search may show another one.
        if !matches!(property, Property::Deadlock | Property::Livelock) {
            let here = reduced.finding(property).unwrap().schedule.len();
            assert!(here >= finding.schedule.len(), "{}: {property} shorter than the shortest", full.name);
            schedules += 1;
            longer += usize::from(here > finding.schedule.len());
        }
    }
    [schedules, longer]
}

/// The scenario with smaller bounds: one pass each; where events come, one executor instead.
fn cut(scenario: &Scenario) -> Scenario {
    let mut file: toml::Table = scenario.text.parse().unwrap();
    let events = file.contains_key("events");
    let bounds: toml::Table =
        if events { "count = 1\npasses = 2" } else { "count = 2\npasses = 1" }.parse().unwrap();
    assert!(file.remove("executor").is_none(), "{}", scenario.name);
    let table = file.entry("executors").or_insert_with(|| toml::Table::new().into()).as_table_mut().unwrap();
    table.extend(bounds);
    Scenario { text: file.to_string(), ..scenario.clone() }
}

#[test(long)]
fn the_shipped_set_has_the_same_verdicts_without_reduction() {
    kvm::required();
    // Beyond this many reduced states the full space is too large: smaller bounds are used.
    const LARGE: u64 = 4500;
    let mut checker = harness::checker();
    let (mut smaller, mut saved, mut left_out, mut compared) = (Vec::new(), 0, 0, 0);
    for scenario in scenario::library() {
        let mut scenario = scenario;
        let mut reduced = plain(&scenario, None, None);
        let grown = [BUGS, CATALOGUE, LITMUS, VCPU].iter().any(|group| belongs(&scenario, group));
        // Many litmus tests are of three and four CPUs, which have little in common.
        let large = if belongs(&scenario, LITMUS) { LARGE / 8 } else { LARGE };
        if reduced.counts.states > large && grown {
            // Others with the same constructs are small enough.
            left_out += 1;
            continue;
        }
        compared += 1;
        // What is patched in the kernel's functions is patched as in `seed/fixup`, at other bytes.
        let most = if belongs(&scenario, LINUX) { LARGE / 2 } else { LARGE };
        if reduced.counts.states > most && !scenario.text.contains("[[executor]]") {
            scenario = cut(&scenario);
            reduced = plain(&scenario, None, None);
            smaller.push(scenario.name.clone());
        }
        let full = checker.check(&scenario, &CheckOptions { reduce: false, ..options() }, |_| {}).unwrap();
        assert_eq!((reduced.ended, full.ended), (Some(Ended::Exhausted), Some(Ended::Exhausted)));
        let far =
            checker.check(&scenario, &CheckOptions { stalls: Stalls::No, ..options() }, |_| {}).unwrap();
        assert_same_far(&far, &full, &scenario.text);
        assert!(far.counts.states <= reduced.counts.states, "{}", far.name);
        saved += reduced.counts.transitions - far.counts.transitions;
        let [_, longer] = assert_same(&reduced, &full, &scenario.text);
        // A move of a program more, between two that others can tell apart, is no other schedule.
        assert!(longer == 0 || grown, "{}: a schedule longer than the shortest", scenario.name);
    }
    eprintln!("with smaller bounds: {}; {saved} transitions fewer without stalls", smaller.join(", "));
    assert!(saved > 10_000, "{saved}");
    assert!(compared > 180, "{compared} compared, {left_out} left out");
    assert!(smaller.len() <= 33, "{smaller:?}");
}

#[test(long)]
fn random_scenarios_have_the_same_verdicts_without_reduction() {
    kvm::required();
    const SEEDS: u64 = 900;
    // More reduced states than this: most likely too many without reduction.
    const LARGE: usize = 1100;
    let most = |max_states| CheckOptions { limits: Limits { max_states, ..Limits::default() }, ..options() };
    let mut checker = harness::checker();
    let (mut compared, mut large, mut refused, mut schedules) = (0, 0, 0, [0, 0]);
    let mut tally: BTreeMap<Property, u32> = BTreeMap::new();
    for seed in 0..SEEDS {
        let scenario = random::scenario(seed);
        let reduced = checker.check(&scenario, &most(LARGE), |_| {});
        if reduced.as_ref().is_ok_and(|reduced| reduced.ended == Some(Ended::MaxStates)) {
            large += 1;
            continue;
        }
        let full = checker.check(&scenario, &CheckOptions { reduce: false, ..most(60_000) }, |_| {});
        match (reduced, full) {
            (Ok(reduced), Ok(full)) => {
                if full.ended == Some(Ended::MaxStates) {
                    large += 1;
                    continue;
                }
                let [all, longer] = assert_same(&reduced, &full, &scenario.text);
                let far = CheckOptions { stalls: Stalls::No, ..options() };
                let far = checker.check(&scenario, &far, |_| {}).unwrap();
                assert_same_far(&far, &full, &scenario.text);
                schedules = [schedules[0] + all, schedules[1] + longer];
                compared += 1;
                for property in violated(&full) {
                    *tally.entry(property).or_default() += 1;
                }
            }
            // A contradiction in the scenario, told by the parser.
            (Err(crossmod::CheckError::Scenario(_)), Err(crossmod::CheckError::Scenario(_))) => refused += 1,
            (reduced, full) => panic!(
                "seed {seed}: with reduction {:?}, without {:?}\n{}",
                reduced.map(|report| verdict(&report)),
                full.map(|report| verdict(&report)),
                scenario.text
            ),
        }
    }
    eprintln!("{compared} compared, {large} too large, {refused} refused; violated: {tally:?}");
    assert!(compared >= 300, "{compared} compared, {large} too large, {refused} refused");
    // A schedule that can lose no move is nearly always a shortest one.
    let [all, longer] = schedules;
    assert!(all >= 300 && longer * 30 <= all, "{longer} of {all} are longer than the shortest");
    assert!(tally.len() >= 10, "too few kinds of violation: {tally:?}");
}
