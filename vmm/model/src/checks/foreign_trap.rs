//! `foreign-trap`: a #BP that is not the site's reaches its owner: the handler hands it on instead of acting.

use crate::property::{Property, Violation};

/// When the handler of a foreign trap returns without having handed it on.
pub fn at_return() -> Violation {
    Violation::new(
        Property::ForeignTrap,
        "the handler claims a #BP that an int3 outside of the site raised: its owner never gets it",
    )
}
