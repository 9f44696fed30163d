//! `unclaimed-trap`: every #BP of the protocol is claimed by the handler.

use super::{Property, Violation};

/// After a step: `refusal` is the handler's path for traps that are not its own.
pub(crate) fn at_step(rip: u64, refusal: u64) -> Option<Violation> {
    (rip == refusal).then(|| {
        Violation::new(
            Property::UnclaimedTrap,
            "the handler does not claim the #BP that the site's INT3 raised",
        )
    })
}
