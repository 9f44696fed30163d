//! The loops of loops.s, as bytes for a guest and as functions for a thread of this process.

use super::Length;

/// Byte offsets from the address of the counters. Each has its own cache line.
pub const BEGUN: u64 = 0;
/// See [`BEGUN`].
pub const DONE: u64 = 64;
/// Where the writers of two versions find these.
pub const SCRATCH: u64 = 128;
/// Length of the counters in bytes.
pub const COUNTERS: u64 = 192;

core::arch::global_asm!(
    include_str!("loops.s"),
    begun = const BEGUN,
    done = const DONE,
    scratch = const SCRATCH,
);

guest_code!(crossmod_survey_start crossmod_survey_end crossmod_survey_execute
    crossmod_survey_execute_serialised crossmod_survey_execute_cold crossmod_survey_repeat
    crossmod_survey_write_1 crossmod_survey_write_2 crossmod_survey_write_4 crossmod_survey_write_5
    crossmod_survey_write_8 crossmod_survey_write_16 crossmod_survey_write_halves
    crossmod_survey_write_halves_fence crossmod_survey_write_halves_pause crossmod_survey_alternate_1 crossmod_survey_alternate_8);

/// How an executor reaches the site in each pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// Calls it.
    Tight,
    /// Comes from the instructions before it.
    Neighbours,
    /// Serialises, then calls it.
    Serialised,
    /// Flushes its lines out of every cache (CLFLUSH), then calls it.
    Cold,
}

/// One of the loops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loop {
    /// Passes through the site.
    Execute(Shape),
    /// Passes through the site, many times over the same log.
    Repeat,
    /// Stores to it.
    Write(Length),
    /// Stores two versions in turn, one byte or eight bytes of each.
    Alternate {
        /// One byte, not eight.
        byte: bool,
    },
}

impl Loop {
    fn start(self) -> *const u8 {
        match self {
            Loop::Execute(Shape::Tight | Shape::Neighbours) => &raw const crossmod_survey_execute,
            Loop::Execute(Shape::Serialised) => &raw const crossmod_survey_execute_serialised,
            Loop::Execute(Shape::Cold) => &raw const crossmod_survey_execute_cold,
            Loop::Repeat => &raw const crossmod_survey_repeat,
            Loop::Write(Length::One) => &raw const crossmod_survey_write_1,
            Loop::Write(Length::Two) => &raw const crossmod_survey_write_2,
            Loop::Write(Length::Four) => &raw const crossmod_survey_write_4,
            Loop::Write(Length::Five) => &raw const crossmod_survey_write_5,
            Loop::Write(Length::Eight) => &raw const crossmod_survey_write_8,
            Loop::Write(Length::Sixteen) => &raw const crossmod_survey_write_16,
            Loop::Write(Length::Halves) => &raw const crossmod_survey_write_halves,
            Loop::Write(Length::HalvesFence) => &raw const crossmod_survey_write_halves_fence,
            Loop::Write(Length::HalvesPause) => &raw const crossmod_survey_write_halves_pause,
            Loop::Alternate { byte: true } => &raw const crossmod_survey_alternate_1,
            Loop::Alternate { byte: false } => &raw const crossmod_survey_alternate_8,
        }
    }

    /// Its offset in [`bytes`].
    pub fn offset(self) -> u64 {
        offset(self.start())
    }

    /// Runs it on the calling thread.
    ///
    /// # Safety
    ///
    /// The first two arguments of a writer are addresses that stay valid for its stores and for [`COUNTERS`]
    /// bytes; those of an executor are code that returns and the counters, its last the log, 24 bytes for each
    /// pass. Nobody may hold references into any of them.
    pub unsafe fn call(self, arguments: [u64; 6]) -> u64 {
        type Function = unsafe extern "sysv64" fn(u64, u64, u64, u64, u64, u64) -> u64;
        let [a, b, c, d, e, f] = arguments;
        // SAFETY: `start` is the entry of code with this signature, assembled from loops.s.
        let function = unsafe { std::mem::transmute::<*const u8, Function>(self.start()) };
        // SAFETY: the caller's promise.
        unsafe { function(a, b, c, d, e, f) }
    }
}
