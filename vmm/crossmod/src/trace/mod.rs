//! Evidence: the trace file of a violation, its live replay, and its rendering in columns.
//!
//! A trace is bound to what it was found with: format, plan digest, guest image. A replay executes every
//! move on KVM, one vCPU for each executor, with no memo, and compares the state after each move.

mod file;
mod render;
mod replay;

pub use file::{FORMAT, Trace, TraceError, TraceMove, hex};
pub use render::{TraceRow, describe, render};
pub use replay::{Replayed, run};
