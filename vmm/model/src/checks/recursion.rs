//! `recursion`: the #BP handler does not trap on the site. An NMI that interrupts the handler and traps is
//! another matter: that trap is handled and returns.

use crossmod_abi::vector;

use super::Fetch;
use crate::plan::Declared;
use crate::property::{Property, Violation};

pub(super) fn at_fetch(fetch: &Fetch<'_>) -> Option<Violation> {
    (fetch.version? == Declared::Trap
        && fetch.ghost.contexts.last().is_some_and(|context| context.vector == vector::BP))
    .then(|| Violation::new(Property::Recursion, "the #BP handler itself runs into the site's INT3"))
}
