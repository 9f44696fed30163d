//! Real bugs: each is there as it was and as it was repaired, and the repair is not made safe by looking
//! less closely. What each scenario shows is tested with the shipped set.

use std::collections::BTreeSet;

use crossmod::plan::Plan;
use crossmod::scenario::{Options, Scenario};

use crate::shipped::{self, BUGS, BUGS_ELSEWHERE, REPAIRED_BUGS};

const PAGE: &str = include_str!("../vmm/scenarios/bugs/README.md");
const ELSEWHERE: &str = include_str!("../vmm/scenarios/elsewhere.toml");

/// The number of the bug, as in `b07`.
fn tag(scenario: &Scenario) -> String {
    let (_, name) = scenario.name.split_once('/').unwrap();
    name.chars().take_while(|c| *c == 'b' || c.is_ascii_digit()).take(3).collect()
}

/// What decides how much is searched.
fn bounds(plan: &Plan) -> impl PartialEq + std::fmt::Debug {
    let executors: Vec<_> = plan.executors.iter().map(|executor| (executor.passes, executor.ring)).collect();
    let events = plan.events;
    (executors, events.nmi, events.irq, events.smi, events.mce, plan.rule)
}

#[test]
fn every_repair_is_searched_within_the_bounds_of_its_bug() {
    let all = shipped::group(BUGS);
    let mut bugs = BTreeSet::new();
    for fixed in &all {
        let Some(name) = fixed.name.strip_suffix("-fixed") else { continue };
        let buggy = all.iter().find(|scenario| scenario.name == name).unwrap_or_else(|| {
            panic!("{} is the repair of nothing", fixed.name);
        });
        let models = [buggy, fixed].map(|scenario| scenario.models().unwrap());
        assert_eq!(models[0], models[1], "{name}: fetch models");
        let mut shows = false;
        for &fetch in &models[0] {
            let options = Options { fetch: Some(fetch), ..Options::default() };
            let [buggy, fixed] = [buggy, fixed].map(|scenario| scenario.plan(&options).unwrap());
            assert!(bounds(&buggy) == bounds(&fixed), "{name}: {:?}, {:?}", bounds(&buggy), bounds(&fixed));
            assert!(fixed.expect.is_empty(), "{name}: the repair is expected to be safe");
            shows |= !buggy.expect.is_empty();
        }
        assert!(shows, "{name} shows nothing");
        bugs.insert(tag(fixed));
    }
    assert_eq!(bugs.len(), REPAIRED_BUGS, "{bugs:?}");
}

#[test]
fn every_scenario_says_which_bug_it_is_and_stands_on_the_page() {
    for scenario in shipped::group(BUGS) {
        let (_, name) = scenario.name.split_once('/').unwrap();
        let tag = tag(&scenario);
        let tags = scenario.tags().unwrap();
        assert!(
            tags.iter().any(|one| one == BUGS) && tags.iter().any(|one| one.starts_with(&tag)),
            "{}: {tags:?}",
            scenario.name
        );
        assert!(scenario.text.starts_with('#'), "{} does not say where it happened", scenario.name);
        if !name.ends_with("-fixed") {
            assert!(PAGE.contains(&format!("[`{name}`]({name}.toml)")), "scripts/bugs was not run: {name}");
        }
    }
    assert_eq!(ELSEWHERE.matches("[[bug]]").count(), BUGS_ELSEWHERE);
    let listed =
        PAGE.lines().skip_while(|line| *line != "## Not here").filter(|line| line.starts_with("| B"));
    assert_eq!(listed.count(), BUGS_ELSEWHERE);
}
