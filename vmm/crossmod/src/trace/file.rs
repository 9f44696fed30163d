//! The trace file: JSON, one object.

use std::io::Read;
use std::path::Path;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::explore::Transition;
use crate::image::Image;
use crate::plan::{Plan, Ring};
use crate::property::Violation;
use crate::scenario::{Options, Scenario};

/// Version of the format.
pub const FORMAT: u32 = 2;
/// Largest trace file that is read, in bytes.
const LARGEST: u64 = 64 << 20;

/// A schedule that violates a property, with the hash of every state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trace {
    /// [`FORMAT`].
    pub format: u32,
    /// Version of Crossmod that wrote it; informative.
    pub crossmod: String,
    /// Name of the scenario.
    pub scenario: String,
    /// The scenario file, whole.
    pub text: String,
    /// Ring that was forced on the executors, if one was.
    pub ring: Option<u8>,
    /// Fetch model.
    #[serde(default)]
    pub fetch: String,
    /// Digest of the resolved plan.
    pub plan: String,
    /// Digest of the guest image.
    pub image: String,
    /// Host it was found on; informative.
    pub host: String,
    /// What is violated.
    pub violation: Violation,
    /// Hash of the initial state, in hex.
    pub initial: String,
    /// The schedule.
    pub moves: Vec<TraceMove>,
}

/// One transition and the hash of the state after it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TraceMove {
    /// The transition, as [`Transition`] displays it.
    #[serde(rename = "move")]
    pub step: String,
    /// Hash of the state after it, in hex.
    pub state: String,
}

/// Why a trace cannot be replayed here.
#[derive(Debug, Error)]
pub enum TraceError {
    /// The file cannot be read.
    #[error("{path}: {reason}")]
    File {
        /// Its path.
        path: String,
        /// Why.
        reason: String,
    },
    /// It was made with something else.
    #[error("the trace was made with another {what}: with {theirs}, not {ours}")]
    Other {
        /// What differs.
        what: &'static str,
        /// In the trace.
        theirs: String,
        /// Here.
        ours: String,
    },
    /// The scenario inside it cannot be used.
    #[error("the scenario inside the trace: {0}")]
    Scenario(String),
    /// A step of the schedule cannot be parsed.
    #[error("move {number} is `{text}`, which is not a transition")]
    Transition {
        /// Which, from 1.
        number: usize,
        /// Its text.
        text: String,
    },
}

impl Trace {
    /// Reads a trace file.
    pub fn load(path: &Path) -> Result<Trace, TraceError> {
        let fail = |reason: String| TraceError::File { path: path.display().to_string(), reason };
        let file = std::fs::File::open(path).map_err(|error| fail(error.to_string()))?;
        let meta = file.metadata().map_err(|error| fail(error.to_string()))?;
        if meta.is_dir() {
            return Err(fail("this is a directory; name a .trace.json file in it".into()));
        }
        let mut text = String::new();
        file.take(LARGEST + 1).read_to_string(&mut text).map_err(|error| match error.kind() {
            std::io::ErrorKind::InvalidData => fail("not UTF-8 text, so not a trace".into()),
            _ => fail(error.to_string()),
        })?;
        if text.len() as u64 > LARGEST {
            return Err(fail(format!("larger than {} MiB, so not a trace", LARGEST >> 20)));
        }
        serde_json::from_str(&text).map_err(|error| fail(format!("not a trace: {error}")))
    }

    /// Checks that the trace belongs here, and returns its plan.
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
        let ring = match self.ring {
            None => None,
            Some(0) => Some(Ring::Kernel),
            Some(3) => Some(Ring::User),
            Some(ring) => {
                return Err(TraceError::Scenario(format!("unknown ring {ring}: rings are 0 and 3")));
            }
        };
        let fetch = self.fetch.parse().map_err(TraceError::Scenario)?;
        let scenario =
            Scenario { name: self.scenario.clone(), text: self.text.clone(), path: "(trace)".into() };
        let plan = scenario
            .plan(&Options { ring, fetch: Some(fetch) })
            .map_err(|error| TraceError::Scenario(error.to_string()))?;
        let digest = plan.digest();
        if self.plan != digest {
            return other("plan", &self.plan, &digest);
        }
        Ok(plan)
    }

    /// The transitions.
    pub fn schedule(&self) -> Result<Vec<Transition>, TraceError> {
        self.moves
            .iter()
            .enumerate()
            .map(|(index, step)| {
                step.step
                    .parse()
                    .map_err(|()| TraceError::Transition { number: index + 1, text: step.step.clone() })
            })
            .collect()
    }
}

/// A state's hash as files have it.
pub fn hex(digest: u128) -> String {
    format!("{digest:032x}")
}
