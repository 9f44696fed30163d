//! The free-running tier: what this silicon does when nothing is stepped.
//!
//! Pinned threads run a patch site and store to it at full speed, unsynchronised, and what happens is counted. This
//! is statistics on one machine: a count that is not zero shows that the CPU does something; a zero bounds
//! its rate (below 3/N with 95 % confidence, as N independent trials would) and proves nothing. Trials of one
//! run are not independent, so the bound is a guide. Nothing here is replayable, and nothing here is a verdict
//! about a protocol: those come from [`check`](crate::check()).
//!
//! What limits it:
//!
//! * The executor is at ring 3, the only ring that runs natively on every KVM; a survey also takes ring 0 where that is
//!   native.
//! * One executor and one writer, on the first two CPUs that this process may use. Whatever else runs on them, and
//!   a hypervisor below, only shows as fewer trials; but it also moves the two loops against each other, so
//!   rates are of this machine in this state.
//! * Rates depend on how often the writer stores. They compare places with each other, not CPUs.
//! * Only the immediate of an instruction changes, or one of few pairs of instructions takes turns, so that each mix of
//!   bytes is a harmless outcome of its own. Other pairs may behave otherwise.
//!
//! # Parts
//!
//! * [`cell`]: what is tried, where.
//! * [`outcome`]: what a pass shows.
//! * [`allowed`]: whether a fetch model has that outcome.
//! * [`pairs`]: two instructions in turn.
//! * [`survey`](survey()): the run.
//! * [`mod@bench`]: what protocols cost.
//! * [`mod@stress`]: a scenario at full speed.

pub mod allowed;
pub mod bench;
pub mod cell;
mod messages;
pub mod outcome;
pub mod pairs;
pub mod stress;
mod summary;
mod survey;

use crate::plan::Ring;

pub use messages::{Messages, Rates};
pub use summary::{Class, Rule, Standing};
pub use survey::{Done, Finding, ModelLine, Options, Row, Seen, Side, Survey, survey};

/// What every report of this tier says of itself.
pub const TIER: &str = "tier free-running: counted on this silicon, at full speed, at ring 3; statistics, nothing here is replayable";

/// The same of executors at a ring.
fn tier(ring: Ring) -> String {
    match ring {
        Ring::User => TIER.into(),
        Ring::Kernel => TIER.replace("at ring 3", "at ring 0"),
    }
}

/// What to make of a rate under KVM over that without.
pub const FACTOR: &str = "The instructions and the CPU are the same. Rates depend on the phase in which \
    the two loops settle and on what else the CPUs do, and differ from run to run; a vCPU leaves for the host now and then, while the \
    other goes on alone. A factor far from 1 says how the loops meet; that KVM changes how code is fetched would show in which \
    boundaries are torn.";
