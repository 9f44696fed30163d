//! From a scenario to a verdict with evidence: `crossmod check` as a function.

mod confirm;
mod options;
mod search;

use std::collections::BTreeMap;
use std::time::Instant;

use thiserror::Error;

use crate::explore::error::EngineError;
use crate::explore::{Ended, MemoStats, SearchProgress};
use crate::host::Host;
use crate::machine::{self, Capabilities, Feature, Machine, MachineError};
use crate::plan::Plan;
use crate::report::{Finding, Report, Status};
use crate::scenario::{ErrorKind, Options, Scenario, ScenarioError};
use crate::trace::TraceError;

pub use options::{CheckOptions, Mode};

/// Why there is no verdict.
#[derive(Debug, Error)]
pub enum CheckError {
    /// The scenario cannot be used.
    #[error(transparent)]
    Scenario(#[from] ScenarioError),
    /// The machine failed.
    #[error(transparent)]
    Machine(#[from] MachineError),
    /// The guest or the explorer broke a rule of the exploration.
    #[error(transparent)]
    Engine(EngineError),
    /// The trace cannot be used.
    #[error(transparent)]
    Trace(#[from] TraceError),
    /// Crossmod contradicts itself; the message says where.
    #[error("{0}")]
    Inconsistent(String),
}

impl From<EngineError> for CheckError {
    fn from(error: EngineError) -> CheckError {
        match error {
            EngineError::Interrupted => MachineError::Interrupted.into(),
            EngineError::UnexpectedExit(error) | EngineError::Failed(error) => {
                match error.downcast::<MachineError>() {
                    Ok(error) => CheckError::Machine(*error),
                    Err(error) => CheckError::Engine(EngineError::Failed(error)),
                }
            }
            other => CheckError::Engine(other),
        }
    }
}

/// Result of replaying a trace file.
#[derive(Debug)]
pub struct ReplayReport {
    /// The schedule in columns.
    pub rendering: String,
    /// First difference, if any: its place and what differs.
    pub difference: Option<String>,
    /// Steps executed on KVM.
    pub steps: u64,
}

/// Checks scenarios, on machines that are made once.
pub struct Checker {
    oracle: Machine,
    live: BTreeMap<usize, Machine>,
    host: Host,
    capabilities: Capabilities,
}

impl Checker {
    /// Opens KVM, and finds out what it can do.
    pub fn new() -> Result<Checker, MachineError> {
        Checker::on(Host::read(), machine::capabilities()?)
    }

    /// As if on a host of which these are the facts. What this one really lacks fails when it is used.
    pub fn on(host: Host, capabilities: Capabilities) -> Result<Checker, MachineError> {
        let mut oracle = Machine::oracle()?;
        oracle.set_real_smis(capabilities.has(Feature::Smi));
        Ok(Checker { oracle, live: BTreeMap::new(), host, capabilities })
    }

    /// What this host can do.
    pub fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    /// The host.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// What the host had to do by itself so far.
    pub fn assists(&self) -> crate::machine::Assists {
        self.oracle.assists()
    }

    /// Checks one scenario.
    pub fn check(
        &mut self,
        scenario: &Scenario,
        options: &CheckOptions,
        mut tick: impl FnMut(SearchProgress),
    ) -> Result<Report, CheckError> {
        let plan = match scenario.plan(&Options { ring: options.ring, fetch: options.fetch }) {
            Ok(plan) => plan,
            Err(error) if error.kind() == ErrorKind::Unsupported => {
                return Ok(Report::skipped(&scenario.name, &error.to_string()).under(options.fetch));
            }
            Err(error) => return Err(error.into()),
        };
        if let Some(reason) = self.lacking(&plan)? {
            return Ok(Report::skipped(&scenario.name, &reason));
        }
        let until = options.case_time.map(|time| Instant::now() + time);
        let before = self.assists();
        let mut report = self.search(&plan, options, until, &mut tick)?;
        if options.verify && !cut_by_chance(&report) {
            let again = self.search(&plan, options, until, &mut tick)?;
            if again.ended == Some(Ended::Interrupted) {
                return Err(MachineError::Interrupted.into());
            }
            if !cut_by_chance(&again) {
                if again.digest != report.digest {
                    return Err(CheckError::Inconsistent(format!(
                        "two searches of {} differ: {} and {}",
                        plan.name, report.digest, again.digest
                    )));
                }
                report.verified = true;
            }
        }
        for index in 0..report.findings.len() {
            self.confirm(&plan, scenario, options, &mut report.findings[index])?;
        }
        report.assists = self.assists().since(before);
        Ok(report)
    }

    /// Why this host cannot run a plan, if so.
    fn lacking(&mut self, plan: &Plan) -> Result<Option<String>, MachineError> {
        match self.capabilities.lacking(plan) {
            Some(reason) => Ok(Some(reason)),
            None => self.oracle.cannot_execute_site(plan),
        }
    }
}

/// What was looked at then is not what another search looks at.
fn cut_by_chance(report: &Report) -> bool {
    matches!(report.ended, Some(Ended::Interrupted | Ended::Timeout))
}

/// The counts of a memo that was not used.
pub(crate) const NO_MEMO: MemoStats =
    MemoStats { moves: 0, outcome_hits: 0, step_hits: 0, executed: 0, rechecked: 0 };

/// The status that a search's end and its findings amount to.
pub(crate) fn status(plan: &Plan, findings: &[Finding], ended: Ended, sampled: bool) -> (Status, bool) {
    let surplus = findings.iter().any(|finding| !finding.expected);
    let missing =
        plan.expect.iter().any(|property| !findings.iter().any(|f| f.violation.property == *property));
    let status = if !findings.is_empty() {
        Status::Hazard
    } else if sampled || ended != Ended::Exhausted {
        Status::NotDecided
    } else {
        Status::Safe
    };
    // What was not searched through may hold what is missing; what was found and not expected stays found.
    let as_expected = !surplus && ended == Ended::Exhausted && (sampled || !missing);
    (status, as_expected)
}
