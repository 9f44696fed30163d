//! `torn`: what is fetched at the site is one of the declared instructions at a declared boundary.

use super::Fetch;
use crate::hex;
use crate::property::{Property, Violation};
use crate::x86::decode;

pub(super) fn at_fetch(fetch: &Fetch<'_>) -> Option<Violation> {
    let offset = fetch.offset().filter(|_| fetch.version.is_none())?;
    let seen = &fetch.bytes
        [..fetch.instruction.map_or(fetch.plan.site.len() - offset, |i| i.len()).min(fetch.bytes.len())];
    Some(Violation::new(
        Property::Torn,
        format!(
            "site+{offset} reads {} = {}, which is neither old nor new nor a declared intermediate",
            hex::spaced(seen),
            decode::disassemble(seen, fetch.rip)
        ),
    ))
}
