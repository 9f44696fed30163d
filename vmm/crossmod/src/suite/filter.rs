//! Filters for cases, by tag and by expectation.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use crossmod_model::property::Property;
use crossmod_scenario::{current_name, is_tag, nearest};
use itertools::Itertools;

use super::{Case, SuiteError};

/// `nmi` selects scenarios with that tag, `!nmi` those without it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TagRule {
    /// The tag.
    pub tag: String,
    /// Whether selected scenarios have the tag.
    pub has: bool,
}

impl FromStr for TagRule {
    type Err = String;

    fn from_str(text: &str) -> Result<TagRule, String> {
        let (tag, has) = text.strip_prefix('!').map_or((text, true), |tag| (tag, false));
        match is_tag(tag) {
            true => Ok(TagRule { tag: current_name(tag).into_owned(), has }),
            false => Err("a tag is a word of a-z, 0-9 and -, with ! in front to exclude it".into()),
        }
    }
}

impl fmt::Display for TagRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", if self.has { "" } else { "!" }, self.tag)
    }
}

/// The expectation that a selected case has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::Display)]
#[strum(serialize_all = "lowercase")]
pub enum Wanted {
    /// No property is violated.
    Safe,
    /// This property is violated.
    #[strum(transparent)]
    Violated(Property),
}

impl FromStr for Wanted {
    type Err = String;

    fn from_str(text: &str) -> Result<Wanted, String> {
        match text {
            "safe" => Ok(Wanted::Safe),
            name => name.parse().map(Wanted::Violated).map_err(|error: String| format!("{error}, or safe")),
        }
    }
}

/// Rules that a selected case fulfils, all of them.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Rules for the scenario's tags.
    pub tags: Vec<TagRule>,
    /// Rules for the expectation under the case's fetch model.
    pub wanted: Vec<Wanted>,
}

impl Filter {
    /// Whether the filter selects `case`.
    pub fn selects(&self, case: &Case) -> bool {
        self.tags.iter().all(|rule| case.tags.contains(&rule.tag) == rule.has)
            && self.wanted.iter().all(|wanted| match wanted {
                Wanted::Safe => case.plan.expect.is_empty(),
                Wanted::Violated(property) => case.plan.expect.contains(property),
            })
    }

    /// The selected cases, in their order.
    ///
    /// # Errors
    ///
    /// [`SuiteError::Selection`] for a tag that no case has, because a misspelt exclusion would exclude nothing, and if no
    /// case is left.
    pub fn apply(&self, cases: Vec<Case>) -> Result<Vec<Case>, SuiteError> {
        let known: BTreeSet<&str> = cases.iter().flat_map(|case| &case.tags).map(String::as_str).collect();
        if let Some(rule) = self.tags.iter().find(|rule| !known.contains(rule.tag.as_str())) {
            let help = match nearest(&rule.tag, known.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None if known.is_empty() => "none has any; add tags = [\"...\"] to the file".into(),
                None => format!("there are {}", known.iter().join(", ")),
            };
            let message = format!("no scenario here has the tag `{}`: {help}", rule.tag);
            return Err(SuiteError::Selection(message));
        }
        let all = cases.len();
        let left: Vec<Case> = cases.into_iter().filter(|case| self.selects(case)).collect();
        if left.is_empty() {
            return Err(SuiteError::Selection(format!(
                "none of {all} cases {self}: ask for less at a time; `crossmod list --json` has tags and expectations"
            )));
        }
        Ok(left)
    }
}

/// As the end of a sentence: `has the tags nmi, !mutant and expects torn`.
impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (tags, wanted) = (self.tags.iter().join(" and "), self.wanted.iter().join(" and "));
        match (self.tags.is_empty(), self.wanted.is_empty()) {
            (true, _) => write!(f, "expects {wanted}"),
            (false, true) => write!(f, "has the tags {tags}"),
            (false, false) => write!(f, "has the tags {tags} and expects {wanted}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{scenario, suite};

    fn count(tags: &[&str], wanted: &[&str]) -> Result<usize, SuiteError> {
        let filter = Filter {
            tags: tags.iter().map(|text| text.parse().unwrap()).collect(),
            wanted: wanted.iter().map(|text| text.parse().unwrap()).collect(),
        };
        let cases = suite::cases(&scenario::library(), &[]).unwrap();
        filter.apply(cases).map(|cases| cases.len())
    }

    #[test]
    fn rules_narrow_and_a_rule_and_its_opposite_part_the_whole() {
        let all = count(&[], &[]).unwrap();
        let (with, without) = (count(&["fixup"], &[]).unwrap(), count(&["!fixup"], &[]).unwrap());
        assert_eq!(with + without, all);
        assert_eq!(
            with,
            count(&["fixup", "mutant"], &[]).unwrap() + count(&["fixup", "!mutant"], &[]).unwrap()
        );
        let torn = count(&[], &["torn"]).unwrap();
        assert!(0 < torn && torn < all && count(&[], &["torn", "unserialised"]).unwrap() <= torn);
        assert!(count(&[], &["safe"]).unwrap() + torn <= all);
    }

    #[test]
    fn what_selects_nothing_is_refused_with_what_there_is() {
        let text = |result: Result<usize, SuiteError>| result.unwrap_err().to_string();
        assert!(text(count(&["fixpu"], &[])).contains("did you mean `fixup`?"));
        assert!(text(count(&["!elephants-at-large"], &[])).contains("there are "));
        let nothing = text(count(&["naive"], &["safe", "torn"]));
        assert!(nothing.contains("has the tags naive and expects safe and torn"), "{nothing}");
        for wrong in ["", "!", "a b", "Nmi", "-nmi", "!!nmi"] {
            assert!(wrong.parse::<TagRule>().is_err(), "{wrong}");
        }
        assert!("tron".parse::<Wanted>().unwrap_err().ends_with(", or safe"));
    }
}
