//! Surveys of what a CPU does with stores to code that it executes.

mod html;
mod text;

use serde::Serialize;

pub(super) use html::HEAT;
pub use html::{map_svg, section};
pub use text::{HEADER, PAIRS, line, pair, summary};

use crate::freerun::{Class, Rule, Survey};

/// A survey with what follows from it, as it is written to JSON.
#[derive(Serialize)]
pub struct Document<'a> {
    #[serde(flatten)]
    survey: &'a Survey,
    classes: Vec<Class>,
    rules: Vec<Rule>,
    headlines: Vec<String>,
    held: bool,
}

impl<'a> Document<'a> {
    /// That of a survey.
    pub fn new(survey: &'a Survey) -> Document<'a> {
        let (classes, rules, headlines) = (survey.classes(), survey.rules(), survey.headlines());
        Document { survey, classes, rules, headlines, held: survey.held() }
    }
}

/// What the pairs do not show.
const PAIRS_CLAIM: &str = "pairs claim torn only: with old and new in turn, a stale instruction looks like a later one; where one byte \
    differs, nothing can be torn";

/// Passes in a million, or the bound of what was not seen.
pub(super) fn per_million(count: u64, trials: u64) -> String {
    let number = |value: f64| match value {
        9.95.. => format!("{value:.0}"),
        0.095.. => format!("{value:.1}"),
        _ => format!("{value:.3}"),
    };
    match (count, trials) {
        (_, 0) => "-".into(),
        (0, _) => format!("<{}", number(1e6 * crate::freerun::outcome::bound(trials))),
        _ => number(1e6 * count as f64 / trials as f64),
    }
}

/// A rate over another.
fn factor(factor: Option<f64>) -> String {
    match factor {
        None => "-".into(),
        Some(factor) if factor < 0.095 => format!("{factor:.4}"),
        Some(factor) => format!("{factor:.2}"),
    }
}

/// Where it ran, in one line.
pub(super) fn host(survey: &Survey) -> String {
    let microcode = survey.host.microcode.as_deref().unwrap_or("unknown");
    let [executor, writer] = survey.cpus;
    let pinned = if survey.pinned { "pinned to" } else { "NOT PINNED; meant for" };
    format!("{}, microcode {microcode}; {pinned} CPUs {executor} and {writer}", survey.host.line())
}

#[cfg(test)]
mod tests {
    use super::{factor, per_million};

    #[test]
    fn small_factors_are_not_zero() {
        let told = [None, Some(0.00383), Some(0.0949), Some(0.0951), Some(1.236)].map(factor);
        assert_eq!(told, ["-", "0.0038", "0.0949", "0.10", "1.24"]);
    }

    #[test]
    fn zeros_are_bounds() {
        assert_eq!(per_million(0, 0), "-");
        assert_eq!(per_million(0, 1_000_000), "<3.0");
        assert_eq!(per_million(0, 100_000_000), "<0.030");
        assert_eq!(per_million(5, 1_000_000), "5.0");
        assert_eq!(per_million(1_000, 1_000_000), "1000");
    }
}
