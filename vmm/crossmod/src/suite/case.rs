//! The cases of scenarios.

use thiserror::Error;

use crate::fetch::FetchModel;
use crate::plan::{Plan, Ring};
use crate::report;
use crate::scenario::{Options, Scenario, ScenarioError};

/// Why a suite cannot be put together.
#[derive(Debug, Error)]
pub enum SuiteError {
    /// A scenario cannot be used.
    #[error(transparent)]
    Scenario(#[from] ScenarioError),
    /// Two files make cases of one name; a report could not tell them apart.
    #[error(
        "{first} and {second} are both called `{name}`: rename one, or its directory, or check them one by one"
    )]
    SameName {
        /// The case.
        name: String,
        /// One file.
        first: String,
        /// The other.
        second: String,
    },
    /// No scenario has the tag.
    #[error("no scenario here has the tag `{tag}`: {help}")]
    NoSuchTag {
        /// The tag.
        tag: String,
        /// Which there are.
        help: String,
    },
    /// Every case was excluded.
    #[error(
        "none of {cases} cases {what}: ask for less at a time; `crossmod list --json` has tags and expectations"
    )]
    Nothing {
        /// How many there were.
        cases: usize,
        /// What was asked for.
        what: String,
    },
}

/// A scenario under one fetch model.
#[derive(Debug, Clone)]
pub struct Case {
    /// `group/stem`, with `@model` unless that is the plain one.
    pub name: String,
    /// The scenario.
    pub scenario: Scenario,
    /// The fetch model.
    pub model: FetchModel,
    /// What it resolves to, at the rings that the scenario asks for.
    pub plan: Plan,
    /// Its tags.
    pub tags: Vec<String>,
}

impl Case {
    /// The digest of what is run with every executor at `ring`, or as written; none if that is impossible.
    pub fn digest(&self, ring: Option<Ring>) -> Option<String> {
        match ring {
            None => Some(self.plan.digest()),
            ring => {
                let options = Options { ring, fetch: Some(self.model) };
                self.scenario.plan(&options).ok().map(|plan| plan.digest())
            }
        }
    }
}

/// Each scenario under every fetch model of `forced`, or under those that it asks for. A scenario that is given twice
/// counts once.
///
/// # Errors
///
/// [`SuiteError::Scenario`] for the first that cannot be used, on whatever machine; [`SuiteError::SameName`].
pub fn cases(scenarios: &[Scenario], forced: &[FetchModel]) -> Result<Vec<Case>, SuiteError> {
    let mut cases: Vec<Case> = Vec::new();
    let mut seen = std::collections::BTreeMap::<&str, &Scenario>::new();
    for scenario in scenarios {
        match seen.insert(&scenario.name, scenario) {
            Some(other) if other.text == scenario.text => continue,
            Some(other) => {
                return Err(SuiteError::SameName {
                    name: scenario.name.clone(),
                    first: other.path.clone(),
                    second: scenario.path.clone(),
                });
            }
            None => {}
        }
        let models = if forced.is_empty() { scenario.models()? } else { forced.to_vec() };
        let tags = scenario.tags()?;
        for model in models {
            cases.push(Case {
                name: report::case(&scenario.name, &model.to_string()),
                plan: scenario.plan(&Options { ring: None, fetch: Some(model) })?,
                scenario: scenario.clone(),
                model,
                tags: tags.clone(),
            });
        }
    }
    Ok(cases)
}
