//! Remembered transitions. Each distinct one is executed on KVM once; a memo never computes a result.
//!
//! Two levels:
//!
//! * **steps**, by what KVM's result is a function of: the complete vCPU (registers and private memory), the
//!   injected event or the instruction's bytes, and the shared bytes that the decoded instruction reads. The
//!   key holds *all* private memory, which is more than the instruction reads: a miss too many, never a wrong
//!   hit. Bytes behind the instruction in the fetch window cannot matter: its length is decoded from the
//!   bytes before them.
//! * **outcomes**, by executor, environment and kind of move: a step with its bookkeeping and checks.
//!
//! A seeded sample of outcome hits is computed again with a live step, and a difference is a harness error.

use crossmod_model::step::Landing;
use rustc_hash::FxHashMap;

use super::future_effects::FutureEffects;
use super::state::Transition;

/// Key of a step: vCPU number, event or instruction bytes, shared bytes read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct StepKey {
    pub(super) cpu: u32,
    /// 0 for an instruction, else the injected vector.
    pub(super) event: u8,
    pub(super) len: u8,
    pub(super) bytes: [u8; 15],
    pub(super) shared: u64,
}

/// Result of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct StepResult {
    pub(super) cpu: u32,
    pub(super) landing: Landing,
    /// Offset, length and value of what was stored to the shared page.
    pub(super) store: Option<(u8, u8, u64)>,
}

/// Result of an executor's move.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Outcome {
    pub(super) executor: u32,
    pub(super) env: u32,
    pub(super) violations: u32,
    pub(super) ended: bool,
    pub(super) writes: bool,
}

impl Outcome {
    /// Nothing but this happened.
    pub(super) fn quiet(executor: u32, env: u32) -> Outcome {
        Outcome { executor, env, violations: 0, ended: false, writes: false }
    }
}

/// Counts of a memo.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct MemoStats {
    /// Executor moves asked for.
    pub moves: u64,
    /// Of these, known outcomes.
    pub outcome_hits: u64,
    /// Steps known from another outcome.
    pub step_hits: u64,
    /// Steps executed on KVM.
    pub executed: u64,
    /// Hits that were executed again and compared.
    pub rechecked: u64,
}

/// A memo, or none.
#[derive(Debug)]
pub struct Memo {
    enabled: bool,
    /// One hit in this many is executed again; 0 = none.
    recheck: u32,
    random: u64,
    pub(super) steps: FxHashMap<StepKey, StepResult>,
    pub(super) outcomes: FxHashMap<(u32, u32, Transition, Option<FutureEffects>), Outcome>,
    pub(super) stats: MemoStats,
}

impl Memo {
    /// Remembers, and executes one hit in `recheck` again.
    pub fn new(recheck: u32, seed: u64) -> Memo {
        Memo {
            enabled: true,
            recheck,
            random: seed | 1,
            steps: FxHashMap::default(),
            outcomes: FxHashMap::default(),
            stats: MemoStats::default(),
        }
    }

    /// Executes every step.
    pub fn disabled() -> Memo {
        Memo { enabled: false, ..Memo::new(0, 1) }
    }

    pub(super) fn enabled(&self) -> bool {
        self.enabled
    }

    /// Changes how many hits are executed again; returns what it was.
    pub(super) fn set_rate(&mut self, recheck: u32) -> u32 {
        std::mem::replace(&mut self.recheck, recheck)
    }

    pub(super) fn stats(&self) -> MemoStats {
        self.stats
    }

    /// True for the hits to execute again (xorshift64: deterministic for a seed).
    pub(super) fn sample(&mut self) -> bool {
        if self.recheck == 0 {
            return false;
        }
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random.is_multiple_of(u64::from(self.recheck))
    }
}
