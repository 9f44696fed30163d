//! Exploration: states, moves, and searches over them.
//!
//! Nothing here knows KVM: what executes a step is an [`engine::Engine`].
//!
//! ```text
//! engine ─► model: moves, apply (step, pass, patcher, window)    the semantics; each step executed on KVM
//!             └─► table: successors by number ─► search: chunk, visited, log
//!                                                  └─► evidence: schedules
//! ```

#![forbid(unsafe_code)]

mod access;
mod chunk;
mod classes;
mod effects;
pub mod engine;
pub mod error;
mod evidence;
mod intern;
mod log;
mod memo;
mod model;
mod numbering;
mod pass;
mod patcher;
mod phase;
mod readable;
mod sampler;
pub mod schedule;
mod search;
mod shorten;
mod state;
mod step;
mod table;
mod visited;
mod window;

pub use log::STALL_LIMIT;
pub use memo::{Memo, MemoStats};
pub use model::{Applied, Model, PassOutcome};
pub use readable::fewest_switches;
pub use search::{Ended, Found, Limits, Manner, Search, Stalls, Tick, explore};
pub use shorten::without_surplus;
pub use state::{Global, Move, State};
pub use step::fault_name;
pub use window::Window;
