//! The shipped set, each case a test of its own: `cargo test --release --test cases seed/fixup`. Its own `main`, with
//! the arguments and the output of the usual one, so that filters, `--exact`, `--list` and nextest work.
//!
//! A case is checked with every executor at ring 0 and again at ring 3, there by the search that measures no stalls and
//! leaves out more: its expectation holds at both, with the same verdict and the same outcomes.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[allow(dead_code, reason = "the other tests use all of it")]
#[path = "../harness/mod.rs"]
mod harness;

use std::process::ExitCode;

use crossmod::explore::Stalls;
use crossmod::plan::Ring;
use crossmod::report::detail;
use crossmod::results::Status;
use crossmod::suite::{self, Case};
use crossmod::{CheckOptions, Report, scenario};
use libtest_mimic::Failed;

use harness::kvm;

fn check(case: &Case, ring: Ring, stalls: Stalls) -> Result<Report, Failed> {
    let options = CheckOptions {
        ring: Some(ring),
        fetch: Some(case.model),
        stalls,
        // The tests themselves run in parallel.
        workers: 1,
        ..CheckOptions::default()
    };
    Ok(harness::checker().check(&case.scenario, &options, |_| {})?)
}

fn reason(report: &Report) -> String {
    report.reason.as_ref().map_or_else(|| "no reason".into(), ToString::to_string)
}

fn judge(case: &Case) -> Result<(), Failed> {
    kvm::required();
    let (kernel, user) = (check(case, Ring::Kernel, Stalls::Keep)?, check(case, Ring::User, Stalls::No)?);
    for report in [&kernel, &user] {
        if !report.holds() {
            return Err(detail(report).into());
        }
    }
    // What ring 3 cannot have, interrupts-off executors, is skipped there. Whatever the host lacks is skipped at both.
    let only_user = user.status == Status::Skipped && kernel.status != Status::Skipped;
    if only_user && !reason(&user).contains("ring 3") {
        return Err(format!("skipped at ring 3 only: {:?}", reason(&user)).into());
    }
    if kernel.status == Status::Skipped {
        harness::ignore(reason(&kernel));
    }
    if !only_user && (kernel.status, &kernel.outcomes) != (user.status, &user.outcomes) {
        return Err(
            format!("the rings differ\nring 0: {}\nring 3: {}", detail(&kernel), detail(&user)).into()
        );
    }
    Ok(())
}

fn main() -> ExitCode {
    let cases = suite::cases(&scenario::library(), &[]).unwrap();
    let trial = |case: Case| harness::trial(&case.name.clone(), move || judge(&case));
    harness::run(cases.into_iter().map(trial).collect())
}
