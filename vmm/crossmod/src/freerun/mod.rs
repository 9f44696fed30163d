//! The free-running tier: what this silicon does when nothing is stepped.
//!
//! * [`survey`]: where a CPU tears instructions, or keeps old ones.
//! * [`stress`]: a scenario at full speed.
//! * [`bench`](mod@bench): what patching protocols cost.
//!
//! Pinned threads run a patch site and store to it at full speed, and Crossmod counts what happens. The results are
//! statistics of one machine: a count above zero shows that the CPU does something; a zero is only an upper bound of its
//! rate (3/N with 95 % confidence, if N trials are independent, which those of one run are not). None of this is
//! replayable, and none of it is a verdict about a protocol: those come from [`check`](crate::check()).

pub mod bench;
mod messages;
pub mod stress;
pub mod survey;

use crate::plan::Ring;

pub use messages::{Messages, Rates};

/// What every report of this tier says about itself.
pub const TIER: &str = "tier free-running: counted on this silicon, at full speed, at ring 3; statistics, nothing here is replayable";

/// The same of executors at a ring.
fn tier(ring: Ring) -> String {
    match ring {
        Ring::User => TIER.into(),
        Ring::Kernel => TIER.replace("at ring 3", "at ring 0"),
    }
}
