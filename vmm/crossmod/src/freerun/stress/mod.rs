//! Stress: a scenario at full speed, again and again.
//!
//! Each *round* starts with the old version in place and every executor serialised for it. The host performs the
//! scenario's steps while executors pass through the site without pause. At the end it holds all of them and restores
//! the old version. Versions carry numbers in the bytes of their branch if it has room for them, so that a pass shows,
//! byte by byte, which round its bytes belong to: a later round that looks the same does not hide a stale byte. A version
//! without room for a number counts as the newest of its kind, and is therefore never stale. If neither version has room,
//! the run makes no claim about `stale` and `order`.
//!
//! Differences from exploration:
//!
//! * Everything runs at ring 3, the ring that is native on every KVM, also the passes of interrupt handlers. These start
//!   with a return to ring 3, which serialises: a handler shows torn bytes, but rarely stale ones.
//! * Traps, and handlers that run the site, go through the host, which takes tens of microseconds, with interrupts off,
//!   as behind the gate.
//! * The fetch model is the CPU's. `assume-synchronised` does nothing; `delay` waits 5 microseconds for each transition.
//! * Only outcomes are visible: `torn`, `stale`, `order`, `unclaimed-trap`, `wrong-resume`, `lifetime`, and `deadlock` if
//!   a wait takes three seconds. A mix of bytes with the effect of the old or the new version goes unnoticed.
//! * Budgets of events become rates, and passes continue for the whole time.

mod alone;
mod finding;
mod judge;
mod results;
mod round;
mod run;
mod stressable;
mod versions;

pub use super::messages::{Messages, Rates};
pub use finding::{StressFinding, write};
pub use judge::StressCounts;
pub use results::{Stress, StressError};
pub use run::{StressOptions, StressProgress, stress};
pub use stressable::Refusal;
