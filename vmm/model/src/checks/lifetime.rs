//! `lifetime`: nothing is used after it was withdrawn: neither the handler's descriptor nor code.

use crossmod_abi::{shared, va};

use super::Fetch;
use crate::property::{Property, Violation};
use crate::state::shared_state::SharedState;
use crate::x86::decode::Access;

pub(super) fn at_fetch(fetch: &Fetch<'_>) -> Option<Violation> {
    let freed = fetch.plan.pads.iter().enumerate().find(|(index, pad)| {
        fetch.shared_state.pads_freed & (1 << index) != 0
            && (pad.address..pad.address + 4).contains(&fetch.rip)
    })?;
    Some(Violation::new(Property::Lifetime, format!("{} is executed after it was withdrawn", freed.1.name)))
}

/// A data access by a handler.
pub fn at_access(shared_state: &SharedState, access: &Access) -> Option<Violation> {
    let body = va::SHARED + shared::ACTION..va::SHARED + shared::DESCRIPTOR_END;
    (shared_state.descriptor_freed && access.touches(body.start, body.end)).then(|| {
        Violation::new(Property::Lifetime, "the handler uses its descriptor after that was withdrawn")
    })
}
