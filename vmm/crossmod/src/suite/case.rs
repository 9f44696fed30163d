//! The cases of scenarios.

use crossmod_model::fetch::FetchModel;
use crossmod_model::plan::{Plan, Ring};
use crossmod_scenario::{Options, Scenario, ScenarioError};
use itertools::Itertools;
use thiserror::Error;

use crate::results::{Selection, case_name};

/// Why a suite cannot be assembled.
#[derive(Debug, Error)]
pub enum SuiteError {
    /// A scenario cannot be used.
    #[error(transparent)]
    Scenario(#[from] ScenarioError),
    /// The selection cannot be used: what is wrong with it, and what to do.
    #[error("{0}")]
    Selection(String),
}

/// A scenario under one fetch model.
#[derive(Debug, Clone)]
pub struct Case {
    /// `group/stem`, followed by `@model` unless the fetch model is the coherent one.
    pub name: String,
    /// The scenario.
    pub scenario: Scenario,
    /// The fetch model.
    pub model: FetchModel,
    /// The resolved plan, at the rings that the scenario asks for.
    pub plan: Plan,
    /// Its tags.
    pub tags: Vec<String>,
}

impl Case {
    /// Digest of the plan with every executor at `ring`, or at the rings of the scenario; none if the scenario cannot
    /// run at that ring.
    pub fn digest(&self, ring: Option<Ring>) -> Option<String> {
        if ring.is_none() {
            return Some(self.plan.digest());
        }
        let options = Options { ring, fetch: Some(self.model), memory: Some(self.plan.memory) };
        self.scenario.plan(&options).ok().map(|plan| plan.digest())
    }
}

impl Selection {
    /// The selection of `cases`.
    pub fn of(cases: &[Case]) -> Selection {
        Selection::new(cases.iter().map(|case| {
            (case.name.clone(), format!("{} {}", case.plan.digest(), case.plan.expect.iter().join(" ")))
        }))
    }
}

/// Each scenario under every fetch model of `forced`, or, if `forced` is empty, under those that the scenario asks for.
/// A scenario that occurs twice counts once.
///
/// # Errors
///
/// [`SuiteError::Scenario`] for the first scenario that no machine could run; [`SuiteError::Selection`] if two of
/// them have the same name, because a report could not distinguish them.
pub fn cases(scenarios: &[Scenario], forced: &[FetchModel]) -> Result<Vec<Case>, SuiteError> {
    let mut cases: Vec<Case> = Vec::new();
    let mut seen = std::collections::BTreeMap::<&str, &Scenario>::new();
    for scenario in scenarios {
        match seen.insert(&scenario.name, scenario) {
            Some(other) if other.text == scenario.text => continue,
            Some(other) => {
                return Err(SuiteError::Selection(format!(
                    "{} and {} are both called `{}`: rename one, or its directory, or check them one by one",
                    other.path, scenario.path, scenario.name
                )));
            }
            None => {}
        }
        let models = if forced.is_empty() { scenario.models()? } else { forced.to_vec() };
        let tags = scenario.tags()?;
        for model in models {
            cases.push(Case {
                name: case_name(&scenario.name, model),
                plan: scenario.plan(&Options { fetch: Some(model), ..Options::default() })?,
                scenario: scenario.clone(),
                model,
                tags: tags.clone(),
            });
        }
    }
    Ok(cases)
}
