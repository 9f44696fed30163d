//! Exploration: states, moves, and searches over them.

pub mod engine;
pub mod env;
pub mod graph;
mod intern;
mod memo;
mod model;
pub mod monitor;
mod readable;
mod search;
mod shorten;
mod state;
mod step;

pub use memo::{Memo, MemoStats};
pub use model::{Applied, COHERENT_ATOM, Model, PassOutcome};
pub use readable::fewest_switches;
pub use search::{Ended, Found, Limits, Search, Tick, explore};
pub use shorten::without_surplus;
pub use state::{Move, State};
pub use step::{Window, fault_name};
