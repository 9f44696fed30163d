//! Exploration: states, transitions, and searches over them.
//!
//! ```text
//! engine ─► semantics: transitions, apply (step, pass, patcher, window)    each step is executed by the engine
//!              ▲ implements
//! search::system::System ─► table: successors by number ─► chunk, visited, transition log ─► evidence: schedules
//! ```
//!
//! * An [`engine::Engine`] executes a step. What it runs on is not known here.
//! * [`Model`] is the semantics of a plan on an engine.
//! * [`explore`] searches any [`System`]: it knows neither instructions nor plans. [`Model`] is one.
//! * [`schedule`] samples instead of searching.
//! * [`fewest_switches`], [`without_surplus`] make schedules readable.

#![forbid(unsafe_code)]

pub mod engine;
pub mod error;
mod intern;
mod minimize;
pub mod schedule;
mod search;
mod semantics;
mod state;

pub use minimize::{context_switches, fewest_switches, without_surplus};
pub use search::system::{Applied, Reduction, System};
pub use search::{
    Counterexample, Ended, Limits, STALL_LIMIT, Search, SearchOptions, SearchProgress, Stalls, explore,
    system,
};
pub use semantics::{Memo, MemoStats, Model, PassOutcome, Steps, Window, fault_name};
pub use state::{Global, State, Transition};
