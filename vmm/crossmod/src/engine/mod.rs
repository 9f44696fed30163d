//! Engines that execute the explorer's steps on KVM: on one vCPU for all executors, or on one vCPU for each.

mod replay;
mod stepping;

pub use replay::ReplayEngine;
pub use stepping::SteppingEngine;

use crossmod_explore::error::EngineError;
use crossmod_kvm::MachineError;

/// Converts an error of the machine into one of the explorer.
pub(crate) fn failed(error: MachineError) -> EngineError {
    match error {
        MachineError::Interrupted => EngineError::Interrupted,
        MachineError::Contract { rip, what } => EngineError::Contract { rip, what },
        MachineError::Image(error) => EngineError::Image(error),
        error @ MachineError::UnexpectedExit { .. } => EngineError::UnexpectedExit(Box::new(error)),
        other => EngineError::Failed(Box::new(other)),
    }
}
