//! `unclaimed-trap`: every #BP of the protocol is claimed by the handler.

use crate::property::{Property, Violation};

/// The handler takes its path for traps that are not its own, though the trap is the site's.
pub fn found() -> Violation {
    Violation::new(Property::UnclaimedTrap, "the handler does not claim the #BP that the site's INT3 raised")
}
