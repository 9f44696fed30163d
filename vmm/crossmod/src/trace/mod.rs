//! Evidence: the trace file of a violation, its live replay, and its rendering in columns.
//!
//! A trace is bound to what it was found with: format, plan digest, guest image. A replay executes every
//! transition on KVM, with one vCPU for each executor and without a memo, and compares the state after each.

mod file;
mod render;
mod replay;

pub use file::{FORMAT, Trace, TraceError, TraceMove, hex};
pub use render::{Row, describe, render};
pub use replay::{Replayed, run};
