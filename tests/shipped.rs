//! The shipped set as a whole: how much of it there is, in one place for all tests. That every expectation holds, at both
//! rings, is tested case by case: `tests/cases`.

use std::collections::{BTreeMap, BTreeSet};

use crossmod::plan::Ring;
use crossmod::scenario::{Options, Scenario, library, protocols};
use crossmod::suite;

/// The group of real bugs.
pub const BUGS: &str = "bugs";
/// The group that is larger than all others together, and holds nothing that they do not.
pub const CATALOGUE: &str = "catalogue";

/// The group of functions of a real kernel.
pub const LINUX: &str = "linux";
/// The group of litmus tests.
pub const LITMUS: &str = "litmus";
/// The group whose patcher is a vCPU.
pub const VCPU: &str = "vcpu";

/// Each group, with the numbers of its scenarios and of its cases.
const GROUPS: [(&str, usize, usize); 8] = [
    (BUGS, 115, 636),
    (CATALOGUE, 61, 482),
    ("derived", 25, 200),
    (LINUX, 22, 22),
    (LITMUS, 96, 191),
    ("matrix", 6, 48),
    ("seed", 65, 65),
    (VCPU, 7, 50),
];
/// Scenarios whose executors may all be at ring 3.
const AT_RING_3: usize = 369;
const PROTOCOLS: usize = 48;
/// Bugs that are there as they were and as they were repaired, and those that the page only names.
pub const REPAIRED_BUGS: usize = 48;
pub const BUGS_ELSEWHERE: usize = 18;

/// True if a scenario belongs to a group.
pub fn belongs(scenario: &Scenario, group: &str) -> bool {
    scenario.name.split_once('/').is_some_and(|(name, _)| name == group)
}

/// The scenarios of a group.
pub fn group(name: &str) -> Vec<Scenario> {
    library().into_iter().filter(|scenario| belongs(scenario, name)).collect()
}

/// The scenarios of all groups but the catalogue.
pub fn without_catalogue() -> Vec<Scenario> {
    library().into_iter().filter(|scenario| !belongs(scenario, CATALOGUE)).collect()
}

#[test]
fn the_set_is_complete() {
    let mut counts: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    for scenario in library() {
        let (group, _) = scenario.name.split_once('/').unwrap();
        let count = counts.entry(group.to_owned()).or_default();
        count.0 += 1;
        count.1 += scenario.models().unwrap().len();
    }
    let known = GROUPS.map(|(group, scenarios, cases)| (group.to_owned(), (scenarios, cases)));
    assert_eq!(counts, BTreeMap::from(known));
    assert_eq!(protocols().len(), PROTOCOLS);
}

#[test]
fn all_scenarios_exist_at_ring_0_and_most_at_ring_3() {
    let at = |ring| {
        let options = Options { ring: Some(ring), ..Options::default() };
        library().iter().filter(|scenario| scenario.plan(&options).is_ok()).count()
    };
    assert_eq!(at(Ring::Kernel), library().len());
    assert_eq!(at(Ring::User), AT_RING_3);
}

#[test]
fn cases_have_names_of_their_own() {
    let cases = suite::cases(&library(), &[]).unwrap();
    let names: BTreeSet<&str> = cases.iter().map(|case| case.name.as_str()).collect();
    assert_eq!(names.len(), cases.len());
    assert_eq!(cases.len(), GROUPS.iter().map(|(_, _, cases)| cases).sum::<usize>());
    for name in ["matrix/int3@amd", "matrix/int3", "seed/fixup"] {
        assert!(names.contains(name), "{name}");
    }
}
