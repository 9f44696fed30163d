//! The shipped set, each case a test of its own: `cargo test --release --test cases seed/fixup`. Its own `main`, with
//! the arguments and the output of the usual one, so that filters, `--exact`, `--list` and nextest work.
//!
//! A case is checked with every executor at ring 0 and again at ring 3: its expectation holds at both, with the same
//! verdict and the same outcomes.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[allow(dead_code, reason = "the other test binaries use all of it")]
#[path = "../kvm.rs"]
mod kvm;

use std::cell::RefCell;
use std::process::ExitCode;

use crossmod::machine::probe;
use crossmod::plan::Ring;
use crossmod::report::detail;
use crossmod::results::Status;
use crossmod::suite::{self, Case};
use crossmod::{CheckOptions, Checker, Report, scenario};
use libtest_mimic::{Arguments, Completion, Failed, Trial};

thread_local! {
    /// A machine is made once a thread: its vCPUs belong to the thread that made them.
    static CHECKER: RefCell<Option<Checker>> = const { RefCell::new(None) };
}

fn check(case: &Case, ring: Ring) -> Result<Report, Failed> {
    let options = CheckOptions {
        ring: Some(ring),
        fetch: Some(case.model),
        // The tests themselves run in parallel.
        workers: 1,
        ..CheckOptions::default()
    };
    CHECKER.with_borrow_mut(|checker| {
        let checker = match checker {
            Some(checker) => checker,
            None => checker.insert(Checker::new()?),
        };
        Ok(checker.check(&case.scenario, &options, |_| {})?)
    })
}

fn reason(report: &Report) -> String {
    report.reason.as_ref().map_or_else(|| "no reason".into(), ToString::to_string)
}

fn judge(case: &Case) -> Result<Completion, Failed> {
    if !kvm::required() {
        return Ok(Completion::ignored_with("nothing was executed: no KVM"));
    }
    let (kernel, user) = (check(case, Ring::Kernel)?, check(case, Ring::User)?);
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
        let reason = reason(&kernel);
        eprintln!("\n*** SKIPPED, NOTHING WAS EXECUTED: {}: {reason} ***\n", case.name);
        return Ok(Completion::ignored_with(reason));
    }
    if !only_user && (kernel.status, &kernel.outcomes) != (user.status, &user.outcomes) {
        return Err(
            format!("the rings differ\nring 0: {}\nring 3: {}", detail(&kernel), detail(&user)).into()
        );
    }
    Ok(Completion::Completed)
}

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let cases = suite::cases(&scenario::library(), &[]).unwrap();
    // Said once, where it is seen: what a test prints is not, unless it fails.
    if !arguments.list && probe().is_err() {
        eprintln!("\n*** NO KVM: none of the cases is executed ***\n");
    }
    let trial = |case: Case| {
        let name = case.name.clone();
        Trial::ignorable_test(name, move || judge(&case))
    };
    libtest_mimic::run(&arguments, cases.into_iter().map(trial).collect()).exit_code()
}
