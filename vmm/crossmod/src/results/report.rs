//! The report of one check.

use std::collections::BTreeMap;

use crossmod_explore::schedule::Sampled;
use crossmod_explore::{Counterexample, Ended, Transition};
use crossmod_kvm::Assists;
use crossmod_model::checks::stall::Stall;
use crossmod_model::fetch::FetchModel;
use crossmod_model::memory::MemoryModel;
use crossmod_model::plan::Plan;
use crossmod_model::property::{Property, Violation};
use crossmod_model::x86::VendorRule;
use serde::{Deserialize, Serialize};

use super::as_text;
use super::values::{Bounds, FinalValues, Modelled, Outcome, Reason, SearchCounts, Status, Tier};
use crate::trace::Trace;

/// Name of a case: that of its scenario, followed by `@model` unless the fetch model is the coherent one.
pub fn case_name(scenario: &str, fetch: FetchModel) -> String {
    if fetch == FetchModel::COHERENT { scenario.to_owned() } else { format!("{scenario}@{fetch}") }
}

/// A violation with its evidence: a schedule that was executed a second time, live, before it was reported.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Finding {
    /// The property and what violated it.
    pub violation: Violation,
    /// The scenario expects this property to be violated.
    pub expected: bool,
    /// Context switches of the schedule.
    pub switches: usize,
    /// Transitions of one instruction each; in JSON as the text that a trace file has.
    #[serde(with = "as_text::each")]
    pub schedule: Vec<Transition>,
    /// The schedule in columns.
    pub rendering: String,
    /// For replay; not in JSON, it has a file of its own.
    #[serde(skip)]
    pub trace: Option<Trace>,
}

/// A schedule at the end of which everything is done and nothing is violated, executed live like that of a finding.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Witness {
    /// Transitions of one instruction each; in JSON as the text that a trace file has.
    #[serde(with = "as_text::each")]
    pub schedule: Vec<Transition>,
    /// The schedule in columns.
    pub rendering: String,
}

/// The result of one check.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Report {
    /// Name of the scenario.
    pub name: String,
    /// Title of the scenario.
    pub title: String,
    /// How the result was obtained.
    pub tier: Tier,
    /// Fetch model; in JSON a preset's name, or the parameters.
    #[serde(with = "as_text")]
    pub fetch: FetchModel,
    /// Vendor rule.
    pub rule: Option<VendorRule>,
    /// Memory model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<MemoryModel>,
    /// SHA-256 of the resolved plan, in hex; empty if there is none.
    pub plan: String,
    /// Bounds of the verdict.
    pub bounds: Option<Bounds>,
    /// What was modelled instead of executed, because KVM on the host cannot raise it.
    pub modelled: Vec<Modelled>,
    /// Verdict.
    pub status: Status,
    /// Why there is no verdict: the case was skipped, or the harness failed.
    pub reason: Option<Reason>,
    /// The scenario's expectation held.
    pub as_expected: bool,
    /// The expectation.
    pub expect: Vec<Property>,
    /// Violations, at most one for each property.
    pub findings: Vec<Finding>,
    /// If asked for: one complete schedule of a scenario in which nothing is violated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub witness: Option<Witness>,
    /// Properties that an incomplete search cannot decide.
    pub not_decided: Vec<Property>,
    /// How the search ended.
    pub ended: Option<Ended>,
    /// How passes ended, over all schedules.
    #[serde(with = "as_text::each")]
    pub outcomes: Vec<Outcome>,
    /// Labels of program steps that no schedule reached: nothing is claimed about them.
    #[serde(default)]
    pub unreached: Vec<String>,
    /// What makes a verdict of no violation worthless: nothing that the scenario looks at ever happens.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub vacuous: Vec<String>,
    /// Final values of the words that the scenario names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finals: Option<FinalValues>,
    /// Longest stall of each executor.
    pub stalls: Vec<Stall>,
    /// Search statistics.
    pub counts: SearchCounts,
    /// Steps on KVM, those that confirm findings included, and how the host assisted. Not part of any digest, because
    /// hosts differ in it.
    pub assists: Assists,
    /// For sampling: what was sampled.
    pub sampled: Option<Sampled>,
    /// Digest of the whole run, in hex.
    pub digest: String,
    /// A second search had the same digest.
    pub verified: bool,
}

impl Report {
    pub(crate) fn new(plan: &Plan) -> Report {
        Report {
            title: plan.title.clone(),
            fetch: plan.fetch,
            rule: Some(plan.rule),
            memory: Some(plan.memory),
            plan: plan.digest(),
            bounds: Some(Bounds::of(plan)),
            expect: plan.expect.clone(),
            reason: None,
            ..Report::skipped(&plan.name, Reason::BeforeItsTurn)
        }
    }

    /// The report of a case that was not run.
    pub fn skipped(name: &str, reason: Reason) -> Report {
        Report {
            name: name.into(),
            status: Status::Skipped,
            reason: Some(reason),
            as_expected: true,
            ..Report::default()
        }
    }

    /// The report of a case that could not be judged, because the host or Crossmod failed.
    pub fn failed(name: &str, reason: Reason) -> Report {
        Report { status: Status::HarnessError, as_expected: false, ..Report::skipped(name, reason) }
    }

    /// The same report under another fetch model, if there is one.
    #[must_use]
    pub fn under(self, fetch: Option<FetchModel>) -> Report {
        Report { fetch: fetch.unwrap_or(self.fetch), ..self }
    }

    /// Name of the case: that of the scenario, followed by `@model` unless the fetch model is the coherent one.
    pub fn case(&self) -> String {
        case_name(&self.name, self.fetch)
    }

    /// A signal arrived before the case was decided.
    pub fn interrupted(&self) -> bool {
        self.ended == Some(Ended::Interrupted) || self.not_reported()
    }

    /// A signal arrived before there was anything to report.
    pub fn not_reported(&self) -> bool {
        matches!(self.reason, Some(Reason::BeforeItsTurn | Reason::BeforeConfirmed))
    }

    /// Draws the verdict from the findings, the expectation and how the search ended.
    pub(crate) fn conclude(&mut self, findings: Vec<Finding>) {
        self.findings = findings;
        let exhausted = self.ended == Some(Ended::Exhausted);
        let decided = exhausted && self.sampled.is_none();
        self.status = match (self.findings.is_empty(), decided) {
            (false, _) => Status::Hazard,
            (true, true) if !self.vacuous.is_empty() => Status::Vacuous,
            (true, true) => Status::Safe,
            (true, false) => Status::NotDecided,
        };
        // A violation that is missing may be in the part that was not searched; an unexpected one remains unexpected.
        let missing = self.expect.iter().any(|&property| self.finding(property).is_none());
        let surplus = self.findings.iter().any(|finding| !finding.expected);
        let finals = self.finals.as_ref().is_none_or(|finals| finals.reached == finals.expected);
        self.as_expected =
            !surplus && exhausted && (!decided || (!missing && finals)) && self.status != Status::Vacuous;
        if !decided {
            self.not_decided =
                Property::ALL.into_iter().filter(|&property| self.finding(property).is_none()).collect();
        }
    }

    pub(crate) fn set_digest(
        &mut self,
        states: u128,
        found: &BTreeMap<Property, Counterexample<Transition>>,
    ) {
        let mut text = format!("{states:032x}");
        for (property, found) in found {
            text.push_str(property.name());
            text.extend(found.schedule.iter().map(Transition::to_string));
        }
        text.extend(self.outcomes.iter().map(Outcome::to_string));
        text.extend(self.finals.iter().map(|finals| format!("{:?}", finals.reached)));
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

    /// The violated properties.
    pub fn violated(&self) -> impl Iterator<Item = Property> {
        self.findings.iter().map(|finding| finding.violation.property)
    }
}
