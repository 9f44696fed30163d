//! `unserialised`: a discipline check, like a data-race detector. A fetch must not overlap bytes stored
//! since this vCPU last executed a serialising instruction, whichever version the fetch happens to read.
//!
//! What a fetch overlaps depends on the instruction that it finds, and an unserialised vCPU may find any
//! version since it last serialised: with the INT3 itself unserialised, the old instruction may still be
//! there, and it overlaps the tail. The check therefore covers every such version.

use super::Fetch;
use crate::property::{Property, Violation};
use crate::state::shared_state::{Commit, Exempt};
use crate::x86::decode;

pub(super) fn at_fetch(fetch: &Fetch<'_>) -> Option<Violation> {
    let offset = fetch.offset()?;
    let since = usize::from(fetch.ghost.serialised);
    let history = fetch.history;
    for version in since..history.images.len() {
        let end = offset + history.extent(version, offset, fetch.plan.site.address);
        let mut quadwords = None;
        let mut needs_serialising = |commit: &Commit| match commit.exempt {
            Exempt::No => true,
            Exempt::Always => false,
            Exempt::Quadword(number) => quadwords.replace(number).is_some_and(|other| other != number),
        };
        for commit in &history.commits[since..] {
            if commit.offset < end && commit.offset + commit.len > offset && needs_serialising(commit) {
                let step = &fetch.plan.op(commit.op).step;
                let found = &history.images[version][offset..end];
                let found = decode::disassemble(found, fetch.rip);
                let fetch = if version + 1 == history.images.len() {
                    format!("the fetch of `{found}` at site+{offset}..{end} overlaps")
                } else {
                    format!(
                        "the fetch at site+{offset} may still find `{found}`, whose bytes {offset}..{end} overlap"
                    )
                };
                return Some(Violation::new(
                    Property::Unserialised,
                    format!(
                        "{fetch} the store of step `{step}`; what is missing is a serialising instruction of this \
                         vCPU after that step"
                    ),
                ));
            }
        }
    }
    None
}
