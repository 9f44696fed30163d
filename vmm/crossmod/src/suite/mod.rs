//! Suites: which cases exist, which of them a run selects and executes, and which are known from an earlier run.
//!
//! A *case* is a scenario under one fetch model: one search, one verdict. Its name is that of the scenario, followed by
//! `@model` unless the model is the coherent one, and it is unique in a selection.
//!
//! ```text
//! scenarios -> cases -> filter -> shard -> check -> Results -> join
//!                                            │
//!                                         journal: verdicts of a run that was interrupted
//! ```

mod case;
mod filter;
mod join;
mod journal;
mod shard;

pub use case::{Case, SuiteError, cases};
pub use filter::{Filter, TagRule, Wanted};
pub use join::{JoinError, join};
pub use journal::{Header, Journal, JournalError};
pub use shard::cost;
