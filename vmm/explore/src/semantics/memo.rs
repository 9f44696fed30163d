//! Remembered transitions. Each distinct one is executed on KVM once; a memo never computes a result.
//!
//! Two levels:
//!
//! * **steps** ([`Steps`]), by everything that KVM's result depends on: the complete vCPU (registers and private memory),
//!   the injected event or the instruction's bytes, and what the decoded instruction reads from the shared page and
//!   from the site as data. The key holds *all* private memory, which is more than the instruction reads: this may cost a
//!   hit, but never causes a wrong one. Bytes behind the instruction in the fetch window cannot matter: its length is
//!   decoded from the bytes before them. Nothing here depends on the fetch model or on who else runs: searches of the
//!   same guest can share their steps.
//! * **outcomes**, by executor, shared state and kind of transition: a step with its bookkeeping and checks.
//!
//! A seeded sample of outcome hits is computed again with a live step, and a difference is a harness error.

use std::rc::Rc;

use crossmod_model::state::Id;
use crossmod_model::state::ghost::Executor;
use crossmod_model::state::shared_state::SharedState;
use crossmod_model::step::Landing;
use crossmod_model::view::View;
use crossmod_model::x86::cpu::Cpu;
use rustc_hash::FxHashMap;

use super::access::Reads;
use super::future_effects::FutureEffects;
use crate::intern::Interner;
use crate::search::system::Applied;
use crate::state::Transition;

/// Key of a step: vCPU, event or instruction bytes, and what it reads from memory that others write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct StepKey {
    pub(super) cpu: Id<Cpu>,
    /// 0 for an instruction, else the injected vector.
    event: u8,
    len: u8,
    bytes: [u8; 15],
    reads: Reads,
}

impl StepKey {
    /// The delivery of an event.
    pub(super) fn event(cpu: Id<Cpu>, event: u8) -> StepKey {
        StepKey { cpu, event, len: 0, bytes: [0; 15], reads: Reads::default() }
    }

    /// An instruction of at most 15 bytes.
    pub(super) fn instruction(cpu: Id<Cpu>, instruction: &[u8], reads: Reads) -> StepKey {
        let mut bytes = [0; 15];
        bytes[..instruction.len()].copy_from_slice(instruction);
        StepKey { cpu, event: 0, len: instruction.len() as u8, bytes, reads }
    }
}

/// Result of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct StepResult {
    pub(super) cpu: Id<Cpu>,
    pub(super) landing: Landing,
    /// Offset, length and value of what was stored to the shared page.
    pub(super) store: Option<(u8, u8, u64)>,
}

/// Steps that were executed, and the vCPUs before and after them.
#[derive(Debug, Default)]
pub struct Steps {
    pub(super) cpus: Interner<Cpu>,
    pub(super) results: StepResults,
}

/// The results of steps.
#[derive(Debug, Default)]
pub(super) struct StepResults {
    /// With the number of the last search that used it.
    known: FxHashMap<StepKey, (StepResult, u32)>,
    search: u32,
}

impl StepResults {
    /// A search begins.
    fn begin(&mut self) {
        self.search += 1;
    }

    /// Finds a result, and counts it.
    pub(super) fn find(&mut self, key: &StepKey, stats: &mut MemoStats) -> Option<StepResult> {
        let (result, search) = self.known.get_mut(key)?;
        if std::mem::replace(search, self.search) == self.search {
            stats.step_hits += 1;
        } else {
            stats.earlier += 1;
        }
        Some(*result)
    }

    /// Remembers a result.
    pub(super) fn insert(&mut self, key: StepKey, result: StepResult) {
        self.known.insert(key, (result, self.search));
    }
}

/// Result of an executor's transition.
pub(super) type Outcome = Applied<(Id<SharedState>, Id<Executor>)>;

/// Key of an outcome. Identical executors share their outcomes: the transition is that of slot 0.
type OutcomeKey = (Id<Executor>, Id<SharedState>, Transition, Option<FutureEffects>);

/// The ends of a pass, for each combination of versions; `None` if a forbidden one does not come to an end.
pub(super) type References = Rc<[Option<Id<Cpu>>]>;

/// What an executor at the site may see.
pub(super) type Views = Rc<[View]>;

/// Counts of a memo.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct MemoStats {
    /// Executor transitions looked up.
    pub moves: u64,
    /// Of these, known outcomes.
    pub outcome_hits: u64,
    /// Steps known from another outcome.
    pub step_hits: u64,
    /// Distinct steps that an earlier search of the same guest had executed.
    #[serde(default)]
    pub earlier: u64,
    /// Steps executed on KVM in this search.
    pub executed: u64,
    /// Hits that were executed again and compared.
    pub rechecked: u64,
}

/// A memo of steps and outcomes, which can be disabled; and of what is the same with and without it.
#[derive(Debug)]
pub struct Memo {
    pub(super) enabled: bool,
    /// One hit in this many is executed again; 0 = none.
    recheck: u32,
    random: fastrand::Rng,
    pub(super) steps: Steps,
    pub(super) outcomes: FxHashMap<OutcomeKey, Outcome>,
    /// By entry and label of the pass.
    pub(super) references: FxHashMap<(Id<Cpu>, u8), References>,
    pub(super) views: FxHashMap<(Id<Executor>, Id<SharedState>), Views>,
    pub(super) stats: MemoStats,
}

impl Memo {
    /// Remembers, and executes one hit in `recheck` again.
    pub fn new(recheck: u32, seed: u64) -> Memo {
        Memo {
            enabled: true,
            recheck,
            random: fastrand::Rng::with_seed(seed),
            steps: Steps::default(),
            outcomes: FxHashMap::default(),
            references: FxHashMap::default(),
            views: FxHashMap::default(),
            stats: MemoStats::default(),
        }
    }

    /// The same memo with steps that earlier searches of the same guest have executed: of plans that differ in the
    /// host's steps and in their models alone.
    #[must_use]
    pub fn with_steps(mut self, mut steps: Steps) -> Memo {
        steps.results.begin();
        self.steps = steps;
        self
    }

    /// Executes every step.
    pub fn disabled() -> Memo {
        Memo { enabled: false, ..Memo::new(0, 1) }
    }

    /// True for the hits to execute again; the same ones for the same seed.
    pub(super) fn sample(&mut self) -> bool {
        self.recheck != 0 && self.random.u32(..self.recheck) == 0
    }
}
