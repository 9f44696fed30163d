//! From a scenario to a verdict with evidence: `crossmod check` as a function.

mod confirm;
mod options;
mod search;
mod steps;
mod vacuous;

use std::collections::BTreeMap;
use std::time::Instant;

use crossmod_explore::error::EngineError;
use crossmod_explore::{Ended, SearchProgress};
use crossmod_kvm::host::Host;
use crossmod_kvm::{Assists, Capabilities, Feature, Machine, MachineError, capabilities};
use crossmod_model::plan::Plan;
use crossmod_scenario::{ErrorKind, Options, Scenario, ScenarioError};
use thiserror::Error;

use crate::results::{Reason, Report};
use crate::trace::{self, TraceError};

pub use options::{CheckOptions, Mode};
use steps::KnownSteps;

/// The reason why a check has no verdict, or why a trace cannot be replayed.
#[derive(Debug, Error)]
pub enum CheckError {
    /// The scenario cannot be used.
    #[error(transparent)]
    Scenario(#[from] ScenarioError),
    /// An executor begins where it cannot come.
    #[error(transparent)]
    Start(EngineError),
    /// KVM is missing, or failed.
    #[error(transparent)]
    Machine(#[from] MachineError),
    /// The guest or the explorer broke a rule of the exploration.
    #[error(transparent)]
    Engine(EngineError),
    /// The trace cannot be used.
    #[error(transparent)]
    Trace(#[from] TraceError),
    /// Two runs that must agree differ: an error in Crossmod or in the host.
    #[error("{0}")]
    Inconsistent(String),
}

impl From<EngineError> for CheckError {
    fn from(error: EngineError) -> CheckError {
        match error {
            EngineError::Interrupted => MachineError::Interrupted.into(),
            EngineError::NotReached { .. } => CheckError::Start(error),
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

/// Result of replaying a trace.
#[derive(Debug)]
pub struct ReplayReport {
    /// The schedule in columns.
    pub rendering: String,
    /// The first difference from the recorded run, if any.
    pub difference: Option<String>,
    /// Steps executed on KVM.
    pub steps: u64,
}

/// Checks scenarios and replays traces on machines that it creates once.
pub struct Checker {
    oracle: Machine,
    live: BTreeMap<usize, Machine>,
    known: KnownSteps,
    host: Host,
    capabilities: Capabilities,
}

impl Checker {
    /// Opens KVM and probes its capabilities.
    ///
    /// # Errors
    ///
    /// [`MachineError::NoKvm`] if the host has no usable KVM.
    pub fn new() -> Result<Checker, MachineError> {
        Checker::on(Host::read(), capabilities()?)
    }

    /// Pretends to run on a host with these capabilities. A capability that the real host lacks fails on use.
    ///
    /// # Errors
    ///
    /// [`MachineError::NoKvm`] if the host has no usable KVM.
    pub fn on(host: Host, capabilities: Capabilities) -> Result<Checker, MachineError> {
        let mut oracle = Machine::oracle()?;
        oracle.set_real_smis(capabilities.has(Feature::Smi));
        Ok(Checker { oracle, live: BTreeMap::new(), known: KnownSteps::default(), host, capabilities })
    }

    /// Capabilities of this host.
    pub fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    /// The host.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// Steps on KVM so far, and how the host assisted.
    pub fn assists(&self) -> Assists {
        self.oracle.assists()
    }

    /// Forgets the steps of earlier checks: the next one executes all of its own.
    pub fn forget(&mut self) {
        self.known = KnownSteps::default();
    }

    /// Checks one scenario; calls `tick` now and then with the progress of the search.
    ///
    /// # Errors
    ///
    /// [`CheckError::Scenario`] if the scenario cannot be used, [`CheckError::Machine`] if KVM fails or a signal arrives
    /// while findings are confirmed. A scenario that only `options` or this host exclude is not an error, but a report of
    /// status [`Skipped`](crate::results::Status::Skipped).
    pub fn check(
        &mut self,
        scenario: &Scenario,
        options: &CheckOptions,
        mut tick: impl FnMut(SearchProgress),
    ) -> Result<Report, CheckError> {
        let skipped = |reason, fetch| Ok(Report::skipped(&scenario.name, Reason::Other(reason)).under(fetch));
        let plan = match scenario.plan(&Options {
            ring: options.ring,
            fetch: options.fetch,
            memory: options.memory,
        }) {
            Ok(plan) => plan,
            Err(error) if error.kind() == ErrorKind::Unsupported => {
                return skipped(error.to_string(), options.fetch);
            }
            Err(error) => return Err(error.into()),
        };
        if let Some(reason) = self.lacking(&plan)? {
            return skipped(reason, Some(plan.fetch));
        }
        let until = options.case_time.map(|time| Instant::now() + time);
        let before = self.assists();
        let (mut report, found) = self.search(&plan, options, until, &mut tick)?;
        if options.verify && !depends_on_time(&report) {
            self.forget();
            let (again, _) = self.search(&plan, options, until, &mut tick)?;
            if again.ended == Some(Ended::Interrupted) {
                return Err(MachineError::Interrupted.into());
            }
            if !depends_on_time(&again) {
                if again.digest != report.digest {
                    return Err(CheckError::Inconsistent(format!(
                        "two searches of {} differ: {} and {}",
                        plan.name, report.digest, again.digest
                    )));
                }
                report.verified = true;
            }
        }
        let findings = found.into_iter().map(|found| self.confirm(&plan, scenario, options, found));
        report.conclude(findings.collect::<Result<_, _>>()?);
        if let Some(witness) = &mut report.witness {
            let replayed = self.run_live(&plan, &witness.schedule)?;
            witness.rendering = trace::render(&plan, &replayed.rows, options.width);
        }
        report.assists = self.assists() - before;
        Ok(report)
    }

    /// The reason why this host cannot run a plan, if there is one.
    fn lacking(&mut self, plan: &Plan) -> Result<Option<String>, MachineError> {
        let reason = self.capabilities.lacking(plan).map(Some);
        reason.map_or_else(|| self.oracle.cannot_execute_site(plan), Ok)
    }
}

/// Where such a search was cut off depends on the time: another one covers something else.
fn depends_on_time(report: &Report) -> bool {
    matches!(report.ended, Some(Ended::Interrupted | Ended::Timeout))
}
