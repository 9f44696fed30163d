//! Evidence: the trace file of a violation, its live replay, and its rendering in columns.
//!
//! A trace is valid for one file format, plan and guest image. A replay executes every transition on KVM, with one vCPU
//! for each executor and without a memo, and compares the state after each transition.

mod file;
mod render;
mod replay;

pub use file::{FORMAT, Trace, TraceError, TraceMove, hex};
pub use render::{TraceRow, describe, render, word_name};
pub use replay::{Replayed, run};
