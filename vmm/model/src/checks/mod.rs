//! The checks of the properties, one in each file. Each is a pure function over a plan, an executor and the shared
//! state, and is tested without KVM.
//!
//! The length of [`stall`]s is measured, not judged.

mod fetch;
pub mod foreign_trap;
pub mod interior;
pub mod lifetime;
pub mod multi_site;
pub mod nmi_frame;
pub mod order;
pub mod progress;
mod recursion;
mod stale;
pub mod stall;
mod torn;
pub mod unclaimed_trap;
mod unserialised;
pub mod wrong_resume;

pub use fetch::Fetch;

use crate::property::Violation;

/// Checks an executor's fetch before the instruction runs.
pub fn at_fetch(fetch: &Fetch<'_>) -> Vec<Violation> {
    [
        torn::at_fetch,
        stale::at_fetch,
        order::at_fetch,
        unserialised::at_fetch,
        lifetime::at_fetch,
        recursion::at_fetch,
    ]
    .iter()
    .filter_map(|check| check(fetch))
    .collect()
}
