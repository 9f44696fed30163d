//! Executors that pass through a site again and again at ring 3 and log each pass, the broadcasts of the scenario
//! language, device interrupts and NMIs sent as messages, and traps that the host handles.
//!
//! A trap, a fault, and an interrupt handler that runs the site each ring a doorbell first. The host then acts for the
//! handler with maskable interrupts off, as an interrupt gate would leave them. A pass on behalf of a handler runs at
//! ring 3, the only ring that is native on every KVM; the pass of an NMI's handler runs while NMIs are blocked.

mod code;
mod executor_thread;
mod layout;
mod observer;
mod patcher_handle;
mod vm;

pub use super::executors::Waited;
pub use observer::{Observer, Trap};
pub use patcher_handle::PatcherHandle;
pub use vm::{StressConfig, StressVm};
