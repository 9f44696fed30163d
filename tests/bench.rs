//! Scenarios and checks, in the few forms that the tests need them.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, LazyLock, Mutex, OnceLock};

use crossmod::engine::SteppingEngine;
use crossmod::explore::{Memo, Model, Reduction, State, System, Transition};
use crossmod::fetch::FetchModel;
use crossmod::machine::Machine;
use crossmod::plan::Ring;
use crossmod::property::Property;
use crossmod::results::Status;
use crossmod::scenario::Options;
use crossmod::{CheckOptions, Report, Scenario, scenario};

use crate::{golden, harness};

/// A shipped scenario.
pub fn shipped(name: &str) -> Scenario {
    scenario::library()
        .into_iter()
        .find(|scenario| scenario.name == name)
        .unwrap_or_else(|| panic!("no shipped scenario is called {name}"))
}

/// A scenario of a test's own. What it is said to expect does not matter here.
pub fn inline(name: &str, body: &str) -> Scenario {
    let text = format!("title = \"{name}\"\nexpect = \"safe\"\n{body}");
    Scenario { name: format!("test/{name}"), text, path: format!("{name}.toml") }
}

/// A site of five bytes inside a cache line, the one of most shipped scenarios.
pub const SITE: &str = "[site]\nold = \"nop5\"\nnew = \"jmp32\"\noffset = 0x100\n";

/// Options that render as the golden files do. One worker: the tests themselves run in parallel.
pub fn options() -> CheckOptions {
    CheckOptions { width: golden::WIDTH, workers: 1, ..CheckOptions::default() }
}

/// What a check comes to that others are compared with: computed once for all tests that need it.
pub fn plain(scenario: &Scenario, ring: Option<Ring>, fetch: Option<FetchModel>) -> Arc<Report> {
    type Known = HashMap<(String, String), Arc<OnceLock<Arc<Report>>>>;
    static KNOWN: LazyLock<Mutex<Known>> = LazyLock::new(Mutex::default);
    let check = || Arc::new(check(scenario, &CheckOptions { ring, fetch, recheck: 64, ..options() }));
    // Where the ring is the one that the scenario asks for, the plan is the same.
    let Ok(plan) = scenario.plan(&Options { ring, fetch, ..Options::default() }) else { return check() };
    let key = (scenario.name.clone(), plan.digest());
    let known = Arc::clone(KNOWN.lock().unwrap().entry(key).or_default());
    Arc::clone(known.get_or_init(check))
}

/// Checks a scenario.
pub fn check(scenario: &Scenario, options: &CheckOptions) -> Report {
    harness::checker().check(scenario, options, |_| {}).unwrap()
}

/// The properties that a report has found violated.
pub fn violated(report: &Report) -> BTreeSet<Property> {
    report.findings.iter().map(|finding| finding.violation.property).collect()
}

/// Asserts that everything was searched and that exactly these properties are violated.
pub fn assert_exactly(scenario: &Scenario, expected: &[Property]) -> Report {
    let report = check(scenario, &options());
    assert!(
        matches!(report.status, Status::Safe | Status::Vacuous | Status::Hazard),
        "{}: {:?}",
        report.name,
        report.ended
    );
    let expected: BTreeSet<Property> = expected.iter().copied().collect();
    assert_eq!(violated(&report), expected, "{}", crossmod::report::detail(&report));
    report
}

/// Visits every reachable state of a plan, without reduction, by a search of its own; returns how many states
/// and transitions there are.
pub fn walk(scenario: &Scenario, mut visit: impl FnMut(&Model<'_>, &State, &[Transition])) -> [usize; 2] {
    let plan = scenario.plan(&Options::default()).unwrap();
    let mut machine = Machine::oracle().unwrap();
    let mut engine = SteppingEngine::new(&mut machine, &plan).unwrap();
    let mut model = Model::new(&plan, &mut engine, Memo::new(0, 1)).unwrap();
    let (mut met, mut transitions) = (HashSet::new(), 0);
    let mut work = vec![model.initial().unwrap()];
    met.insert(model.digest(&work[0]));
    let mut moves = Vec::new();
    while let Some(state) = work.pop() {
        model.transitions(&state, Reduction::None, &mut moves).unwrap();
        visit(&model, &state, &moves);
        for &step in &moves {
            transitions += 1;
            let applied = model.apply(&state, step, Reduction::None).unwrap();
            if !applied.ended && met.insert(model.digest(&applied.next)) {
                work.push(applied.next);
            }
        }
    }
    [met.len(), transitions]
}
