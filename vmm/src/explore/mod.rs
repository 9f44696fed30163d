//! Exploration: states, moves, and searches over them.
//!
//! ```text
//! engine ─► model: moves, apply (step, pass, patcher, window)    the semantics; each step executed on KVM
//!             └─► table: successors by number ─► search: chunk, visited, log
//!                                                  └─► evidence: schedules
//! ```

mod access;
mod chunk;
mod classes;
mod effects;
pub mod engine;
pub mod env;
mod evidence;
pub mod graph;
mod intern;
mod log;
mod memo;
mod model;
pub mod monitor;
mod numbering;
mod pass;
mod patcher;
mod phase;
mod readable;
mod sampler;
mod search;
mod shorten;
mod state;
mod step;
mod table;
mod visited;
mod window;

pub(crate) use effects::master;
pub use log::STALL_LIMIT;
pub use memo::{Memo, MemoStats};
pub use model::{Applied, Model, PassOutcome};
pub use readable::fewest_switches;
pub use search::{Ended, Found, Limits, Manner, Search, Stalls, Tick, explore};
pub use shorten::without_surplus;
pub use state::{Global, Move, State};
pub use step::fault_name;
pub use window::Window;
