//! The simulator. An executor is outside, at the site, in the trap handler or in an IPI handler; the site is
//! five bytes; every interleaving is tried. Fetches are coherent.

use std::collections::{BTreeSet, HashSet};
use std::fmt::Write;

const OLD: [u8; 5] = [0x0f, 0x1f, 0x44, 0x00, 0x00];
const NEW: [u8; 5] = [0xe9, 0x7b, 0x45, 0x23, 0x01];
/// Bytes of the site that stand before the end of a cache line, where it crosses one.
const BEFORE_LINE: usize = 2;

/// A protocol on one five-byte site.
#[derive(Debug, Clone)]
pub struct Protocol {
    pub steps: Vec<Step>,
    /// Two bytes stand in one cache line, three in the next.
    pub crossing: bool,
    pub executors: usize,
    pub passes: u8,
    /// The handler is armed before the first step.
    pub armed: bool,
    /// What the handler emulates.
    pub emulates_new: bool,
}

/// What the patcher does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    Int3,
    New,
    NewFirst,
    NewTail,
    Old,
    OldFirst,
    OldTail,
    Arm,
    Disarm,
    /// An IPI to everybody and a wait for all acknowledgements.
    Round,
    /// The IPI alone.
    Send,
    /// The wait alone.
    Await,
    /// Wait until everybody has been seen outside of site and trap.
    Quiesce,
    Done,
}

/// What is violated, and which outcomes there are: new or old, through the trap or not.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Prediction {
    pub violated: BTreeSet<&'static str>,
    pub outcomes: BTreeSet<(bool, bool)>,
}

impl Step {
    /// The bytes it stores, and where.
    fn store(self) -> Option<(usize, &'static [u8])> {
        Some(match self {
            Step::Int3 => (0, &[0xcc]),
            Step::New => (0, &NEW),
            Step::NewFirst => (0, &NEW[..1]),
            Step::NewTail => (1, &NEW[1..]),
            Step::Old => (0, &OLD),
            Step::OldFirst => (0, &OLD[..1]),
            Step::OldTail => (1, &OLD[1..]),
            _ => return None,
        })
    }

    fn text(self) -> &'static str {
        match self {
            Step::Int3 => "store = { what = \"int3\" }",
            Step::New => "store = { what = \"new\" }",
            Step::NewFirst => "store = { what = \"new-first\" }",
            Step::NewTail => "store = { what = \"new-tail\" }",
            Step::Old => "store = { what = \"old\" }",
            Step::OldFirst => "store = { what = \"old-first\" }",
            Step::OldTail => "store = { what = \"old-tail\" }",
            Step::Arm => "arm = {}",
            Step::Disarm => "disarm = {}",
            Step::Round => "sync = {}",
            Step::Send => "broadcast = { run = \"sync\" }",
            Step::Await => "wait = { acks = \"all\" }",
            Step::Quiesce => "quiesce = {}",
            Step::Done => "done = {}",
        }
    }
}

impl Protocol {
    /// The same as a scenario.
    pub fn text(&self) -> String {
        let hex = |bytes: [u8; 5]| bytes.map(|byte| format!("{byte:02x}")).join(" ");
        let mut text = format!(
            "[site]\nold = \"{}\"\nnew = \"{}\"\noffset = {}\n\n[executors]\ncount = {}\npasses = {}\n\n\
             [handler]\nresume = \"{}\"\narmed = {}\n",
            hex(OLD),
            hex(NEW),
            if self.crossing { 0x140 - BEFORE_LINE } else { 0x100 },
            self.executors,
            self.passes,
            if self.emulates_new { "new" } else { "old" },
            self.armed,
        );
        for step in &self.steps {
            let _ = write!(text, "\n[[step]]\n{}\n", step.text());
        }
        text
    }

    /// A protocol that is the same for the same seed: the int3 protocol with a few changes, or anything.
    pub fn random(seed: u64) -> Protocol {
        use Step::*;
        const ANY: [Step; 13] =
            [Int3, New, NewFirst, NewTail, Old, OldFirst, OldTail, Arm, Disarm, Round, Send, Quiesce, Done];
        let mut random = fastrand::Rng::with_seed(seed);
        let mut steps = if random.bool() {
            vec![Arm, Int3, Round, NewTail, Round, NewFirst, Round, Disarm]
        } else {
            (0..random.usize(1..6)).map(|_| ANY[random.usize(..ANY.len())]).collect()
        };
        for _ in 0..random.usize(..4) {
            let at = random.usize(..steps.len());
            match random.u8(..4) {
                0 if steps.len() > 1 => drop(steps.remove(at)),
                1 => steps.insert(at, ANY[random.usize(..ANY.len())]),
                2 => steps[at] = ANY[random.usize(..ANY.len())],
                _ => {
                    let other = random.usize(..steps.len());
                    steps.swap(at, other);
                }
            }
        }
        // An IPI is waited for later, if at all; completion is declared once.
        if let Some(at) = steps.iter().position(|&step| step == Send)
            && random.bool()
        {
            steps.insert(random.usize(at + 1..=steps.len()), Await);
        }
        let mut done = false;
        steps.retain(|&step| step != Done || !std::mem::replace(&mut done, true));
        Protocol {
            steps,
            crossing: random.bool(),
            executors: random.usize(1..=2),
            passes: random.u8(1..=2),
            armed: random.u8(..4) == 0,
            emulates_new: random.u8(..3) > 0,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Place {
    Outside,
    AtSite,
    /// Behind the site; true: by way of the new instruction.
    Leaving(bool),
    /// In the trap handler, before and after it looked whether it is armed.
    Trapped,
    Claimed,
    Finished,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Ipi {
    No,
    Entered,
    Acknowledged,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Executor {
    place: Place,
    ipi: Ipi,
    left: u8,
    pending: bool,
    acknowledged: bool,
    /// A pass had the new outcome.
    seen_new: bool,
    /// Of the pass under way: what was so when it began, and whether it trapped.
    new_before: bool,
    after_done: bool,
    trapped: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct World {
    site: [u8; 5],
    step: usize,
    /// Parts of a store that are done, an IPI that is sent, executors seen outside.
    progress: u8,
    armed: bool,
    done: bool,
    executors: Vec<Executor>,
}

/// Tries everything.
pub fn run(protocol: &Protocol) -> Prediction {
    let mut steps = protocol.steps.clone();
    if !steps.contains(&Step::Done) {
        steps.push(Step::Done);
    }
    let executor = Executor {
        place: Place::Outside,
        ipi: Ipi::No,
        left: protocol.passes,
        pending: false,
        acknowledged: false,
        seen_new: false,
        new_before: false,
        after_done: false,
        trapped: false,
    };
    let first = World {
        site: OLD,
        step: 0,
        progress: 0,
        armed: protocol.armed,
        done: false,
        executors: vec![executor; protocol.executors],
    };
    let mut prediction = Prediction::default();
    let mut met = HashSet::from([first.clone()]);
    let mut work = vec![first];
    while let Some(world) = work.pop() {
        let mut nexts = patch(&world, &steps, protocol.crossing);
        for slot in 0..world.executors.len() {
            execute(&world, slot, protocol, &mut prediction, &mut nexts);
        }
        for next in nexts {
            if met.insert(next.clone()) {
                work.push(next);
            }
        }
    }
    prediction
}

fn patch(world: &World, steps: &[Step], crossing: bool) -> Vec<World> {
    let Some(&step) = steps.get(world.step) else { return Vec::new() };
    let mut next = World { step: world.step + 1, progress: 0, ..world.clone() };
    let all_acknowledged = world.executors.iter().all(|executor| executor.acknowledged);
    match step {
        Step::Arm => next.armed = true,
        Step::Disarm => next.armed = false,
        Step::Done => next.done = true,
        Step::Send | Step::Round if world.progress == 0 => {
            for executor in &mut next.executors {
                (executor.pending, executor.acknowledged) = (true, false);
            }
            if step == Step::Round {
                (next.step, next.progress) = (world.step, 1);
            }
        }
        Step::Await | Step::Round if all_acknowledged => {}
        Step::Await | Step::Round | Step::Send => return Vec::new(),
        Step::Quiesce => {
            let everyone = (1 << world.executors.len()) - 1;
            if world.progress == everyone {
                return vec![next];
            }
            let inside = |place| matches!(place, Place::Trapped | Place::Claimed);
            return (0..world.executors.len())
                .filter(|&slot| world.progress & 1 << slot == 0 && !inside(world.executors[slot].place))
                .map(|slot| World { progress: world.progress | 1 << slot, ..world.clone() })
                .collect();
        }
        _ => return store(world, step, crossing),
    }
    vec![next]
}

/// The parts of a store, in any order.
fn store(world: &World, step: Step, crossing: bool) -> Vec<World> {
    let Some((at, bytes)) = step.store() else { return Vec::new() };
    let line = if crossing { BEFORE_LINE } else { OLD.len() };
    let parts: Vec<Vec<usize>> = [0..line, line..OLD.len()]
        .map(|half| half.filter(|byte| (at..at + bytes.len()).contains(byte)).collect::<Vec<_>>())
        .into_iter()
        .filter(|part| !part.is_empty())
        .collect();
    let mut nexts = Vec::new();
    for (index, part) in parts.iter().enumerate().filter(|(index, _)| world.progress & 1 << index == 0) {
        let mut next = World { progress: world.progress | 1 << index, ..world.clone() };
        for &byte in part {
            next.site[byte] = bytes[byte - at];
        }
        if next.progress.count_ones() as usize == parts.len() {
            (next.step, next.progress) = (world.step + 1, 0);
        }
        nexts.push(next);
    }
    nexts
}

fn execute(
    world: &World,
    slot: usize,
    protocol: &Protocol,
    prediction: &mut Prediction,
    nexts: &mut Vec<World>,
) {
    let before = &world.executors[slot];
    let mut go = |change: &dyn Fn(&mut Executor)| {
        let mut next = world.clone();
        change(&mut next.executors[slot]);
        nexts.push(next);
    };
    match before.ipi {
        Ipi::Entered => {
            return go(&|executor| (executor.ipi, executor.acknowledged) = (Ipi::Acknowledged, true));
        }
        Ipi::Acknowledged => return go(&|executor| executor.ipi = Ipi::No),
        Ipi::No => {}
    }
    if before.pending && !matches!(before.place, Place::Trapped | Place::Claimed) {
        go(&|executor| (executor.ipi, executor.pending) = (Ipi::Entered, false));
    }
    match before.place {
        Place::Outside => go(&|executor| {
            executor.place = Place::AtSite;
            (executor.new_before, executor.after_done) = (executor.seen_new, world.done);
            executor.trapped = false;
        }),
        Place::AtSite => {
            let trap = world.site[0] == 0xcc;
            if !trap && world.site != OLD && world.site != NEW {
                prediction.violated.insert("torn");
                return;
            }
            if before.after_done && world.site != NEW {
                prediction.violated.insert("stale");
            }
            go(&|executor| {
                executor.trapped |= trap;
                executor.place = if trap { Place::Trapped } else { Place::Leaving(world.site == NEW) };
            });
        }
        Place::Trapped if !world.armed => {
            prediction.violated.insert("unclaimed-trap");
        }
        Place::Trapped => go(&|executor| executor.place = Place::Claimed),
        Place::Claimed => go(&|executor| executor.place = Place::Leaving(protocol.emulates_new)),
        Place::Leaving(new) => {
            prediction.outcomes.insert((new, before.trapped));
            if !new && before.new_before {
                prediction.violated.insert("order");
            }
            go(&|executor| {
                executor.seen_new |= new;
                executor.left -= 1;
                executor.place = if executor.left > 0 { Place::Outside } else { Place::Finished };
                (executor.new_before, executor.after_done, executor.trapped) = (false, false, false);
            });
        }
        Place::Finished => {}
    }
}
