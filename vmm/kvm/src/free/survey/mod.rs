//! One executor and one writer, with KVM ([`SurveyVm`]) and without it ([`PlainThreads`]).
//!
//! Both run the same loops: an executor whose loop is a dozen instructions long logs each pass, and the host reads the
//! log after each batch.

mod job;
mod length;
mod loops;
mod threads;
mod vm;

pub use job::{Alternating, Job, Pinning, Slice, Writer, pad};
pub use length::Length;
pub use loops::Shape;
pub use threads::PlainThreads;
pub use vm::SurveyVm;

use super::Pass;
use crate::layout;

/// Passes between two looks at the log.
pub const BATCH: usize = 8192;

const _: () = assert!(super::LOG + (BATCH * size_of::<Pass>()) as u64 <= layout::IMAGE);
