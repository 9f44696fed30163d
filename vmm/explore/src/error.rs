//! What can go wrong in an exploration. None of these is ever a verdict.

use crossmod_model::image::ImageError;
use thiserror::Error;

/// What fails with an [`EngineError`] unless it says otherwise.
pub type Result<T, E = EngineError> = std::result::Result<T, E>;

/// A failure of the engine, or of a guest that left its contract.
#[derive(Debug, Error)]
pub enum EngineError {
    /// The guest broke a rule that the explorer relies on.
    #[error("guest contract broken at RIP {rip:#x}: {what}")]
    Contract {
        /// Address of the instruction.
        rip: u64,
        /// Which rule, and how it is broken.
        what: String,
    },
    /// An executor begins inside the site, and whoever runs the old version does not come there.
    #[error(
        "{scenario}: executor {executor} begins at byte {offset} of the site, and whoever runs `old` does not come there: start \
         \"outside\", or where `old` leads"
    )]
    NotReached {
        /// The scenario.
        scenario: String,
        /// The executor.
        executor: usize,
        /// Where it begins: offset from the site's first byte.
        offset: usize,
    },
    /// The explorer contradicts itself.
    #[error("{0}")]
    Inconsistent(String),
    /// The guest image lacks something.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// A stop was requested; see [`StopToken`].
    #[error("interrupted by a signal")]
    Interrupted,
    /// A step did not end where the decoded instruction says.
    #[error("stepping {instruction} at {from:#x} ended at {rip:#x}, expected {expected}")]
    Misstep {
        /// The decoded instruction.
        instruction: String,
        /// Where it begins.
        from: u64,
        /// Where the vCPU is.
        rip: u64,
        /// Where it could be.
        expected: String,
    },
    /// The engine left the guest for a reason that does not occur in a step.
    #[error(transparent)]
    UnexpectedExit(Box<dyn std::error::Error + Send + Sync>),
    /// Any other failure of the engine.
    #[error(transparent)]
    Failed(Box<dyn std::error::Error + Send + Sync>),
}

/// Whether a search is to stop. The caller hands it in: the explorer does not depend on signals.
#[derive(Debug, Clone, Copy)]
pub struct StopToken(fn() -> bool);

impl StopToken {
    /// A stop is never requested.
    pub const NEVER: StopToken = StopToken(|| false);

    /// A stop is requested once `requested` returns true.
    pub const fn new(requested: fn() -> bool) -> StopToken {
        StopToken(requested)
    }

    /// True once a stop is requested.
    pub fn requested(self) -> bool {
        (self.0)()
    }
}

impl Default for StopToken {
    fn default() -> StopToken {
        StopToken::NEVER
    }
}
