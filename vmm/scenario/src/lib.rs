//! Scenarios: what a user writes, and how it becomes a [`Plan`].
//!
//! A scenario is a TOML file. Unknown keys are errors, and every error points at its place and says what to
//! change. Parsing needs neither KVM nor files: the protocols that a scenario may name are part of the
//! program.
//!
//! [`reference()`] describes the language, key by key, from the structs that the parser reads.

#![forbid(unsafe_code)]

mod built_in;
mod context;
mod error;
mod executors;
mod fields;
mod file;
mod guest_code;
mod instruction;
mod library;
mod models;
mod mutants;
mod operation;
mod patcher;
mod read;
mod reference;
mod resolve;
mod site;
mod spanned;
mod steps;
mod stores;
mod symbols;
mod syntax;
mod tags;
#[cfg(test)]
mod tests;
mod value;

use std::borrow::Cow;

pub use error::{ErrorKind, ScenarioError, nearest};
pub use file::load;
pub use mutants::Mutant;
pub use reference::{Entry, Section, operations, reference, schema};
pub use site::bytes;
pub use tags::is_tag;

use crossmod_model::fetch::FetchModel;
use crossmod_model::memory::MemoryModel;
use crossmod_model::plan::{Plan, Ring};

use error::Source;
use read::read;

/// The text of a scenario, not yet parsed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scenario {
    /// `group/stem`.
    pub name: String,
    /// The TOML.
    pub text: String,
    /// Where it came from, for messages.
    pub path: String,
}

/// What may be decided from outside of a scenario.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// All executors run at this ring, whatever the scenario says.
    pub ring: Option<Ring>,
    /// The fetch model; else the first that the scenario asks for.
    pub fetch: Option<FetchModel>,
    /// The memory model; else the scenario's.
    pub memory: Option<MemoryModel>,
}

impl Scenario {
    /// Resolves the scenario.
    ///
    /// # Errors
    ///
    /// See [`parse`].
    pub fn plan(&self, options: &Options) -> Result<Plan, ScenarioError> {
        resolve::plan(&self.name, self.file()?, options)
    }

    fn file(&self) -> Result<syntax::File, ScenarioError> {
        read(&Source::new(&self.path, &self.text))
    }

    /// The fetch models that the scenario asks for; one at least.
    ///
    /// # Errors
    ///
    /// See [`parse`].
    pub fn models(&self) -> Result<Vec<FetchModel>, ScenarioError> {
        models::asked(self.file()?.fetch.as_ref())
    }

    /// The tags of the scenario, in their order.
    ///
    /// # Errors
    ///
    /// See [`parse`].
    pub fn tags(&self) -> Result<Vec<String>, ScenarioError> {
        tags::resolve(&self.file()?.tags)
    }

    /// The scenario with its steps performed by one more vCPU; as it is, if it has no steps of the host or says itself
    /// who performs them.
    ///
    /// # Errors
    ///
    /// See [`parse`].
    pub fn patched_by_a_vcpu(&self) -> Result<Scenario, ScenarioError> {
        let file = self.file()?;
        if file.patcher.is_some() || self.plan(&Options::default())?.program.is_empty() {
            return Ok(self.clone());
        }
        let mut scenario = self.clone();
        scenario.text.insert_str(file.title.place.line(), "patcher = \"vcpu\"\n");
        Ok(scenario)
    }

    /// The comment at the head of the file, without its marks; empty if there is none.
    pub fn comment(&self) -> String {
        comment(&self.text)
    }
}

/// The shipped scenarios, sorted by name.
pub fn library() -> Vec<Scenario> {
    let mut library: Vec<_> = crossmod_scenarios::scenarios()
        .map(|(name, text)| Scenario { path: format!("{name}.toml"), name, text: text.to_owned() })
        .collect();
    library.sort_by(|a, b| a.name.cmp(&b.name));
    library
}

/// A group, tag or scenario by the name that it has today: `museum` became `bugs`.
pub fn current_name(name: &str) -> Cow<'_, str> {
    match name.strip_prefix("museum") {
        Some(rest) if rest.is_empty() || rest.starts_with('/') => Cow::Owned(format!("bugs{rest}")),
        _ => Cow::Borrowed(name),
    }
}

/// Names and texts of the shipped protocols, sorted by name.
pub fn protocols() -> Vec<(String, &'static str)> {
    let mut protocols: Vec<_> = crossmod_scenarios::protocols().collect();
    protocols.sort();
    protocols
}

/// The comment at the head of a TOML text, line by line without its marks; empty if there is none.
pub fn comment(text: &str) -> String {
    let lines = text.lines().map_while(|line| line.strip_prefix('#'));
    lines.map(|line| line.strip_prefix(' ').unwrap_or(line)).collect::<Vec<_>>().join("\n")
}

/// Parses a scenario and resolves it. `name` becomes the plan's name and, with `.toml`, the file name in messages.
///
/// # Errors
///
/// Of kind [`ErrorKind::Syntax`] or [`ErrorKind::Invalid`] with the place and a remedy;
/// [`ErrorKind::Unsupported`] if only `options` make the scenario impossible.
pub fn parse(name: &str, text: &str, options: &Options) -> Result<Plan, ScenarioError> {
    resolve::plan(name, read(&Source::new(&format!("{name}.toml"), text))?, options)
}
