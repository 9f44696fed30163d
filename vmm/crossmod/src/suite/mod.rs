//! Suites: which cases there are, which of them are wanted, which run here, and what is known of them already.
//!
//! A *case* is a scenario under one fetch model: one search, one verdict. Its name is that of the scenario, with
//! `@model` unless the model is the plain one, and it is unique in a selection.
//!
//! ```text
//! scenarios -> cases -> filter -> shard -> check -> Results -> join
//!                                            │
//!                                         journal: what is known after an interruption
//! ```

mod case;
mod filter;
mod join;
mod journal;
mod results;
mod shard;

pub use case::{Case, SuiteError, cases};
pub use filter::{Filter, TagRule, Wanted};
pub use join::{JoinError, join};
pub use journal::{Header, Journal, JournalError};
pub use results::{Results, Selection};
pub use shard::{Shard, cost};
