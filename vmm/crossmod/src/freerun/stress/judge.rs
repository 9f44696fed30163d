//! Judges the passes and traps of one executor.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use derive_more::AddAssign;
use serde::Serialize;

use super::finding::{Circumstances, Event, Logged, NOT_REPLAYABLE, Recorder, StressFinding};
use super::versions::{Shown, Versions, nearest};
use crate::linux::hex;
use crate::machine::free::Pass;
use crate::machine::free::stress::{Observer, Trap};
use crate::plan::{Action, Plan};
use crate::property::Property;

/// Passes recorded before a finding, and behind it.
const NEIGHBOURS: usize = 4;

/// Who passes in an executor's loop.
const EXECUTOR: &str = "executor";

/// What the patcher and the judges of executors share.
pub struct StressState<'a> {
    pub plan: &'a Plan,
    pub versions: &'a Versions,
    pub recorder: &'a Recorder<'a>,
    pub run: &'a Circumstances,
    /// How the scenario is named on the command line.
    pub argument: &'a str,
    /// The handler claims traps at the moment.
    pub armed: AtomicBool,
    /// Its descriptor was freed.
    pub freed: AtomicBool,
    /// As in the guest's shared page.
    pub done: AtomicU64,
    /// As in the guest's shared page.
    pub begun: AtomicU64,
    /// Number of the round.
    pub round: AtomicU64,
    /// Passes so far, for progress.
    pub passes: AtomicU64,
}

impl<'a> StressState<'a> {
    pub fn new(
        plan: &'a Plan,
        versions: &'a Versions,
        recorder: &'a Recorder<'a>,
        run: &'a Circumstances,
        argument: &'a str,
    ) -> StressState<'a> {
        let [done, begun, round, passes] = Default::default();
        let armed = AtomicBool::new(plan.handler.armed_at_start);
        let freed = AtomicBool::new(false);
        StressState { plan, versions, recorder, run, argument, armed, freed, done, begun, round, passes }
    }

    /// Notes a finding, if it is the first of its property.
    pub fn note(&self, event: impl FnOnce() -> Event, property: Property) {
        self.recorder.note(property, || {
            let event = event();
            let round = event.pass.map_or(self.round.load(Ordering::Relaxed), |pass| pass.begun / 2);
            StressFinding {
                replayable: false,
                not_replayable: NOT_REPLAYABLE,
                explore: explore(self.plan, self.argument, property),
                round,
                old: hex(&self.versions.bytes(2 * round)),
                new: hex(&self.versions.bytes(2 * round + 1)),
                event,
                run: self.run.clone(),
            }
        });
    }
}

/// The command that explores every interleaving for the same hazard: under the scenario's own fetch model if it expects
/// the property there, otherwise under all of them.
pub fn explore(plan: &Plan, argument: &str, property: Property) -> String {
    let models = if plan.expect.contains(&property) { "" } else { " --fetch all" };
    format!("crossmod check {argument}{models}")
}

/// Passes and traps of executors, by kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, AddAssign)]
pub struct StressCounts {
    /// All passes of the executors' loops.
    pub passes: u64,
    /// Passes on behalf of interrupt handlers.
    pub handler_passes: u64,
    /// Passes that showed the old version.
    pub old: u64,
    /// Passes that showed the new one.
    pub new: u64,
    /// Traps that the handler claimed.
    pub claimed: u64,
    /// Passes that violate `torn`, and traps and faults that do.
    pub torn: u64,
    /// The same for `stale`.
    pub stale: u64,
    /// The same for `order`.
    pub order: u64,
    /// The same for `unclaimed-trap`.
    pub unclaimed_trap: u64,
    /// The same for `wrong-resume`.
    pub wrong_resume: u64,
    /// The same for `lifetime`.
    pub lifetime: u64,
    /// Waits of the patcher that took too long.
    pub deadlock: u64,
    /// Passes that showed a version whose store had not begun, which nothing explains.
    pub ahead: u64,
}

impl StressCounts {
    /// The count of a property, if it is visible at full speed.
    pub fn of(mut self, property: Property) -> Option<u64> {
        self.of_mut(property).copied()
    }

    fn of_mut(&mut self, property: Property) -> Option<&mut u64> {
        Some(match property {
            Property::Torn => &mut self.torn,
            Property::Stale => &mut self.stale,
            Property::Order => &mut self.order,
            Property::UnclaimedTrap => &mut self.unclaimed_trap,
            Property::WrongResume => &mut self.wrong_resume,
            Property::Lifetime => &mut self.lifetime,
            Property::Deadlock => &mut self.deadlock,
            _ => return None,
        })
    }
}

/// The judgement about a pass.
#[derive(Debug, PartialEq, Eq)]
enum Judgement {
    Fine,
    Ahead,
    Violates(Property, String),
}

/// Judges one executor.
pub struct ExecutorJudge<'a> {
    pub shared: &'a StressState<'a>,
    pub executor: usize,
    pub counts: StressCounts,
    /// The version of the last pass.
    last: u64,
    /// Traps since the last batch.
    traps: u64,
    /// Version complete when the current handler began.
    handler_done: u64,
}

impl<'a> ExecutorJudge<'a> {
    /// Nothing seen yet.
    pub fn new(shared: &'a StressState<'a>, executor: usize) -> ExecutorJudge<'a> {
        ExecutorJudge {
            shared,
            executor,
            counts: StressCounts::default(),
            last: 0,
            traps: 0,
            handler_done: 0,
        }
    }

    /// Judges a pass. `own`: it is one of the executor's loop, whose passes come in order.
    fn judge(&mut self, pass: &Pass, own: bool) -> Judgement {
        let &Pass { done, value, begun } = pass;
        let versions = self.shared.versions;
        if begun < done {
            // Counters only grow: the executed bytes stored to the log.
            let what = "the site overwrote the log of passes".to_owned();
            return Judgement::Violates(Property::Torn, what);
        }
        // The newest version of that parity whose store had begun.
        let unnumbered = |new: u64| (begun + 2 - (begun + new) % 2).checked_sub(2);
        let version = match versions.shown(value) {
            Shown::Numbered(low) => nearest(low, begun),
            Shown::Old => unnumbered(0),
            Shown::New => unnumbered(1),
            Shown::Mixed(bytes) => {
                let what = format!("the site was executed as {}, which is neither old nor new", hex(&bytes));
                return Judgement::Violates(Property::Torn, what);
            }
            Shown::Neither(eax) => {
                let resumed = eax < 0x100 && self.traps > 0;
                let property = if resumed { Property::WrongResume } else { Property::Torn };
                let what = format!("a pass left {eax:#x} in EAX, the outcome of neither version");
                return Judgement::Violates(property, what);
            }
        };
        let Some(version) = version.filter(|&version| begun - version < 120) else {
            return Judgement::Ahead;
        };
        if version.is_multiple_of(2) {
            self.counts.old += 1
        } else {
            self.counts.new += 1
        }
        let last = if own { std::mem::replace(&mut self.last, version) } else { 0 };
        if versions.two_valued() {
            return Judgement::Fine;
        }
        if version < done {
            let what =
                format!("version {version} was executed by a pass that began after {done} was complete");
            return Judgement::Violates(Property::Stale, what);
        }
        if version < last {
            let what = format!("version {version} was executed after version {last}");
            return Judgement::Violates(Property::Order, what);
        }
        Judgement::Fine
    }

    fn violated(&mut self, property: Property, event: impl FnOnce() -> Event) {
        if let Some(count) = self.counts.of_mut(property) {
            *count += 1;
        }
        self.shared.note(event, property);
    }

    /// Judges the pass at `index` of `passes`, which are in order.
    fn judge_and_note(&mut self, passes: &[Pass], index: usize, by: &'static str) {
        let (executor, pass) = (self.executor, &passes[index]);
        match self.judge(pass, by == EXECUTOR) {
            Judgement::Fine => {}
            Judgement::Ahead => self.counts.ahead += 1,
            Judgement::Violates(property, what) => {
                let logged = |passes: &[Pass]| passes.iter().map(Logged::from).collect();
                self.violated(property, || Event {
                    pass: Some(pass.into()),
                    before: logged(&passes[index.saturating_sub(NEIGHBOURS)..index]),
                    after: logged(&passes[index + 1..passes.len().min(index + 1 + NEIGHBOURS)]),
                    ..Event::new(property, what, executor, by)
                });
            }
        }
    }

    fn at_once(&mut self, property: Property, what: String) {
        let executor = self.executor;
        self.violated(property, || Event::new(property, what, executor, EXECUTOR));
    }
}

impl Observer for ExecutorJudge<'_> {
    fn passes(&mut self, passes: &[Pass]) {
        self.counts.passes += passes.len() as u64;
        self.shared.passes.fetch_add(passes.len() as u64, Ordering::Relaxed);
        (0..passes.len()).for_each(|index| self.judge_and_note(passes, index, EXECUTOR));
        self.traps = 0;
    }

    fn trap(&mut self, at: u64) -> Trap {
        let StressState { plan, versions, armed, freed, round, .. } = self.shared;
        let offset = at.wrapping_sub(plan.site.address) as i64;
        let violated = if offset != 0 {
            Some((Property::Torn, format!("an INT3 was executed at offset {offset} of the site")))
        } else if !armed.load(Ordering::SeqCst) {
            Some((Property::UnclaimedTrap, "the handler does not claim the #BP of the site's INT3".into()))
        } else if freed.load(Ordering::SeqCst) {
            Some((Property::Lifetime, "the handler reads a descriptor that was freed".into()))
        } else {
            None
        };
        if let Some((property, what)) = violated {
            self.at_once(property, what);
            return Trap::Abandon;
        }
        self.traps += 1;
        self.counts.claimed += 1;
        // If a version carries its number, the handler uses the target of this round.
        let round = round.load(Ordering::SeqCst);
        let own = |address: u64| {
            let of = |code: &crate::plan::Code, number| {
                let target = branch(&code.bytes, plan.site.address)?;
                (target == address).then(|| versions.target(number)).flatten()
            };
            of(&plan.site.new, 2 * round + 1).or_else(|| of(&plan.site.old, 2 * round)).unwrap_or(address)
        };
        match plan.handler.actions.first() {
            Some(&Action::Resume(at)) => Trap::Resume(own(at)),
            Some(&Action::Call { target, return_to }) => Trap::Call { target: own(target), return_to },
            None => Trap::Resume(plan.site.address + plan.site.len() as u64),
        }
    }

    fn fault(&mut self, what: &str, rip: u64) {
        let offset = rip.wrapping_sub(self.shared.plan.site.address) as i64;
        let place = match offset {
            0..32 => format!("at offset {offset} of the site"),
            _ => format!("at {rip:#x}, outside the site"),
        };
        self.at_once(Property::Torn, format!("{what} {place}"));
    }

    fn handler_begins(&mut self) {
        self.handler_done = self.shared.done.load(Ordering::SeqCst);
    }

    fn handler_ends(&mut self, nmi: bool, value: Option<u64>) {
        self.counts.handler_passes += 1;
        let Some(value) = value else { return };
        let pass = Pass { done: self.handler_done, value, begun: self.shared.begun.load(Ordering::SeqCst) };
        self.judge_and_note(&[pass], 0, if nmi { "nmi handler" } else { "irq handler" });
    }
}

/// The target of a version that is one branch with a 32-bit displacement.
fn branch(bytes: &[u8], address: u64) -> Option<u64> {
    let &[0xe8 | 0xe9, a, b, c, d] = bytes else { return None };
    Some((address + 5).wrapping_add_signed(i64::from(i32::from_le_bytes([a, b, c, d]))))
}
