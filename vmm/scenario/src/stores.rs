//! The bytes that a `store` writes, for the patcher and for programs.

use super::built_in::LARGEST_PIECE;
use super::error::ScenarioError;
use super::site::Resolved;
use super::spanned::Spanned;
use super::steps::Item;
use super::syntax::{self, What};
use super::value::{self, hex};

/// The stores of a step to a part: offsets in the whole site, and bytes.
pub(crate) fn stored_bytes(
    site: &Resolved,
    part: usize,
    item: &Item,
    store: &Spanned<syntax::Store>,
) -> Result<Vec<(usize, Vec<u8>)>, ScenarioError> {
    let [old, new] = [false, true].map(|version| &site.version(part, version).code.bytes);
    let (base, len) = (site.site.parts[part].offset, site.site.parts[part].len);
    let (offset, bytes, place) = match (&store.what, &store.at, &store.bytes) {
        (Some(what), None, None) => {
            let (offset, bytes) = match what.value {
                What::Int3 => (0, &[0xcc][..]),
                What::New => (0, &new[..]),
                What::Old => (0, &old[..]),
                What::NewFirst => (0, &new[..1]),
                What::OldFirst => (0, &old[..1]),
                What::NewTail => (1, &new[1..]),
                What::OldTail => (1, &old[1..]),
            };
            (offset, bytes.to_vec(), &what.place)
        }
        (None, Some(at), Some(text)) => {
            let Some(bytes) = hex(text) else {
                return Err(text.place.error(
                    format!("`{}` is not a list of bytes", text.chars().take(40).collect::<String>()),
                    "not hex",
                    "give bytes in hex, as in \"0f 1f 44 00 00\"",
                ));
            };
            let offset = at.value;
            let end = offset.saturating_add(bytes.len() as i64);
            if offset < 0 || end > len as i64 {
                return Err(at.place.error(
                    format!(
                        "a store of {} bytes at {offset} is outside of the site, which has {len} bytes",
                        bytes.len()
                    ),
                    "outside",
                    format!("store within 0..{len}, or make the site longer"),
                ));
            }
            (offset as usize, bytes, &text.place)
        }
        _ => {
            return Err(store.place.error(
                "a store needs either `what`, or `at` and `bytes`",
                "incomplete or contradictory",
                "give either `what = \"new-tail\"` (or int3, new, old, new-first, old-first, old-tail), or \
                 both `at` and `bytes`",
            ));
        }
    };
    if bytes.is_empty() {
        return Err(place.error(
            "the site has one byte and no tail",
            "nothing to store",
            format!("drop this step: `without = [\"{}\"]`", item.label),
        ));
    }
    let each = match &store.each {
        Some(each) => value::ranged(each, "the size of a store in bytes", 1, LARGEST_PIECE)? as usize,
        None => bytes.len(),
    };
    let pieces = bytes.chunks(each).enumerate();
    Ok(pieces.map(|(index, piece)| (base + offset + index * each, piece.to_vec())).collect())
}
