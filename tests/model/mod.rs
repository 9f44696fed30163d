//! The explorer against a second opinion: a small simulator of the same protocols that was written from their
//! description alone, with abstract executors and no instruction in it ([`simulator`]), and exact counts of
//! states and schedules that were found by hand ([`counts`]).

mod counts;
mod simulator;

use std::collections::BTreeSet;

use crossmod::property::Property;
use crossmod::results::{SiteVersion, Status};
use crossmod::{Checker, Report};

use crate::bench::{inline, options, violated};
use crate::kvm;
use simulator::{Prediction, Protocol, Step};

/// What both have an opinion on.
const COMPARED: [Property; 4] = [Property::Torn, Property::Order, Property::Stale, Property::UnclaimedTrap];

/// What the explorer found, in the simulator's terms.
fn found(report: &Report) -> Prediction {
    let violated = violated(report);
    let outcomes = report.outcomes.iter().map(|outcome| {
        assert_eq!(outcome.context, "loop");
        assert!(matches!(outcome.version, SiteVersion::Old | SiteVersion::New), "{outcome}");
        (outcome.version == SiteVersion::New, outcome.trapped)
    });
    Prediction {
        violated: COMPARED
            .into_iter()
            .filter(|property| violated.contains(property))
            .map(Property::name)
            .collect(),
        outcomes: outcomes.collect(),
    }
}

fn agree(checker: &mut Checker, protocol: &Protocol) -> Prediction {
    let scenario = inline("protocol", &protocol.text());
    let report = checker
        .check(&scenario, &options(), |_| {})
        .unwrap_or_else(|error| panic!("{error:?}\n{protocol:#?}\n{}", scenario.text));
    assert!(matches!(report.status, Status::Safe | Status::Hazard), "{protocol:#?}");
    let predicted = simulator::run(protocol);
    assert_eq!(
        found(&report),
        predicted,
        "the explorer (left) and the simulator (right) disagree\n{protocol:#?}\n{}\n{}",
        scenario.text,
        crossmod::report::detail(&report)
    );
    predicted
}

/// Every way to leave rounds out of the int3 protocol, to arm and to disarm its handler.
#[test]
fn all_variants_of_the_int3_protocol_are_as_predicted() {
    if !kvm::required() {
        return;
    }
    let mut checker = Checker::new().unwrap();
    let mut seen = BTreeSet::new();
    let mut variants = 0;
    for choice in 0..2usize.pow(7) {
        let with = |bit: usize| choice & 1 << bit != 0;
        let round = |bit: usize| if with(bit) { vec![Step::Round] } else { Vec::new() };
        let mut steps = vec![Step::Int3];
        if with(0) {
            // Late: behind the INT3.
            steps.push(Step::Arm);
        }
        steps.extend(round(1));
        steps.push(Step::NewTail);
        steps.extend(round(2));
        steps.push(Step::NewFirst);
        steps.extend(round(3));
        if with(4) {
            steps.push(Step::Disarm);
        }
        let protocol = Protocol {
            steps,
            crossing: with(5),
            executors: 1,
            passes: 2,
            armed: with(6),
            emulates_new: true,
        };
        seen.insert(agree(&mut checker, &protocol).violated);
        variants += 1;
    }
    assert_eq!(variants, 128);
    // Coherent fetches never tear what an INT3 guards, and nothing here runs backwards.
    assert_eq!(seen, BTreeSet::from([BTreeSet::new(), BTreeSet::from(["unclaimed-trap"])]));
}

#[test]
fn random_step_lists_are_as_predicted() {
    if !kvm::required() {
        return;
    }
    const CASES: u64 = 400;
    let mut checker = Checker::new().unwrap();
    let mut tally = std::collections::BTreeMap::new();
    for seed in 0..CASES {
        let protocol = Protocol::random(seed);
        for property in agree(&mut checker, &protocol).violated {
            *tally.entry(property).or_insert(0) += 1;
        }
    }
    // The cases are of all kinds.
    for property in COMPARED {
        let count = tally.get(property.name()).copied().unwrap_or(0);
        assert!((5..CASES - 5).contains(&count), "{property} in {count} of {CASES}");
    }
}
