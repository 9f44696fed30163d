//! Failures of the machine. None of them is a verdict.

use crossmod_model::image::ImageError;
use thiserror::Error;

/// A failure of the host, of KVM, or of a guest that violates its contract with the host.
#[derive(Debug, Error)]
pub enum MachineError {
    /// `/dev/kvm` cannot be used at all.
    #[error("/dev/kvm cannot be used: {reason}")]
    NoKvm {
        /// Why, and what to do.
        reason: String,
    },
    /// KVM lacks something that exploration needs.
    #[error("KVM on this host lacks {0}")]
    Unavailable(String),
    /// The command needs something else that this host lacks.
    #[error("{0}")]
    NotHere(String),
    /// An ioctl failed.
    #[error("{what} failed")]
    Kvm {
        /// The ioctl or call.
        what: &'static str,
        /// Its error.
        #[source]
        source: kvm_ioctls::Error,
    },
    /// Guest memory could not be created or accessed.
    #[error("guest memory: {0}")]
    Memory(String),
    /// The embedded guest image is not what the host expects.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// KVM returned for a reason that does not belong to a step.
    #[error("unexpected KVM exit {exit} at RIP {rip:#x} (step began at {from:#x})")]
    UnexpectedExit {
        /// Name and details of the exit.
        exit: String,
        /// RIP at the exit.
        rip: u64,
        /// RIP at which the step began.
        from: u64,
    },
    /// Executors of a free-running machine were not run.
    #[error(
        "an executor has not answered between two rounds, or has hardly run for thirty seconds; use a host with less \
         load, or fewer executors"
    )]
    NotAnswered,
    /// The vCPU did not return within the time limit.
    #[error("guest code ran {millis} ms without an exit (step began at {from:#x}): endless loop")]
    Endless {
        /// The limit.
        millis: u64,
        /// RIP at which the step began.
        from: u64,
    },
    /// A signal asked Crossmod to stop.
    #[error("interrupted by a signal")]
    Interrupted,
    /// The numbers of messages sent to vCPUs and received by them do not match.
    #[error("messages to vCPUs were lost or invented: {0}")]
    Messages(String),
    /// The guest violated a rule that the host relies on.
    #[error("guest contract broken at RIP {rip:#x}: {what}")]
    Contract {
        /// Where.
        rip: u64,
        /// What.
        what: String,
    },
}

impl MachineError {
    /// For `map_err` on ioctls.
    pub(crate) fn kvm(what: &'static str) -> impl Fn(kvm_ioctls::Error) -> MachineError {
        move |source| MachineError::Kvm { what, source }
    }
}

/// The result of what can fail with a machine.
pub type Result<T, E = MachineError> = std::result::Result<T, E>;
