//! States and moves. Executors are abstract: a pass begins, fetches, perhaps traps, and ends.

mod judge;
mod moves;

use std::rc::Rc;

use smallvec::{SmallVec, smallvec};

use super::case::{self, Case, Flow, Instruction, Resume, Run, Step};
use super::fetch::{Commit, Exempt, Model, Order, Seen, View};

pub use moves::{Label, Next, Outcome};

use moves::End;

/// Stands for `interior` where the checker cannot decide it.
pub const MIXTURE: &str = "interior of a mixture";

/// What interrupted what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Context {
    Main,
    Ipi(Run),
    Nmi,
}

/// Where an executor is: the move that comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Place {
    /// Before the call of the site. The main context may stay there.
    Outside,
    Site(usize),
    /// Where a branch out of the site leads: old's target or new's.
    Target(bool),
    /// In the trap handler: it looks whether it is armed, reads the descriptor, returns.
    Trapped,
    Claimed,
    Returning,
    /// In the handler of an IPI, before the operation of this number.
    Operation(usize),
    /// In the handler of an NMI, behind the site.
    Leaving,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Level {
    context: Context,
    place: Place,
    /// When this pass began, the patcher was done.
    after_done: bool,
    /// When it began, an earlier pass had ended as new.
    new_before: bool,
    /// It has been at old's target; at new's.
    visited: [bool; 2],
    /// It went through the trap.
    trapped: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Cpu {
    levels: SmallVec<[Level; 2]>,
    left: u8,
    pending: Option<Run>,
    acknowledged: bool,
    seen_new: bool,
    view: View,
    nmi_blocked: bool,
}

/// A state. It shares with the state before it what the move did not change.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct World {
    step: usize,
    /// Progress within a step of several moves: bits of pieces stored or of executors seen, or a number of moves.
    progress: usize,
    commits: Rc<Vec<Commit>>,
    cpus: SmallVec<[Rc<Cpu>; 3]>,
    described: bool,
    armed: bool,
    arrived: usize,
    released: bool,
    done: bool,
    freed_descriptor: bool,
    freed: [bool; 2],
    nmis: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operation {
    Serialise,
    Arrive,
    AwaitRelease,
    Acknowledge,
    Return,
}

fn operations(run: Run) -> &'static [Operation] {
    use Operation::{Acknowledge, Arrive, AwaitRelease, Return, Serialise};
    match run {
        Run::Sync => &[Serialise, Acknowledge, Return],
        Run::AckFirst => &[Acknowledge, Serialise, Return],
        Run::AckOnly => &[Acknowledge, Return],
        Run::Hold => &[Serialise, Arrive, AwaitRelease, Acknowledge, Return],
        Run::Stop => &[Arrive, AwaitRelease, Serialise, Acknowledge, Return],
        Run::Early => &[Serialise, Arrive, Acknowledge, Return],
    }
}

/// What is explored, and under which model.
pub struct Bench<'a> {
    pub case: &'a Case,
    pub model: Model,
    steps: Vec<Step>,
    /// Which step's store needs no serialising.
    exempt: Vec<Exempt>,
}

impl<'a> Bench<'a> {
    pub fn new(case: &'a Case, model: Model) -> Bench<'a> {
        let mut steps = case.steps.clone();
        if !steps.contains(&Step::Done) {
            steps.push(Step::Done);
        }
        let amd = case.amd || model.amd;
        let mut text = case::bytes(&case.old);
        let exempt = steps
            .iter()
            .map(|step| {
                let Step::Store { at, bytes } = step else { return Exempt::No };
                let before = text[*at];
                text[*at..at + bytes.len()].copy_from_slice(bytes);
                Exempt::of(case, amd, *at, bytes, before)
            })
            .collect();
        Bench { case, model, steps, exempt }
    }

    pub fn initial(&self) -> World {
        let cpu = |executor: &case::Executor| {
            Rc::new(Cpu {
                levels: smallvec![Level {
                    context: Context::Main,
                    place: executor.interior.map_or(Place::Outside, Place::Site),
                    after_done: false,
                    new_before: false,
                    visited: [false; 2],
                    trapped: false,
                }],
                left: executor.passes,
                pending: None,
                acknowledged: false,
                seen_new: false,
                view: self.model.serialised(self.case, 0),
                nmi_blocked: false,
            })
        };
        World {
            step: 0,
            progress: 0,
            commits: Rc::default(),
            cpus: self.case.executors.iter().map(cpu).collect(),
            described: self.case.armed,
            armed: self.case.armed,
            arrived: 0,
            released: false,
            done: false,
            freed_descriptor: false,
            freed: [false; 2],
            nmis: self.case.nmis,
        }
    }

    /// True if nothing is left to do except for NMIs.
    pub fn complete(&self, world: &World) -> bool {
        world.step == self.steps.len()
            && world.cpus.iter().all(|cpu| cpu.left == 0 && cpu.levels.len() == 1 && cpu.pending.is_none())
    }

    pub fn moves(&self, world: &World) -> Vec<Next> {
        let mut nexts = Vec::new();
        self.patch(world, &mut nexts);
        for slot in 0..world.cpus.len() {
            self.interrupt(world, slot, &mut nexts);
            self.execute(world, slot, &mut nexts);
        }
        for next in &mut nexts {
            match next.world.as_ref().map(|world| self.interior(world)) {
                Some(Some(true)) => next.violated.push("interior"),
                Some(None) => next.violated.push(MIXTURE),
                _ => {}
            }
        }
        nexts
    }

    fn patch(&self, world: &World, nexts: &mut Vec<Next>) {
        let Some(step) = self.steps.get(world.step) else { return };
        let mut go = |progress: Option<usize>, change: &dyn Fn(&mut World)| {
            let mut next = world.clone();
            (next.step, next.progress) =
                progress.map_or((world.step + 1, 0), |progress| (world.step, progress));
            change(&mut next);
            let label = Label::Patcher(world.step, world.progress);
            nexts.push(Next::within(label, Some(next), Vec::new()));
        };
        match step {
            Step::Store { at, bytes } => {
                let pieces = self.model.pieces(self.case, world.step, *at, bytes);
                let all = (1 << pieces.len()) - 1;
                let one_order = self.model.stale && self.model.order == Order::Any;
                for (index, piece) in pieces.iter().enumerate() {
                    if world.progress & 1 << index == 0 {
                        let progress = world.progress | 1 << index;
                        go((progress != all).then_some(progress), &|next| {
                            Rc::make_mut(&mut next.commits).push(*piece)
                        });
                        if one_order {
                            break;
                        }
                    }
                }
            }
            Step::Arm if world.progress == 0 => go(Some(1), &|next| next.described = true),
            Step::Arm => go(None, &|next| next.armed = true),
            Step::Disarm => go(None, &|next| next.armed = false),
            Step::Round(run) if world.progress == 0 => go(Some(1), &|next| broadcast(next, *run)),
            Step::Broadcast(run) => go(None, &|next| broadcast(next, *run)),
            Step::Round(_) | Step::AwaitAcks => {
                if world.cpus.iter().all(|cpu| cpu.acknowledged) {
                    go(None, &|_| {});
                }
            }
            Step::AwaitArrivals => {
                if world.arrived >= world.cpus.len() {
                    go(None, &|_| {});
                }
            }
            Step::Release => go(None, &|next| next.released = true),
            Step::Assume => go(None, &|next| {
                let view = self.model.serialised(self.case, next.commits.len());
                next.cpus.iter_mut().for_each(|cpu| Rc::make_mut(cpu).view = view.clone());
            }),
            Step::Quiesce => {
                let all = (1 << world.cpus.len()) - 1;
                if world.progress == all {
                    go(None, &|_| {});
                }
                for (slot, cpu) in world.cpus.iter().enumerate() {
                    if world.progress & 1 << slot == 0 && !self.inside(cpu) {
                        go(Some(world.progress | 1 << slot), &|_| {});
                    }
                }
            }
            Step::FreeDescriptor => go(None, &|next| next.freed_descriptor = true),
            Step::FreeOld => go(None, &|next| next.freed[0] = true),
            Step::FreeNew => go(None, &|next| next.freed[1] = true),
            Step::Done => go(None, &|next| next.done = true),
        }
    }

    /// Deliveries of IPIs and NMIs. Interrupts are on in the main context outside the trap handler, and off elsewhere.
    fn interrupt(&self, world: &World, slot: usize, nexts: &mut Vec<Next>) {
        let cpu = &world.cpus[slot];
        let Some(top) = cpu.levels.last() else { return };
        let push = |context, place| Level {
            context,
            place,
            after_done: false,
            new_before: false,
            visited: [false; 2],
            trapped: false,
        };
        let trapped = matches!(top.place, Place::Trapped | Place::Claimed | Place::Returning);
        if let Some(run) = cpu.pending
            && top.context == Context::Main
            && !trapped
        {
            let mut next = world.clone();
            cpu_of(&mut next, slot).pending = None;
            cpu_of(&mut next, slot).levels.push(push(Context::Ipi(run), Place::Operation(0)));
            nexts.push(Next::within(Label::Ipi(slot, run), Some(next), Vec::new()));
        }
        if world.nmis > 0 && !cpu.nmi_blocked {
            let mut next = world.clone();
            next.nmis -= 1;
            cpu_of(&mut next, slot).nmi_blocked = true;
            let nested = cpu.levels.iter().any(|level| level.context == Context::Nmi);
            cpu_of(&mut next, slot).levels.push(push(Context::Nmi, Place::Outside));
            nexts.push(if nested {
                Next::within(Label::Nmi(slot), None, vec!["nmi-frame"])
            } else {
                Next::within(Label::Nmi(slot), Some(next), Vec::new())
            });
        }
    }

    fn execute(&self, world: &World, slot: usize, nexts: &mut Vec<Next>) {
        let cpu = &world.cpus[slot];
        let Some(level) = cpu.levels.last() else { return };
        let mut next = world.clone();
        let mut label = Label::Advance(slot);
        let mut end = None;
        match level.place {
            Place::Outside => {
                if level.context == Context::Main && cpu.left == 0 {
                    return;
                }
                label = Label::Begin(slot);
                let new_before = cpu.seen_new;
                let top = top(&mut next, slot);
                (top.after_done, top.new_before) = (world.done, new_before);
                top.place = Place::Site(0);
            }
            Place::Site(byte) => return self.fetch(world, slot, byte, nexts),
            Place::Target(new) => {
                if world.freed[usize::from(new)] {
                    nexts.push(Next::within(label, None, vec!["lifetime"]));
                    return;
                }
                top(&mut next, slot).visited[usize::from(new)] = true;
                end = Some(self.end(&mut next, slot));
            }
            Place::Trapped => {
                if !world.armed || !world.described {
                    nexts.push(Next::within(label, None, vec!["unclaimed-trap"]));
                    return;
                }
                top(&mut next, slot).place = Place::Claimed;
            }
            Place::Claimed => {
                if world.freed_descriptor {
                    nexts.push(Next::within(label, None, vec!["lifetime"]));
                    return;
                }
                label = Label::Claim(slot);
                top(&mut next, slot).place = Place::Returning;
            }
            Place::Returning => {
                self.serialise(&mut next, slot);
                cpu_of(&mut next, slot).nmi_blocked = false;
                end = self.resume(&mut next, slot);
            }
            Place::Leaving => {
                self.serialise(&mut next, slot);
                cpu_of(&mut next, slot).nmi_blocked = false;
                cpu_of(&mut next, slot).levels.pop();
            }
            Place::Operation(index) => {
                let Context::Ipi(run) = level.context else { return };
                top(&mut next, slot).place = Place::Operation(index + 1);
                match operations(run)[index] {
                    Operation::Serialise => self.serialise(&mut next, slot),
                    Operation::Arrive => next.arrived += 1,
                    Operation::AwaitRelease if world.released => {}
                    Operation::AwaitRelease => return,
                    Operation::Acknowledge => cpu_of(&mut next, slot).acknowledged = true,
                    Operation::Return => {
                        self.serialise(&mut next, slot);
                        cpu_of(&mut next, slot).nmi_blocked = false;
                        cpu_of(&mut next, slot).levels.pop();
                    }
                }
            }
        }
        let mut next = Next::within(label, Some(next), Vec::new());
        next.ends(end);
        nexts.push(next);
    }

    fn fetch(&self, world: &World, slot: usize, byte: usize, nexts: &mut Vec<Next>) {
        let cpu = &world.cpus[slot];
        let Some(level) = cpu.levels.last() else { return };
        let unserialised = self.unserialised(world, &cpu.view, byte);
        for (seen, view) in self.model.fetches(self.case, &world.commits, &cpu.view, byte) {
            let mut violated = if unserialised { vec!["unserialised"] } else { Vec::new() };
            let (mut next, mut end) = (world.clone(), None);
            cpu_of(&mut next, slot).view = view;
            match seen {
                Seen::Torn => violated.push("torn"),
                Seen::Int3 => {
                    if level.after_done {
                        violated.push("stale");
                    }
                    let top = top(&mut next, slot);
                    (top.place, top.trapped) = (Place::Trapped, true);
                }
                Seen::Old(instruction) | Seen::New(instruction) => {
                    let new = matches!(seen, Seen::New(_));
                    if level.after_done && !new {
                        violated.push("stale");
                    }
                    end = self.follow(&mut next, slot, byte, instruction, new);
                }
            }
            let world = (seen != Seen::Torn).then_some(next);
            let mut next = Next::within(Label::Fetch(slot, byte, seen), world, violated);
            next.ends(end);
            nexts.push(next);
        }
    }

    /// Continues as an instruction at a byte of the site does.
    fn follow(&self, next: &mut World, slot: usize, byte: usize, one: Instruction, new: bool) -> Option<End> {
        let behind = byte + one.bytes.len();
        match one.flow {
            Flow::Through if behind < self.case.len() => {
                top(next, slot).place = Place::Site(behind);
                None
            }
            Flow::Through => Some(self.end(next, slot)),
            // A call comes back behind the site, where nothing more happens.
            Flow::Jump | Flow::Call => {
                top(next, slot).place = Place::Target(new);
                None
            }
        }
    }

    /// Continues where the trap handler says.
    fn resume(&self, next: &mut World, slot: usize) -> Option<End> {
        match self.case.resume? {
            Resume::Retry => top(next, slot).place = Place::Site(0),
            Resume::At(byte) if byte < self.case.len() => top(next, slot).place = Place::Site(byte),
            Resume::At(_) | Resume::Next => return Some(self.end(next, slot)),
            emulate => {
                let new = emulate == Resume::New;
                let version = if new { &self.case.new } else { &self.case.old };
                return match version.iter().find(|one| one.flow != Flow::Through) {
                    Some(branch) => self.follow(next, slot, 0, *branch, new),
                    None => Some(self.end(next, slot)),
                };
            }
        }
        None
    }

    /// The pass has left the site and its targets: which version was that?
    fn end(&self, next: &mut World, slot: usize) -> End {
        let targets = |version: &case::Version, new: bool| {
            let mut visited = [false; 2];
            visited[usize::from(new)] = version.iter().any(|one| one.flow != Flow::Through);
            visited
        };
        let level = top(next, slot);
        let visited = std::mem::take(&mut level.visited);
        let before = std::mem::take(&mut level.new_before);
        let trapped = std::mem::take(&mut level.trapped);
        level.after_done = false;
        let main = level.context == Context::Main;
        level.place = if main { Place::Outside } else { Place::Leaving };
        cpu_of(next, slot).left -= u8::from(main);
        let (new, violated) = if visited == targets(&self.case.new, true) {
            cpu_of(next, slot).seen_new = true;
            (Some(true), None)
        } else if visited == targets(&self.case.old, false) {
            (Some(false), before.then_some("order"))
        } else {
            (None, Some("wrong-resume"))
        };
        (Outcome { nmi: !main, new, trapped }, violated)
    }

    fn serialise(&self, next: &mut World, slot: usize) {
        cpu_of(next, slot).view = self.model.serialised(self.case, next.commits.len());
    }
}

fn cpu_of(world: &mut World, slot: usize) -> &mut Cpu {
    Rc::make_mut(&mut world.cpus[slot])
}

fn top(world: &mut World, slot: usize) -> &mut Level {
    let Some(level) = cpu_of(world, slot).levels.last_mut() else { unreachable!("the main context stays") };
    level
}

fn broadcast(world: &mut World, run: Run) {
    for cpu in &mut world.cpus {
        assert!(cpu.pending.is_none_or(|pending| pending == run), "one kind of broadcast at a time");
        let cpu = Rc::make_mut(cpu);
        (cpu.pending, cpu.acknowledged) = (Some(run), false);
    }
}
