//! `stale`: a pass that began after the patcher completed runs neither old bytes nor the protocol's trap.

use super::Fetch;
use crate::plan::Declared;
use crate::property::{Property, Violation};

pub(super) fn at_fetch(fetch: &Fetch<'_>) -> Option<Violation> {
    let what = match fetch.version? {
        Declared::Old => "the old instruction",
        Declared::Trap => "the protocol's INT3",
        Declared::New | Declared::Both | Declared::Intermediate => return None,
    };
    // The site's own #BP handler may run the site; the innermost pass is the one that fetches.
    let pass = fetch.ghost.passes.last()?;
    let part = fetch.plan.site.part(fetch.offset()?)?;
    (pass.after_done >> part & 1 == 1)
        .then(|| Violation::new(Property::Stale, format!("a pass that began after completion runs {what}")))
}
