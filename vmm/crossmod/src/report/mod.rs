//! Results as data, and their forms: text, JSON, KTAP, JUnit.

pub mod bench;
mod chart;
mod formats;
pub mod free;
pub mod matrix;
mod moves;
pub mod stress;
pub mod survey;
mod text;

use std::collections::BTreeMap;

use crossmod_model::checks::stall::Stall;
use serde::{Deserialize, Serialize};

use crate::check::{NO_MEMO, status};
use crate::explore::{Counterexample, Ended, MemoStats, Transition};
use crate::fetch::FetchModel;
use crate::machine::Assists;
use crate::plan::Plan;
use crate::property::{Property, Violation};
use crate::schedule::Sampled;
use crate::trace::Trace;
use crate::x86::VendorRule;

pub use formats::{json, junit, ktap};
pub use text::{LEGEND, MODELLED_SMI, TIER, bounds, detail, line, table};

/// The reason of what a signal left no time for.
pub const BEFORE_ITS_TURN: &str = "interrupted before its turn";
/// The reason of what was searched when a signal came, but had findings that were not proved.
pub const BEFORE_PROVED: &str = "interrupted before its findings were proved";

/// The name of a case: that of its scenario, with the fetch model where that is not the plain one.
pub fn case(scenario: &str, fetch: &str) -> String {
    if fetch == FetchModel::COHERENT.to_string() {
        scenario.to_owned()
    } else {
        format!("{scenario}@{fetch}")
    }
}

/// What a check amounts to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// No violation within the bounds, all of them searched.
    Safe,
    /// At least one violation.
    Hazard,
    /// No violation, but not everything was searched.
    NotDecided,
    /// Not run.
    Skipped,
    /// The host or Crossmod failed: there is no verdict.
    HarnessError,
}

impl Status {
    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Status::Safe => "safe",
            Status::Hazard => "hazard",
            Status::NotDecided => "not decided",
            Status::Skipped => "skipped",
            Status::HarnessError => "harness error",
        }
    }
}

/// The bounds of a verdict.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bounds {
    /// Executors.
    pub executors: usize,
    /// Passes of each.
    pub passes: Vec<u8>,
    /// Ring of each.
    pub rings: Vec<u8>,
    /// NMIs.
    pub nmi: u8,
    /// Device interrupts.
    pub irq: u8,
    /// SMIs.
    pub smi: u8,
    /// Machine checks.
    pub mce: u8,
}

impl Bounds {
    /// In a few characters, for tables: `2x1+1n` is two executors with a pass each, and an NMI; `1,2` are passes of
    /// executors that differ.
    pub fn short(&self) -> String {
        let mut out = match self.passes.split_first() {
            Some((first, rest)) if rest.iter().all(|passes| passes == first) => {
                format!("{}x{first}", self.executors)
            }
            _ => self.passes.iter().map(u8::to_string).collect::<Vec<_>>().join(","),
        };
        for (count, letter) in [(self.nmi, 'n'), (self.irq, 'i'), (self.smi, 's'), (self.mce, 'm')] {
            if count > 0 {
                out.push_str(&format!("+{count}{letter}"));
            }
        }
        out
    }

    /// Those of a plan.
    pub fn of(plan: &Plan) -> Bounds {
        Bounds {
            executors: plan.executors.len(),
            passes: plan.executors.iter().map(|executor| executor.passes).collect(),
            rings: plan.executors.iter().map(|executor| executor.ring.number()).collect(),
            nmi: plan.events.nmi,
            irq: plan.events.irq,
            smi: plan.events.smi,
            mce: plan.events.mce,
        }
    }
}

/// What it took.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Counts {
    /// Distinct states met.
    pub states: u64,
    /// States whose every successor was taken: all of them, unless the search was cut short.
    pub expanded: u64,
    /// Transitions taken.
    pub transitions: u64,
    /// Longest shortest schedule, in moves.
    pub depth: usize,
    /// Wall time in seconds; none where the CPU is emulated.
    pub seconds: Option<f64>,
    /// Most memory that the search used, in bytes.
    pub memory: u64,
    /// Lists of an executor's successors that the search looked up.
    pub lookups: u64,
    /// The memo; its `rechecked` are lists looked up that were executed again.
    pub memo: MemoStats,
}

/// A violation with its evidence.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Finding {
    /// What.
    pub violation: Violation,
    /// The scenario expects this property to be violated.
    pub expected: bool,
    /// Context switches of the schedule.
    pub switches: usize,
    /// Single-instruction moves, in JSON as a trace has them.
    #[serde(with = "moves")]
    pub schedule: Vec<Transition>,
    /// In columns.
    pub rendering: String,
    /// For replay; not in JSON, it has a file of its own.
    #[serde(skip)]
    pub trace: Option<Trace>,
}

/// The result of one check.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Report {
    /// Scenario.
    pub name: String,
    /// Its title.
    pub title: String,
    /// Always `explore`: deterministic stepping, no measurement of silicon.
    pub tier: String,
    /// Fetch model: a preset's name, or its parameters.
    pub fetch: String,
    /// Vendor rule.
    pub rule: Option<VendorRule>,
    /// Digest of the plan.
    pub plan: String,
    /// Bounds.
    pub bounds: Option<Bounds>,
    /// Moves that were not executed, because KVM on the host cannot, but modelled: `smi`, or nothing.
    pub modelled: Vec<String>,
    /// Verdict.
    pub status: Status,
    /// Why there is no verdict: it was skipped, or the harness failed.
    pub reason: Option<String>,
    /// The scenario's expectation held.
    pub as_expected: bool,
    /// The expectation.
    pub expect: Vec<Property>,
    /// Violations, one a property.
    pub findings: Vec<Finding>,
    /// Properties that a search not exhausted cannot decide.
    pub not_decided: Vec<Property>,
    /// How the search ended.
    pub ended: Option<Ended>,
    /// How passes ended, all schedules together.
    pub outcomes: Vec<String>,
    /// Steps of programs that no schedule came to, by label: nothing is claimed about them.
    #[serde(default)]
    pub unreached: Vec<String>,
    /// Stall of each executor.
    pub stalls: Vec<Stall>,
    /// Counts.
    pub counts: Counts,
    /// Steps on KVM, proofs of the findings included, and what the host did for it. Part of no hash: hosts differ in it.
    pub assists: Assists,
    /// For sampling: what was sampled.
    pub sampled: Option<Sampled>,
    /// Hash of the whole run.
    pub digest: String,
    /// A second search gave the same hash.
    pub verified: bool,
}

impl Report {
    pub(crate) fn new(plan: &Plan, bounds: Bounds) -> Report {
        Report {
            title: plan.title.clone(),
            fetch: plan.fetch.to_string(),
            rule: Some(plan.rule),
            plan: plan.digest(),
            bounds: Some(bounds),
            expect: plan.expect.clone(),
            ..Report::skipped(&plan.name, "")
        }
    }

    /// A report of something that was not run.
    pub fn skipped(name: &str, reason: &str) -> Report {
        Report {
            name: name.into(),
            title: String::new(),
            tier: "explore".into(),
            fetch: FetchModel::COHERENT.to_string(),
            rule: None,
            plan: String::new(),
            bounds: None,
            modelled: Vec::new(),
            status: Status::Skipped,
            reason: (!reason.is_empty()).then(|| reason.into()),
            as_expected: true,
            expect: Vec::new(),
            findings: Vec::new(),
            not_decided: Vec::new(),
            ended: None,
            outcomes: Vec::new(),
            unreached: Vec::new(),
            stalls: Vec::new(),
            counts: Counts {
                states: 0,
                expanded: 0,
                transitions: 0,
                depth: 0,
                seconds: None,
                memory: 0,
                lookups: 0,
                memo: NO_MEMO,
            },
            assists: Assists::default(),
            sampled: None,
            digest: String::new(),
            verified: false,
        }
    }

    /// The same under another fetch model.
    #[must_use]
    pub fn under(self, fetch: Option<FetchModel>) -> Report {
        let name = fetch.map(|fetch| fetch.to_string());
        Report { fetch: name.unwrap_or(self.fetch), ..self }
    }

    /// The name of the case: that of the scenario, with the fetch model where that is not the plain one.
    pub fn case(&self) -> String {
        case(&self.name, &self.fetch)
    }

    /// The run was cut short by a signal before this was decided.
    pub fn interrupted(&self) -> bool {
        self.ended == Some(Ended::Interrupted)
            || self.reason.as_deref().is_some_and(|reason| [BEFORE_ITS_TURN, BEFORE_PROVED].contains(&reason))
    }

    /// A report of something that could not be judged, because the host or Crossmod failed.
    pub fn failed(name: &str, reason: &str) -> Report {
        Report { status: Status::HarnessError, as_expected: false, ..Report::skipped(name, reason) }
    }

    pub(crate) fn conclude(&mut self, plan: &Plan, findings: Vec<Finding>, ended: Ended) {
        (self.status, self.as_expected) = status(plan, &findings, ended, self.sampled.is_some());
        let decided = ended == Ended::Exhausted && self.sampled.is_none();
        if !decided {
            self.not_decided = Property::ALL
                .into_iter()
                .filter(|property| !findings.iter().any(|finding| finding.violation.property == *property))
                .collect();
        }
        self.ended = Some(ended);
        self.findings = findings;
    }

    pub(crate) fn set_digest(
        &mut self,
        states: u128,
        found: &BTreeMap<Property, Counterexample<Transition>>,
    ) {
        let mut text = format!("{states:032x}");
        for (property, found) in found {
            text.push_str(property.name());
            for step in &found.schedule {
                text.push_str(&step.to_string());
            }
        }
        for outcome in &self.outcomes {
            text.push_str(outcome);
        }
        self.digest = format!("{:032x}", xxhash_rust::xxh3::xxh3_128(text.as_bytes()));
    }

    /// True if the scenario's expectation held: exactly the expected properties were violated.
    pub fn holds(&self) -> bool {
        self.as_expected
    }

    /// The finding for a property.
    pub fn finding(&self, property: Property) -> Option<&Finding> {
        self.findings.iter().find(|finding| finding.violation.property == property)
    }
}
