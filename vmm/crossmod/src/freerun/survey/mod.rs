//! A survey: what this CPU does with stores to code that it executes, by place.
//!
//! Every place runs with every writer, with the reference without KVM, and with several ways of reaching the site, in
//! slices of equal length; then the pairs of instructions. What limits it:
//!
//! * The executor runs at ring 3, the only ring that is native on every KVM; a survey can also run ring 0 where that is
//!   native.
//! * There is one executor and one writer, on the first two CPUs that this process may use. Other load on them, and a
//!   hypervisor below, costs passes and changes the relative timing of the two loops, so that rates describe this
//!   machine in its current state.
//! * Rates depend on how often the writer stores. They compare places with each other, not CPUs.
//! * Only the immediate of an instruction changes, or few pairs of instructions take turns, so that each mix of bytes is
//!   a harmless outcome of its own. Other instructions may behave differently.

mod allowed;
mod cell;
mod judge;
mod outcome;
mod pairs;
mod results;
mod run;
mod summary;

pub use allowed::{Answer, ask};
pub use cell::{Cell, Crosses, LINE};
pub use outcome::{Odd, PassCounts, Side, SideSeen, Tally, bound};
pub use pairs::{Pair, PairCell};
pub use results::{Done, ModelLine, PairRow, PairSeen, Survey, SurveyFinding, SurveyRow};
pub use run::{SurveyOptions, survey};
pub use summary::{Class, Rule, Standing};
