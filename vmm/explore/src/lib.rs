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
mod effects;
pub mod engine;
pub mod error;
mod evidence;
mod future_effects;
mod intern;
mod interning;
mod memo;
mod model;
mod pass;
mod patcher;
mod readable;
mod sampler;
pub mod schedule;
mod search;
mod shorten;
mod state;
mod step;
mod symmetry;
mod table;
mod transition_log;
mod visited;
mod window;

pub use memo::{Memo, MemoStats};
pub use model::{Applied, Model, PassOutcome};
pub use readable::fewest_switches;
pub use search::{Counterexample, Ended, Limits, Search, SearchOptions, SearchProgress, Stalls, explore};
pub use shorten::without_surplus;
pub use state::{Global, State, Transition};
pub use step::fault_name;
pub use transition_log::STALL_LIMIT;
pub use window::Window;
