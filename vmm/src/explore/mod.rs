//! Exploration: states, moves, and searches over them.

mod access;
pub mod engine;
pub mod env;
pub mod graph;
mod intern;
mod memo;
mod model;
pub mod monitor;
mod numbering;
mod pass;
mod patcher;
mod readable;
mod search;
mod shorten;
mod state;
mod step;
mod window;

pub use memo::{Memo, MemoStats};
pub use model::{Applied, COHERENT_ATOM, Model, PassOutcome};
pub use readable::fewest_switches;
pub use search::{Ended, Found, Limits, Search, Tick, explore};
pub use shorten::without_surplus;
pub use state::{Move, State};
pub use step::fault_name;
pub use window::Window;
