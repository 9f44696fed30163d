//! The shipped set: every expectation holds, at both rings, with the same outcomes.

use crossmod::plan::Ring;
use crossmod::report::{Status, detail};
use crossmod::{CheckOptions, Checker, Report, scenario};

use crate::kvm;

fn reports(options: &CheckOptions) -> Vec<Report> {
    let mut checker = Checker::new().unwrap();
    scenario::library().iter().map(|scenario| checker.check(scenario, options, |_| {}).unwrap()).collect()
}

#[test]
fn every_expectation_holds_at_both_rings_with_the_same_outcomes() {
    if !kvm::required() {
        return;
    }
    let at = |ring| reports(&CheckOptions { ring: Some(ring), ..CheckOptions::default() });
    let (kernel, user) = (at(Ring::Kernel), at(Ring::User));
    let mut compared = 0;
    for (kernel, user) in kernel.iter().zip(&user) {
        assert!(kernel.holds(), "{}", detail(kernel));
        assert!(user.holds(), "{}", detail(user));
        assert_ne!(kernel.status, Status::Skipped, "{}", kernel.name);
        if user.status == Status::Skipped {
            assert!(user.reason.as_deref().is_some_and(|reason| reason.contains("ring 3")), "{}", user.name);
            continue;
        }
        assert_eq!(kernel.status, user.status, "{}", kernel.name);
        assert_eq!(kernel.outcomes, user.outcomes, "{}", kernel.name);
        compared += 1;
    }
    assert!(compared >= 70, "only {compared} scenarios run at both rings");
}
