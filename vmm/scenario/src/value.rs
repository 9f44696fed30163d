//! Checks of single values.

use super::error::{Place, ScenarioError, Source};
use super::syntax::{Int, Mask};

/// A number within bounds, both included.
pub(super) fn ranged(
    source: &Source,
    number: &Int,
    what: &str,
    low: i64,
    high: i64,
) -> Result<i64, ScenarioError> {
    let value = *number.get_ref();
    if (low..=high).contains(&value) {
        return Ok(value);
    }
    Err(source.at(number.span()).error(
        format!("{value} is not a valid value for {what}"),
        "out of range",
        format!("choose a number from {low} to {high}"),
    ))
}

/// The bit mask of the executors meant; at least one.
pub(super) fn mask(
    source: &Source,
    place: &Place,
    mask: &Mask,
    executors: usize,
) -> Result<u32, ScenarioError> {
    match mask {
        Mask::All => Ok((1 << executors) - 1),
        Mask::These(list) => these(source, place, list, executors),
    }
}

/// The bit mask of the executors in a list; at least one.
pub(super) fn these(
    source: &Source,
    place: &Place,
    list: &[Int],
    executors: usize,
) -> Result<u32, ScenarioError> {
    let mut bits = 0;
    for number in list {
        let value = *number.get_ref();
        let Some(index) = usize::try_from(value).ok().filter(|index| *index < executors) else {
            return Err(source.at(number.span()).error(
                format!("there is no executor {value}"),
                "does not exist",
                format!(
                    "executors are numbered from 0 to {}; add one, or remove the number",
                    executors.saturating_sub(1)
                ),
            ));
        };
        bits |= 1 << index;
    }
    if bits == 0 {
        return Err(place.error(
            "the list of executors is empty",
            "empty",
            "name at least one executor, or write \"all\"",
        ));
    }
    Ok(bits)
}

/// Parses pairs of hex digits.
pub(super) fn hex(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    for word in text.split_whitespace() {
        if word.len() % 2 != 0 || !word.bytes().all(|c| c.is_ascii_hexdigit()) {
            return None;
        }
        for at in (0..word.len()).step_by(2) {
            bytes.push(u8::from_str_radix(word.get(at..at + 2)?, 16).ok()?);
        }
    }
    (!bytes.is_empty()).then_some(bytes)
}
