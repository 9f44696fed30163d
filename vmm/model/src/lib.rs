//! The vocabulary of Crossmod: plans, the states of an execution, and the checks of a state.
//!
//! * [`x86`]: facts of the architecture: a vCPU's registers, what an instruction is about to do, vendors' rules.
//! * [`fetch`]: the parameters of fetch models; [`memory`]: those of memory models.
//! * [`property`]: what can be violated.
//! * [`plan`]: a scenario with nothing left to decide.
//! * [`layout`], [`image`]: the guest's addresses, and the labels of its code.
//! * [`state`]: what executors and patcher share, and what the explorer remembers about each.
//! * [`view`]: the bytes that a fetch may see.
//! * [`checks`]: how each property is checked.
//! * [`step`]: what one step executes, and where it may end.
//! * [`hex`]: bytes as text.
//!
//! Everything here is data and pure functions over it. Nothing reads a file, executes an instruction or knows KVM.

#![forbid(unsafe_code)]

pub mod checks;
pub mod fetch;
pub mod hex;
pub mod image;
pub mod layout;
pub mod memory;
pub mod plan;
pub mod property;
pub mod state;
pub mod step;
pub mod view;
pub mod x86;
