//! Reads TOML, and turns its errors into errors with a place and a remedy.

use serde::de::DeserializeOwned;

use super::error::{ErrorKind, ScenarioError, Source, suggest};
use super::spanned::reading;

/// Reads a table.
pub(super) fn read<T: DeserializeOwned>(source: &Source) -> Result<T, ScenarioError> {
    let text = &source.text;
    reading(source, || toml::from_str(text)).map_err(|error: toml::de::Error| {
        let message = error.message().to_owned();
        let span = error.span().unwrap_or(0..0);
        let help = if text.trim().is_empty() {
            "the file is empty: start from a copy of a shipped scenario".to_owned()
        } else {
            remedy(&message, span.start >= text.trim_end().len())
        };
        source.at(span).error(message, "here", help).of_kind(ErrorKind::Syntax)
    })
}

/// What to change after an error of the TOML reader, whose messages name things in backquotes.
fn remedy(message: &str, at_end: bool) -> String {
    let quoted: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    if let Some((wrong, known)) = quoted
        .split_first()
        .filter(|_| message.starts_with("unknown field") || message.starts_with("unknown variant"))
    {
        return suggest(wrong, known, &format!("remove it, or use one of {}", known.join(", ")));
    }
    if message.starts_with("missing field") {
        return format!("add {}", quoted.first().map_or("it".into(), |name| format!("`{name} = ...`")));
    }
    if message.starts_with("invalid type") || message.starts_with("invalid value") {
        return "write the value in the form that is expected here".to_owned();
    }
    if message.starts_with("duplicate key") {
        return "give each key once".to_owned();
    }
    if at_end {
        return "the file seems to end too early: is it complete?".to_owned();
    }
    "correct the TOML here; https://toml.io has the grammar".to_owned()
}
