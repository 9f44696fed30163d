//! Crossmod: a test bench for cross-modifying code on x86-64.
//!
//! A scenario says what a patch site looks like before and after, who executes it, what the patcher does
//! and what may interrupt whom. Crossmod executes the site's real bytes and the guest's real handlers on KVM,
//! one instruction at a time, in every order that the scenario's bounds allow, and judges what it sees.
//!
//! ```no_run
//! use crossmod::{CheckOptions, property::Property, report, scenario};
//!
//! // A file of your own; `scenario::library()` has the shipped ones.
//! let scenario = scenario::load("my-site.toml".as_ref())?;
//! let report = crossmod::check(&scenario, &CheckOptions::default())?;
//! // What was found is exactly what the file expects.
//! assert!(report.holds(), "{}", report::detail(&report));
//! // Each finding has its schedule in columns, and a trace for replay.
//! if let Some(finding) = report.finding(Property::Torn) {
//!     eprintln!("{}\n{}", finding.violation.detail, finding.rendering);
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What a verdict claims
//!
//! *Safe* means: no property is violated in any interleaving within the bounds that the verdict states
//! (executors, passes, events), for a CPU that fetches coherently. Stepping serialises a CPU: what a
//! CPU does with instructions that it fetched *before* a store is not shown here; the `unserialised` property
//! names the places where that could matter. A *hazard* comes with a schedule that was executed again, live,
//! with one KVM vCPU for each executor, before it was reported. A search that was cut short, or a sample,
//! decides nothing about what it did not find. Timing is not observed at all.
//!
//! # Where to begin
//!
//! * [`scenario`]: the language of scenario files, and [`reference`] for what each of its keys means.
//! * [`property`]: what a protocol must not do; the names that stand in files and reports.
//! * [`check`](check()) for one scenario, [`Checker`] for many: it makes its machines once, and replays traces.
//! * [`Report`]: the verdict as data; [`report`] turns it into text, JSON, KTAP or JUnit.
//! * [`suite`]: many cases: selected, divided into shards, joined, and resumed after an interruption.
//! * [`machine::probe`]: what this host can do.
//! * [`freerun`]: what this CPU does at full speed, and what protocols cost. Statistics, never a verdict.
//!
//! # Words
//!
//! The *site* is the bytes that are patched, from *old* to *new*. The *patcher* is a list of steps, executed by
//! the host. *Executors* are vCPUs that pass through the site. A *sync* makes every executor serialise and
//! waits for it. A *move* is one atomic step of one actor: a piece of a store, an instruction, the delivery of
//! an interrupt. A *pass* is one way through the site, and its *outcome* says which version it looked like.
//!
//! # Parts
//!
//! ```text
//! scenario -> plan -> explore (model x engine) -> property -> check -> report
//!                     schedule (sampling)          trace: file, live replay, columns
//!                     machine: the only door to KVM
//! freerun (machine::free, fetch) -> counts, times -> report
//! ```

#![forbid(unsafe_code)]

pub mod check;
#[doc(hidden)]
pub mod engine;
pub mod freerun;
pub mod reference;
pub mod report;
#[doc(hidden)]
pub mod sites;
pub mod suite;
pub mod trace;

pub use check::{CheckError, CheckOptions, Checker, Mode, ReplayReport};
#[doc(hidden)]
pub use crossmod_explore as explore;
#[doc(hidden)]
pub use crossmod_explore::schedule;
pub use crossmod_kvm as machine;
#[doc(hidden)]
pub use crossmod_kvm::host;
pub use crossmod_linux as linux;
pub use crossmod_model::property;
#[doc(hidden)]
pub use crossmod_model::{fetch, image, layout, plan, state, step, x86};
pub use crossmod_scenario as scenario;
pub use crossmod_scenario::Scenario;
pub use report::Report;
pub use trace::Trace;

/// Checks one scenario on a machine of its own. To check many, keep a [`Checker`].
///
/// # Errors
///
/// [`CheckError::Scenario`] if the scenario cannot be used, [`CheckError::Machine`] if KVM cannot: of these,
/// [`NoKvm`](machine::MachineError::NoKvm) says that the host has none. A scenario that only `options` make
/// impossible is no error, but a report of status [`Skipped`](report::Status::Skipped).
pub fn check(scenario: &Scenario, options: &CheckOptions) -> Result<Report, CheckError> {
    Checker::new()?.check(scenario, options, |_| {})
}
