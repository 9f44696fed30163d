//! Crossmod: a test bench for cross-modifying code on x86-64.
//!
//! A scenario describes a patch site before and after, the code that executes it, the steps of the patcher, and the
//! events that may interrupt them. Crossmod runs the real bytes of the site and the real handlers of a guest on KVM, one
//! instruction at a time, in every order within the bounds of the scenario, and reports the orders that violate a
//! property.
//!
//! ```no_run
//! use crossmod::{CheckOptions, property::Property, report, scenario};
//!
//! // A file of your own; `scenario::library()` has the shipped ones.
//! let scenario = scenario::load("my-site.toml".as_ref())?;
//! let report = crossmod::check(&scenario, &CheckOptions::default())?;
//! // Exactly the expected properties were violated.
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
//! *Safe* means that no interleaving within the stated bounds (executors, passes, events) violates a property, for a CPU
//! that fetches code as the stated fetch model allows. Stepping serialises the CPU, so instructions that a real CPU
//! fetched *before* a store appear only as far as the fetch model has them; the `unserialised` property marks the places
//! where they could matter. A *hazard* comes with a schedule that was executed again, live, with one KVM vCPU for each
//! executor, before it was reported. A search that was cut short, or a sample, decides nothing about properties for which
//! it found no violation. Time is not modelled.
//!
//! # Modules
//!
//! * [`check`](check()) checks one scenario; a [`Checker`] checks many on the same machines, and replays traces.
//! * [`scenario`]: the language of scenario files, and the shipped scenarios. [`mod@reference`] describes every key.
//! * [`property`]: the properties that a protocol must not violate.
//! * [`results`]: the [`Report`] of a check and the results of a run, as data.
//! * [`report`]: these as text, JSON, KTAP or JUnit.
//! * [`suite`]: many cases: selected, divided into shards, joined, and resumed after an interruption.
//! * [`trace`]: recorded schedules.
//! * [`freerun`]: the behaviour of this CPU at full speed, and the cost of protocols. Statistics, never a verdict.
//! * [`linux`]: patch sites of Linux kernel images.
//!
//! # Terms
//!
//! The *site* is the bytes that are patched, from *old* to *new*. The *patcher* is a list of steps, executed by the host.
//! *Executors* are vCPUs that pass through the site. A *sync* makes every executor serialise and waits for it. A *move* is
//! one atomic step of one actor: a part of a store, an instruction, the delivery of an interrupt. A *pass* is one way
//! through the site, and its *outcome* says which version it was equal to.
//!
//! # Crates and layers
//!
//! A crate may use those above it. Only `crossmod-kvm` uses KVM and contains unsafe code.
//!
//! | crate | content |
//! |---|---|
//! | `crossmod-model` | facts of x86, plans, fetch models, states, properties |
//! | `crossmod-linux` | kernel images: readers, tables of patch sites; uses no other crate |
//! | `crossmod-scenario` | scenario files, and the compiler from a scenario to a plan |
//! | `crossmod-explore` | semantics of a plan, exhaustive search, sampling; generic over the engine that executes steps |
//! | `crossmod-kvm` | the virtual machine: single steps, and the free-running side |
//! | `crossmod` | this crate: it connects them, and contains the program |
//!
//! In this crate each module uses only those to its left; `report` also renders what `freerun` measures:
//!
//! ```text
//! engine -> trace -> results -> check -> suite -> report -> command line
//! ```

#![forbid(unsafe_code)]

pub mod check;
#[doc(hidden)]
pub mod engine;
pub mod freerun;
pub mod reference;
pub mod report;
pub mod results;
#[doc(hidden)]
pub mod sites;
pub mod suite;
pub mod trace;

pub use check::{CheckError, CheckOptions, Checker, Mode, ReplayReport};
#[doc(hidden)]
pub use crossmod_explore::{self as explore, schedule};
#[doc(hidden)]
pub use crossmod_kvm::{self as machine, host};
pub use crossmod_linux as linux;
pub use crossmod_model::property;
#[doc(hidden)]
pub use crossmod_model::{fetch, image, layout, memory, plan, state, step, x86};
pub use crossmod_scenario as scenario;
pub use crossmod_scenario::Scenario;
pub use results::Report;
pub use trace::Trace;

/// Checks one scenario on a machine of its own. To check many, keep a [`Checker`].
///
/// # Errors
///
/// [`CheckError::Scenario`] if the scenario cannot be used; [`CheckError::Machine`] if KVM fails, with
/// [`NoKvm`](crossmod_kvm::MachineError::NoKvm) if the host has none. A scenario that only `options` or this host exclude
/// is not an error, but a report of status [`Skipped`](results::Status::Skipped).
pub fn check(scenario: &Scenario, options: &CheckOptions) -> Result<Report, CheckError> {
    Checker::new()?.check(scenario, options, |_| {})
}
