//! What can go wrong between Crossmod and KVM. None of these is ever a verdict.

use crossmod_model::image::ImageError;
use thiserror::Error;

/// A failure of the machine: the host, KVM, or a guest that left its contract.
#[derive(Debug, Error)]
pub enum MachineError {
    /// `/dev/kvm` cannot be used at all.
    #[error("/dev/kvm cannot be used: {reason}")]
    NoKvm {
        /// Why, and what to do.
        reason: String,
    },
    /// KVM lacks something that exploration rests on.
    #[error("KVM on this host lacks {0}")]
    Unavailable(String),
    /// What is to be run needs something that this host lacks.
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
    /// KVM returned for a reason that has no place in a step.
    #[error("unexpected KVM exit {exit} at RIP {rip:#x} (step began at {from:#x})")]
    UnexpectedExit {
        /// Name and details of the exit.
        exit: String,
        /// RIP at the exit.
        rip: u64,
        /// RIP at which the step began.
        from: u64,
    },
    /// The vCPU did not come back within the time limit.
    #[error("guest code ran {millis} ms without an exit (step began at {from:#x}): endless loop")]
    Endless {
        /// The limit.
        millis: u64,
        /// RIP at which the step began.
        from: u64,
    },
    /// A signal asked us to stop.
    #[error("interrupted by a signal")]
    Interrupted,
    /// A step did not end where the decoded instruction says.
    #[error("stepping {instruction} at {from:#x} ended at {rip:#x}, expected {expected}")]
    Misstep {
        /// The decoded instruction.
        instruction: String,
        /// Where it stands.
        from: u64,
        /// Where the vCPU is.
        rip: u64,
        /// Where it could be.
        expected: String,
    },
    /// The guest broke a rule that the explorer relies on.
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
