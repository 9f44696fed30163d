//! Sampling, and the schedules that people are shown: what is found is real and replays, what is not found
//! proves nothing and says so, and no other schedule has fewer context switches than the most readable one.

use crossmod::property::Property;
use crossmod::report::detail;
use crossmod::results::Status;
use crossmod::{CheckOptions, Mode, Report};

use crate::bench::{check, options, plain, shipped, violated};
use crate::shipped::without_catalogue;
use crate::{harness, kvm};

const RANDOM: Mode = Mode::Random { runs: 50 };
const PCT: Mode = Mode::Pct { runs: 200, depth: 2 };

fn sampled(name: &str, mode: Mode, seed: u64) -> Report {
    check(&shipped(name), &CheckOptions { mode, seed, ..options() })
}

#[test]
fn samplers_find_a_torn_instruction_and_it_replays() {
    kvm::required();
    for mode in [RANDOM, PCT] {
        let report = sampled("seed/naive-store-crossing-line", mode, 1);
        assert_eq!(report.status, Status::Hazard, "{mode:?}");
        let finding = report.finding(Property::Torn).unwrap_or_else(|| panic!("{}", detail(&report)));
        // Found by luck, so perhaps not short, but shorter than all there is to do.
        assert!((4..60).contains(&finding.schedule.len()), "{}", detail(&report));
        let replayed = harness::checker().replay(finding.trace.as_ref().unwrap(), 80).unwrap();
        assert_eq!(replayed.difference, None);
    }
}

#[test]
fn the_same_seed_samples_the_same_runs() {
    kvm::required();
    for mode in [RANDOM, PCT] {
        let sample = |seed| {
            let report = sampled("seed/fixup-without-sync-first", mode, seed);
            let schedules: Vec<_> = report.findings.iter().map(|finding| finding.schedule.clone()).collect();
            (report.sampled.clone().unwrap(), schedules, report.digest)
        };
        assert_eq!(sample(7), sample(7));
        assert_ne!(sample(7).0.moves, sample(8).0.moves, "{mode:?} does not depend on its seed");
    }
}

#[test]
fn sampling_is_never_called_exhaustive() {
    kvm::required();
    for mode in [RANDOM, PCT] {
        let report = sampled("seed/fixup", mode, 1);
        assert_eq!(report.status, Status::NotDecided, "{mode:?}");
        assert_eq!(report.not_decided, Property::ALL);
        let sampled = report.sampled.as_ref().unwrap();
        assert!(sampled.completed > 0 && sampled.completed + sampled.cut <= sampled.runs);
        let text = detail(&report);
        assert!(text.contains("NOT exhaustive") && !text.contains("safe within"), "{text}");
        // A hazard leaves all others open.
        let report = self::sampled("seed/naive-store-crossing-line", mode, 1);
        assert_eq!(report.not_decided.len() + violated(&report).len(), Property::ALL.len());
    }
}

#[test]
fn pct_states_its_bound_and_the_random_walk_has_none() {
    kvm::required();
    let report = sampled("seed/naive-store-crossing-line", PCT, 1);
    let sample = report.sampled.clone().unwrap();
    // Five actors (the patcher, two executors, and the events of each), two ordering constraints.
    let bound = sample.bound.unwrap();
    assert!((bound.chance - 1.0 / (5.0 * bound.length as f64)).abs() < 1e-12, "{sample:?}");
    assert!(sample.longest <= bound.length || sample.uncovered > 0, "{sample:?}");
    assert!(
        detail(&report).contains(&format!("probability at least {:.1e}", bound.chance)),
        "{}",
        detail(&report)
    );
    let report = sampled("seed/naive-store-crossing-line", RANDOM, 1);
    assert_eq!(report.sampled.as_ref().unwrap().bound, None);
    assert!(detail(&report).contains("no bound on what may have been missed"));
}

#[test(long)]
fn the_readable_schedule_never_switches_more_often_and_replays() {
    kvm::required();
    let mut checker = harness::checker();
    let (mut compared, mut fewer) = (0, 0);
    for scenario in without_catalogue() {
        let shortest = plain(&scenario, None, None);
        if shortest.findings.is_empty() || shortest.counts.states > 50_000 {
            continue;
        }
        let readable =
            checker.check(&scenario, &CheckOptions { readable: true, ..options() }, |_| {}).unwrap();
        assert_eq!(violated(&readable), violated(&shortest), "{}", scenario.name);
        for finding in &readable.findings {
            let other = shortest.finding(finding.violation.property).unwrap();
            assert!(finding.switches <= other.switches, "{}\n{}", detail(&shortest), detail(&readable));
            let trace = finding.trace.as_ref().unwrap();
            assert_eq!(checker.replay(trace, 80).unwrap().difference, None, "{}", scenario.name);
            compared += 1;
            fewer += u32::from(finding.switches < other.switches);
        }
    }
    assert!(compared >= 40 && fewer >= 1, "{fewer} of {compared}");
}
