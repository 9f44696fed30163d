//! Runs tests like the usual harness, with the same arguments and the same output, but for one thing: a test that finds
//! out that it cannot run on this host is reported as ignored, with the reason, and never as passed.

mod checker;
pub mod kvm;

use std::fmt::Display;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::process::ExitCode;

use libtest_mimic::{Arguments, Completion, Failed, Trial};

pub use checker::checker;

/// The payload with which a test is left that cannot run.
struct Ignored(String);

/// Leaves the test that calls it. It must be called by the thread that runs the test.
pub fn ignore(reason: impl Display) -> ! {
    // Unlike a panic, this prints nothing.
    resume_unwind(Box::new(Ignored(reason.to_string())))
}

/// True where a test that cannot run has failed, as in CI.
pub fn everything_required() -> bool {
    std::env::var("CROSSMOD_REQUIRE_KVM").is_ok_and(|value| value == "1")
}

/// A test that may [`ignore`] itself.
pub fn trial(name: &str, run: impl FnOnce() -> Result<(), Failed> + Send + 'static) -> Trial {
    Trial::ignorable_test(name, || match catch_unwind(AssertUnwindSafe(run)) {
        Ok(result) => result.map(|()| Completion::Completed),
        Err(payload) => match payload.downcast::<Ignored>() {
            Ok(ignored) => Ok(Completion::ignored_with(ignored.0)),
            Err(panic) => resume_unwind(panic),
        },
    })
}

/// Runs the tests that the arguments select.
pub fn run(trials: Vec<Trial>) -> ExitCode {
    let arguments = Arguments::from_args();
    if let Some(reason) = kvm::missing()
        && !arguments.list
    {
        eprintln!("\n*** Tests that need KVM do not run: {reason} ***");
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}
