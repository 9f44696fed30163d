//! The shipped set as a whole. That every expectation holds, at both rings, is tested case by case: `tests/cases`.

use crossmod::plan::Ring;
use crossmod::scenario::{Options, library};
use crossmod::suite;

#[test]
fn most_scenarios_exist_at_both_rings() {
    let at = |ring| {
        let options = Options { ring: Some(ring), fetch: None };
        library().iter().filter(|scenario| scenario.plan(&options).is_ok()).count()
    };
    assert_eq!(at(Ring::Kernel), library().len());
    let user = at(Ring::User);
    assert!(user >= 70, "only {user} scenarios exist at ring 3");
}

#[test]
fn cases_have_names_of_their_own() {
    let cases = suite::cases(&library(), &[]).unwrap();
    let names: std::collections::BTreeSet<&str> = cases.iter().map(|case| case.name.as_str()).collect();
    assert_eq!(names.len(), cases.len());
    assert!(
        names.contains("matrix/int3@amd") && names.contains("matrix/int3") && names.contains("seed/fixup")
    );
}
