//! Crossmod's machines: one memory and up to eight vCPUs, on KVM.
//!
//! * [`Machine`] executes one step of one vCPU at a time, from a complete state to a complete state: exploration and
//!   replay.
//! * [`free`]: machines at full speed, for surveys, stress and benchmarks.
//! * [`probe()`] and [`capabilities()`]: what KVM on this host can do.
//! * [`host`]: facts about the host that go with every result.
//!
//! Only this crate uses KVM, and only this crate has `unsafe` code: every other one forbids it. A machine is made once and reset for each scenario; its page
//! tables never change after the first run.

mod assists;
mod capabilities;
mod error;
pub mod free;
pub mod host;
mod image;
mod kick;
mod layout;
mod machine;
mod mce;
mod memory;
mod pin;
mod probe;
mod step;
mod tables;
mod vcpu;
mod vm;

pub use assists::Assists;
pub use capabilities::{Ability, Capabilities, Feature, needed};
pub use error::{MachineError, Result};
pub use kick::{RUN_LIMIT, catch_signals, request_stop, stop_requested};
pub use machine::Machine;
pub use pin::{allowed_cpus, pin};
pub use probe::{Fact, capabilities, probe};
