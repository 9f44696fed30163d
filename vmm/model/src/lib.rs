//! The vocabulary of Crossmod: what a scenario comes to, which states an execution has, and when one of them is wrong.
//!
//! * [`x86`]: facts of the architecture: a vCPU's registers, what an instruction is about to do, vendors' rules.
//! * [`plan`]: a scenario with nothing left to decide.
//! * [`layout`], [`image`]: what the guest finds at which address, and the labels of its code.
//! * [`fetch`]: which bytes a fetch may see.
//! * [`state`]: what executors and patcher share, and what the explorer remembers about each.
//! * [`property`]: what a protocol must not do.
//! * [`step`]: what one step executes, and where it may end.
//!
//! Everything here is data and pure functions over it. Nothing reads a file, executes an instruction or knows KVM.

#![forbid(unsafe_code)]

mod docs;
pub mod fetch;
pub mod image;
pub mod layout;
pub mod plan;
pub mod property;
pub mod state;
pub mod step;
pub mod x86;
