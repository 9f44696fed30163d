//! Results as data: the report of one check, and the results of a run of many.
//!
//! This module knows neither how a scenario is checked nor how a result is printed. JSON results of an earlier run are
//! read back into these types, so every value serialises to the text that files already contain.

mod as_text;
mod report;
mod run;
mod values;

pub use report::{Finding, Report, Witness, case_name};
pub use run::{Results, Selection, Shard};
pub use values::{Bounds, FinalValues, Modelled, Outcome, Reason, SearchCounts, SiteVersion, Status, Tier};
