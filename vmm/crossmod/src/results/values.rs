//! The values that reports consist of.

use std::fmt;
use std::str::FromStr;

use crossmod_explore::MemoStats;
use crossmod_model::plan::Plan;
use serde::{Deserialize, Serialize};
use strum::{Display, EnumString, IntoStaticStr};

/// Verdict of a check.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, IntoStaticStr, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[strum(serialize_all = "lowercase")]
pub enum Status {
    /// No violation within the bounds, all of them searched.
    Safe,
    /// No violation, but nothing that could have shown one: the scenario tests nothing.
    Vacuous,
    /// At least one violation.
    Hazard,
    /// No violation, but not everything was searched.
    #[strum(serialize = "not decided")]
    NotDecided,
    /// Not run.
    #[default]
    Skipped,
    /// The host or Crossmod failed: there is no verdict.
    #[strum(serialize = "harness error")]
    HarnessError,
}

impl Status {
    /// Its name in reports.
    pub fn name(self) -> &'static str {
        self.into()
    }
}

/// How a result was obtained.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Display, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[strum(serialize_all = "lowercase")]
pub enum Tier {
    /// Deterministic stepping, no measurement of silicon.
    #[default]
    Explore,
}

/// What was modelled instead of executed, because KVM on the host cannot raise it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Modelled {
    /// System management interrupts.
    Smi,
}

/// Why a report has no verdict.
#[derive(Debug, Clone, PartialEq, Eq, Display, EnumString, Serialize, Deserialize)]
#[serde(into = "String", from = "String")]
pub enum Reason {
    /// A signal arrived before the case started.
    #[strum(serialize = "interrupted before its turn")]
    BeforeItsTurn,
    /// A signal arrived after the search, while its findings were executed again.
    #[strum(serialize = "interrupted before its findings were proved")]
    BeforeConfirmed,
    /// The host or the options exclude the scenario, or the harness failed.
    #[strum(default, transparent)]
    Other(String),
}

impl From<Reason> for String {
    fn from(reason: Reason) -> String {
        reason.to_string()
    }
}

impl From<String> for Reason {
    fn from(text: String) -> Reason {
        text.parse().unwrap_or(Reason::Other(text))
    }
}

/// Bounds of a verdict.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bounds {
    /// Number of executors.
    pub executors: usize,
    /// Passes of each executor.
    pub passes: Vec<u8>,
    /// Ring of each executor.
    pub rings: Vec<u8>,
    /// Most NMIs.
    pub nmi: u8,
    /// Most device interrupts.
    pub irq: u8,
    /// Most SMIs.
    pub smi: u8,
    /// Most machine checks.
    pub mce: u8,
    /// Transitions of the host's patcher. Each takes effect at once, and nothing interrupts it.
    #[serde(default)]
    pub host: usize,
}

impl Bounds {
    /// The bounds of `plan`.
    pub fn of(plan: &Plan) -> Bounds {
        Bounds {
            executors: plan.executors.len(),
            passes: plan.executors.iter().map(|executor| executor.passes).collect(),
            rings: plan.executors.iter().map(|executor| executor.ring.number()).collect(),
            nmi: plan.events.nmi,
            irq: plan.events.irq,
            smi: plan.events.smi,
            mce: plan.events.mce,
            host: plan.program.len(),
        }
    }
}

/// What the words of a scenario's `[final]` hold at the end of executions in which everything is done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FinalValues {
    /// Names of the words.
    pub words: Vec<String>,
    /// Combinations that some execution ends with.
    pub reached: Vec<Vec<u32>>,
    /// Combinations that the scenario names.
    pub expected: Vec<Vec<u32>>,
}

/// Search statistics.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct SearchCounts {
    /// Distinct states.
    pub states: u64,
    /// States whose every successor was computed: all of them, unless the search was cut short.
    pub expanded: u64,
    /// Transitions taken.
    pub transitions: u64,
    /// Distance of the farthest state from the initial one, in transitions.
    pub depth: usize,
    /// Wall time in seconds; none where the CPU is emulated.
    pub seconds: Option<f64>,
    /// Peak memory of the search, in bytes.
    pub memory: u64,
    /// Look-ups of an executor's successors.
    pub lookups: u64,
    /// The memo; its `rechecked` are the look-ups that were executed again.
    pub memo: MemoStats,
}

/// How one pass through the site ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Which code passed: `loop`, or the name of a handler.
    pub context: String,
    /// Which version of the site it was equal to.
    pub version: SiteVersion,
    /// The pass went through the breakpoint handler.
    pub trapped: bool,
}

/// Which version of the site a pass was equal to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Display, EnumString)]
#[strum(serialize_all = "lowercase")]
pub enum SiteVersion {
    /// Both: they have the same effect.
    #[strum(serialize = "old = new")]
    Either,
    /// The old version.
    Old,
    /// The new version.
    New,
    /// Neither version.
    Neither,
}

const TRAPPED: &str = " through the trap";

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let how = if self.trapped { TRAPPED } else { "" };
        write!(f, "{}: {}{how}", self.context, self.version)
    }
}

impl FromStr for Outcome {
    type Err = String;

    fn from_str(text: &str) -> Result<Outcome, String> {
        let rest = text.strip_suffix(TRAPPED);
        let parts = rest.unwrap_or(text).rsplit_once(": ").and_then(|(context, name)| {
            Some(Outcome { context: context.into(), version: name.parse().ok()?, trapped: rest.is_some() })
        });
        parts.ok_or_else(|| format!("`{text}` is not the outcome of a pass"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_are_read_as_they_are_displayed() {
        for version in [SiteVersion::Either, SiteVersion::Old, SiteVersion::New, SiteVersion::Neither] {
            for trapped in [false, true] {
                let outcome = Outcome { context: "handler: inner".into(), version, trapped };
                assert_eq!(outcome.to_string().parse(), Ok(outcome));
            }
        }
        assert!("loop: other".parse::<Outcome>().is_err() && "old".parse::<Outcome>().is_err());
    }

    #[test]
    fn reasons_are_read_as_they_are_displayed() {
        for reason in [Reason::BeforeItsTurn, Reason::BeforeConfirmed, Reason::Other("no SMM".into())] {
            assert_eq!(Reason::from(reason.to_string()), reason);
        }
    }
}
