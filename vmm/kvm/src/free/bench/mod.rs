//! Executors that run until they are stopped, with an interrupt controller in the kernel, IPIs and NMIs sent as
//! messages (KVM API, KVM_SIGNAL_MSI), and handlers that never leave the guest.

mod layout;
mod patcher;
mod vm;

pub use patcher::{BenchPatcher, Counted, Signal};
pub use vm::{BenchVm, ticks};
