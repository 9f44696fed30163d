//! Who makes a transition.

/// One of the agents whose transitions interleave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Actor {
    /// The host's patcher.
    Patcher,
    /// The executor in this slot, with every event that is delivered to it.
    Executor(u8),
}
