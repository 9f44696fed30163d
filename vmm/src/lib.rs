//! Crossmod: a test bench for cross-modifying code on x86-64.
//!
//! A scenario says what a patch site looks like before and after, who executes it, what the patcher does
//! and what may interrupt whom. Crossmod executes the site's real bytes and the guest's real handlers on KVM,
//! one instruction at a time, in every order that the scenario's bounds allow, and judges what it sees.
//!
//! ```no_run
//! use crossmod::{CheckOptions, Scenario};
//!
//! let scenario = crossmod::scenario::load("my-protocol.toml".as_ref())?;
//! let report = crossmod::check(&scenario, &CheckOptions::default())?;
//! assert!(report.holds(), "{}", crossmod::report::detail(&report));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What a verdict claims
//!
//! *Safe* means: no property is violated in any interleaving within the bounds that the verdict states
//! (executors, passes, events), for a CPU that fetches coherently. Stepping serialises a CPU: what a
//! CPU does with instructions that it fetched *before* a store is not shown here; the `unserialised` property
//! names the places where that could matter. A *hazard* comes with a schedule that was executed again, live,
//! with one KVM vCPU for each executor, before it was reported.
//!
//! # Parts
//!
//! ```text
//! scenario -> plan -> explore (model x engine) -> property -> check -> report
//!                     schedule (sampling)          trace: file, live replay, columns
//!                     machine: the only door to KVM
//! ```

pub mod check;
pub mod cpu;
pub mod decode;
pub mod explore;
pub mod host;
pub mod machine;
pub mod plan;
pub mod property;
pub mod report;
pub mod scenario;
pub mod schedule;
pub mod trace;

pub use check::{CheckError, CheckOptions, Checker, Mode, ReplayReport};
pub use report::Report;
pub use scenario::Scenario;
pub use trace::Trace;

/// Checks one scenario on a machine of its own. To check many, keep a [`Checker`].
pub fn check(scenario: &Scenario, options: &CheckOptions) -> Result<Report, CheckError> {
    Checker::new()?.check(scenario, options, |_| {})
}
