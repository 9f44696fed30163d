//! Surveys, as text, JSON and a page.

mod headlines;
mod html;
mod text;

use serde::Serialize;

pub use headlines::headlines;
pub use html::{map_svg, section};
pub use text::{HALVES, HEADER, PAIRS, line, pair, summary};

use crate::freerun::survey::{Class, Rule, Survey, bound};

/// A survey and what follows from it, as JSON.
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
    /// The document of a survey.
    pub fn new(survey: &'a Survey) -> Document<'a> {
        let (classes, rules, headlines) = (survey.classes(), survey.rules(), headlines(survey));
        Document { survey, classes, rules, headlines, held: survey.held() }
    }
}

/// What pairs do not show.
const PAIRS_CLAIM: &str = "pairs claim torn only: since old and new take turns, a stale instruction looks like a later one; an \
    instruction that differs in one byte cannot be torn";

/// How to read a rate under KVM divided by that without.
const FACTOR: &str = "Instructions and CPU are the same. Rates depend on the relative timing of the two loops and on other load, and differ \
    from run to run; a vCPU leaves for the host now and then, while the other one continues. A factor far from 1 shows different \
    relative timing. If KVM changed how the CPU fetches code, other boundaries would be torn.";

/// Passes in a million, or the upper bound if there were none.
pub(super) fn per_million(count: u64, trials: u64) -> String {
    let number = |value: f64| match value {
        9.95.. => format!("{value:.0}"),
        0.095.. => format!("{value:.1}"),
        _ => format!("{value:.3}"),
    };
    match (count, trials) {
        (_, 0) => "-".into(),
        (0, _) => format!("<{}", number(1e6 * bound(trials))),
        _ => number(1e6 * count as f64 / trials as f64),
    }
}

/// A quotient of two rates.
fn factor(factor: Option<f64>) -> String {
    match factor {
        None => "-".into(),
        Some(factor) if factor < 0.095 => format!("{factor:.4}"),
        Some(factor) => format!("{factor:.2}"),
    }
}

/// The machine and the CPUs, in one line.
pub(super) fn host(survey: &Survey) -> String {
    let microcode = survey.host.microcode.as_deref().unwrap_or("unknown");
    let [executor, writer] = survey.cpus;
    let pinned = if survey.pinned { "pinned to" } else { "NOT PINNED to" };
    format!("{}, microcode {microcode}; {pinned} CPUs {executor} and {writer}", survey.host.line())
}

#[cfg(test)]
mod tests {
    use super::{factor, per_million};

    #[test]
    fn small_factors_are_not_zero() {
        let factors = [None, Some(0.00383), Some(0.0949), Some(0.0951), Some(1.236)].map(factor);
        assert_eq!(factors, ["-", "0.0038", "0.0949", "0.10", "1.24"]);
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
