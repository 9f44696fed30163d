//! `order`: old\* then new\* for each executor; and inside one pass, no old code after new code.

use super::Fetch;
use crate::plan::Declared;
use crate::property::{Property, Violation};
use crate::state::ghost::Pass;

pub(super) fn at_fetch(fetch: &Fetch<'_>) -> Option<Violation> {
    let pass = fetch.ghost.passes.last()?;
    let part = fetch.plan.site.part(fetch.offset()?)?;
    (fetch.version? == Declared::Old && pass.ran_new >> part & 1 == 1)
        .then(|| Violation::new(Property::Order, "a pass runs a new instruction and then a leftover old one"))
}

/// At the end of a pass whose outcome is that of a part's old version (and not also that of new).
pub fn at_pass_end(pass: &Pass, part: usize) -> Option<Violation> {
    (pass.new_before >> part & 1 == 1).then(|| {
        Violation::new(Property::Order, "this pass has the outcome of old, an earlier one had that of new")
    })
}
