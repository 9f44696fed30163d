//! The trace file: JSON, one object.

use std::io::Read;
use std::path::Path;

use crossmod_explore::Transition;
use crossmod_model::image::Image;
use crossmod_model::memory::MemoryModel;
use crossmod_model::plan::{Plan, Ring};
use crossmod_model::property::Violation;
use crossmod_scenario::{Options, Scenario};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Version of the format.
pub const FORMAT: u32 = 2;
/// Largest trace file that is read, in bytes.
const LARGEST: u64 = 64 << 20;

/// A schedule that violates a property, with the digest of every state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trace {
    /// [`FORMAT`].
    pub format: u32,
    /// Version of Crossmod that wrote the trace; informative.
    pub crossmod: String,
    /// Name of the scenario.
    pub scenario: String,
    /// The complete text of the scenario.
    pub text: String,
    /// Ring that the options forced on the executors, if any.
    pub ring: Option<u8>,
    /// Fetch model.
    #[serde(default)]
    pub fetch: String,
    /// Memory model. Traces that do not name it were recorded when there was only this one.
    #[serde(default = "before_there_was_a_choice")]
    pub memory: MemoryModel,
    /// Digest of the resolved plan.
    pub plan: String,
    /// Digest of the guest image.
    pub image: String,
    /// Host on which the violation was found; informative.
    pub host: String,
    /// The violation.
    pub violation: Violation,
    /// Digest of the initial state, in hex.
    pub initial: String,
    /// The schedule.
    pub moves: Vec<TraceMove>,
}

/// One transition and the digest of the state after it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TraceMove {
    /// The transition, as [`Transition`] displays it.
    #[serde(rename = "move")]
    pub step: String,
    /// Digest of the state after it, in hex.
    pub state: String,
}

/// Why a trace cannot be replayed here.
#[derive(Debug, Error)]
pub enum TraceError {
    /// The file at this path cannot be read.
    #[error("{0}: {1}")]
    File(String, String),
    /// The trace was recorded with another format, guest image or plan.
    #[error("the trace belongs to another {what}: it has {theirs}, this program has {ours}")]
    Other {
        /// What differs.
        what: &'static str,
        /// The value in the trace.
        theirs: String,
        /// The value of this program.
        ours: String,
    },
    /// The scenario inside it cannot be used.
    #[error("the scenario inside the trace: {0}")]
    Scenario(String),
    /// A text is not a transition; its number counts from 1.
    #[error("move {0}: `{1}` is not a move")]
    Transition(usize, String),
}

impl Trace {
    /// Reads a trace file.
    ///
    /// # Errors
    ///
    /// [`TraceError::File`] if the file cannot be read or is not a trace.
    pub fn load(path: &Path) -> Result<Trace, TraceError> {
        let fail = |reason: String| TraceError::File(path.display().to_string(), reason);
        let file = std::fs::File::open(path).map_err(|error| fail(error.to_string()))?;
        if file.metadata().is_ok_and(|metadata| metadata.is_dir()) {
            return Err(fail("this is a directory; name a .trace.json file in it".into()));
        }
        let mut text = String::new();
        file.take(LARGEST + 1).read_to_string(&mut text).map_err(|error| match error.kind() {
            std::io::ErrorKind::InvalidData => fail("not a trace: the file is not UTF-8 text".into()),
            _ => fail(error.to_string()),
        })?;
        if text.len() as u64 > LARGEST {
            return Err(fail(format!("not a trace: larger than {} MiB", LARGEST >> 20)));
        }
        serde_json::from_str(&text).map_err(|error| fail(format!("not a trace: {error}")))
    }

    /// Compiles the scenario of the trace and checks that the plan is the recorded one.
    ///
    /// # Errors
    ///
    /// [`TraceError::Other`] if the trace was recorded with another format, guest image or plan;
    /// [`TraceError::Scenario`] if its scenario cannot be used.
    pub fn plan(&self) -> Result<Plan, TraceError> {
        let other = |what, theirs: &str, ours: &str| {
            Err(TraceError::Other { what, theirs: theirs.into(), ours: ours.into() })
        };
        if self.format != FORMAT {
            return other("format", &self.format.to_string(), &FORMAT.to_string());
        }
        let image = Image::digest();
        if self.image != image {
            return other("guest image", &self.image, &image);
        }
        let ring = self.ring.map(|number| {
            let ring = [Ring::Kernel, Ring::User].into_iter().find(|ring| ring.number() == number);
            ring.ok_or_else(|| TraceError::Scenario(format!("executors run at ring 0 or 3, not {number}")))
        });
        let ring = ring.transpose()?;
        let fetch = self.fetch.parse().map_err(TraceError::Scenario)?;
        let scenario =
            Scenario { name: self.scenario.clone(), text: self.text.clone(), path: "(trace)".into() };
        let plan = scenario
            .plan(&Options { ring, fetch: Some(fetch), memory: Some(self.memory) })
            .map_err(|error| TraceError::Scenario(error.to_string()))?;
        let digest = plan.digest();
        if self.plan != digest {
            return other("plan", &self.plan, &digest);
        }
        Ok(plan)
    }

    /// The transitions.
    ///
    /// # Errors
    ///
    /// [`TraceError::Transition`] for the first text that is not a transition.
    pub fn schedule(&self) -> Result<Vec<Transition>, TraceError> {
        let parse = |(number, step): (usize, &TraceMove)| {
            step.step.parse().map_err(|()| TraceError::Transition(number, step.step.clone()))
        };
        (1..).zip(&self.moves).map(parse).collect()
    }
}

fn before_there_was_a_choice() -> MemoryModel {
    MemoryModel::Sc
}

/// A digest of a state, as trace files contain it.
pub fn hex(digest: u128) -> String {
    format!("{digest:032x}")
}
