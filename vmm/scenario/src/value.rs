//! Checks of single values.

use super::error::{Place, ScenarioError};
use super::spanned::Spanned;
use super::syntax::{Int, Mask, Operand, Values};

/// A number within bounds, both included.
pub(super) fn ranged(number: &Int, what: &str, low: i64, high: i64) -> Result<i64, ScenarioError> {
    let value = number.value;
    if (low..=high).contains(&value) {
        return Ok(value);
    }
    Err(number.place.error(
        format!("{value} is not a valid value for {what}"),
        "out of range",
        format!("choose a number from {low} to {high}"),
    ))
}

/// The bit mask of the executors to whom something goes: all, if nobody is named.
pub(super) fn mask(
    to: Option<&Spanned<Mask>>,
    place: &Place,
    executors: usize,
) -> Result<u32, ScenarioError> {
    match to.map(|to| &to.value) {
        None | Some(Mask::All) => Ok((1 << executors) - 1),
        Some(Mask::These(list)) => these(place, list, executors),
    }
}

/// The bit mask of the executors in a list; at least one.
pub(super) fn these(place: &Place, list: &[Int], executors: usize) -> Result<u32, ScenarioError> {
    let mut bits = 0;
    for number in list {
        let Some(index) = usize::try_from(number.value).ok().filter(|index| *index < executors) else {
            return Err(number.place.error(
                format!("there is no executor {}", number.value),
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

/// The only entry of a step's values, besides those with these keys.
pub(super) fn only<'v>(
    values: &'v Spanned<Values>,
    besides: &[&str],
    message: &str,
    help: &str,
) -> Result<(&'v str, &'v Spanned<Operand>), ScenarioError> {
    let mut entries = values.iter().filter(|(name, _)| !besides.contains(&name.as_str()));
    match (entries.next(), entries.next()) {
        (Some((name, operand)), None) => Ok((name, operand)),
        _ => Err(values.place.error(message, "none or several", help)),
    }
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
