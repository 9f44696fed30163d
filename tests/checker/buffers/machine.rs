//! vCPUs with store buffers, as x86-TSO describes them.
//!
//! The model is the abstract machine of S. Owens, S. Sarkar, P. Sewell, *A better x86 memory model: x86-TSO*
//! (TPHOLs 2009), section 3, and of P. Sewell et al., *x86-TSO: a rigorous and usable programmer's model for x86
//! multiprocessors* (CACM 53(7), 2010), section 3.2. Its rules, one by one:
//!
//! * The store buffers are FIFO, and a load takes the newest buffered store of its own vCPU to its address, if there is
//!   one; otherwise it reads memory ([`Cpu::load`]).
//! * MFENCE waits until the buffer is empty.
//! * A locked instruction begins and ends with an empty buffer; nobody else reads or stores meanwhile.
//! * The oldest store of a buffer goes to memory at any time ([`Bench::drain`]).
//!
//! What else empties a buffer is in the manuals: serialising instructions, interrupts and exceptions (Intel SDM, volume 3,
//! "Store Buffer" and "Serializing Instructions"; AMD APM, volume 2, "Write Buffering"). A message through the x2APIC
//! waits for nothing (Intel SDM, volume 3, "MSR Access in x2APIC Mode").

mod pass;

use super::program::{ARMED, Case, Host, LOCK, Op, WORDS};
use crate::checker::fetch::{Commit, Exempt, Model, Seen, View, content};

/// Whether stores wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Memory {
    Sc,
    Tso,
}

/// A store that waits.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Waiting {
    Word { word: usize, value: u32 },
    Text { at: usize, bytes: Vec<u8> },
    Nest(u32),
    Acknowledgement,
}

/// Where a pass is: the move that comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Place {
    Site,
    /// In the trap handler: before it looks whether it is armed, and before it returns.
    Trapped,
    Claimed,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Pass {
    at: Place,
    /// When it began: the modification was complete; an earlier pass had ended as new.
    after_done: bool,
    new_before: bool,
}

/// A program, or a function that has interrupted it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
struct Level {
    function: bool,
    /// The step that comes next.
    at: usize,
    registers: [u32; 3],
    pass: Option<Pass>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Cpu {
    levels: Vec<Level>,
    /// Oldest first.
    buffer: Vec<Waiting>,
    pending: bool,
    /// The value in memory, where the host reads it.
    nest: u32,
    acknowledged: bool,
    seen_new: bool,
    view: View,
}

/// Who stored a commit, and whether it needs no serialising.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Origin {
    slot: usize,
    exempt: Exempt,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct World {
    words: [u32; WORDS.len()],
    commits: Vec<Commit>,
    /// One for each commit.
    origins: Vec<Origin>,
    cpus: Vec<Cpu>,
    done: bool,
    /// The host's next step, and the executors that it has seen quiet in it.
    host: usize,
    seen: Vec<usize>,
}

/// What can be observed once everything has finished.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Final {
    pub words: Vec<u32>,
    pub registers: Vec<u32>,
    pub text: Vec<u32>,
}

/// A move, for the schedule.
#[derive(Debug, Clone, Copy)]
pub enum Label {
    /// The oldest store reaches memory.
    Drain(usize),
    Message(usize),
    Return(usize),
    /// The step of this number of the program or function.
    Step(usize, usize),
    Fetch(usize, Seen),
    Host(usize),
    /// The trap handler claims the trap, or returns.
    Handler(usize),
}

impl Label {
    /// The label in words.
    pub fn text(self) -> String {
        match self {
            Label::Drain(slot) => format!("{slot}: the oldest store reaches memory"),
            Label::Message(slot) => format!("{slot}: a message arrives"),
            Label::Return(slot) => format!("{slot}: the function returns"),
            Label::Step(slot, step) => format!("{slot}: step {step}"),
            Label::Fetch(slot, seen) => format!("{slot}: fetches {seen:?}"),
            Label::Handler(slot) => format!("{slot}: the trap handler"),
            Label::Host(step) => format!("host: step {step}"),
        }
    }
}

/// How a pass ended: its vCPU, the step of the program or function that it belongs to, and the version that it looked
/// like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Outcome {
    pub slot: usize,
    pub function: bool,
    pub step: usize,
    pub new: bool,
    pub trapped: bool,
}

impl Outcome {
    /// The outcome in the explorer's words. Where nothing tells the vCPUs apart, all of them run the first program.
    pub fn text(&self, alike: bool) -> String {
        let program = match self {
            Outcome { function: true, .. } => "told.ipi.t".into(),
            Outcome { slot, .. } => format!("p{}.s", if alike { 0 } else { *slot }),
        };
        let version = if self.new { "new" } else { "old" };
        format!("{program}{}: {version}{}", self.step, if self.trapped { " through the trap" } else { "" })
    }
}

/// A move and what it leads to.
pub struct Next {
    pub label: Label,
    /// None if the violation ends the execution.
    pub world: Option<World>,
    pub violated: Vec<&'static str>,
    /// The outcome of the pass that the move ends.
    pub outcome: Option<Outcome>,
}

/// What is explored, and under which models.
pub struct Bench<'a> {
    pub case: &'a Case,
    pub model: Model,
    pub memory: Memory,
}

impl Cpu {
    fn top(&mut self) -> &mut Level {
        self.levels.last_mut().unwrap()
    }

    fn pass(&mut self) -> &mut Pass {
        self.top().pass.as_mut().unwrap()
    }

    /// Interrupts are off in the function and in the trap handler.
    fn interruptible(&self) -> bool {
        let [main] = &self.levels[..] else { return false };
        main.pass.as_ref().is_none_or(|pass| pass.at == Place::Site)
    }

    fn stores_text(&self) -> bool {
        self.buffer.iter().any(|one| matches!(one, Waiting::Text { .. }))
    }

    fn load(&self, memory: u32, word: usize) -> u32 {
        let newest = self.buffer.iter().rev().find_map(|one| match one {
            Waiting::Word { word: known, value } if *known == word => Some(*value),
            _ => None,
        });
        newest.unwrap_or(memory)
    }

    /// Bytes of the site. None while the newest waiting store to them holds some of them, but not all.
    fn load_text(&self, memory: &[u8], at: usize, size: usize) -> Option<u32> {
        let end = at + size;
        let newest = self.buffer.iter().rev().find_map(|one| match one {
            Waiting::Text { at: begin, bytes } if *begin < end && at < begin + bytes.len() => {
                Some((*begin, bytes))
            }
            _ => None,
        });
        match newest {
            None => Some(number(&memory[at..end])),
            Some((begin, bytes)) if begin <= at && end <= begin + bytes.len() => {
                Some(number(&bytes[at - begin..end - begin]))
            }
            Some(_) => None,
        }
    }
}

fn number(bytes: &[u8]) -> u32 {
    bytes.iter().rev().fold(0, |number, byte| number << 8 | u32::from(*byte))
}

impl Bench<'_> {
    pub fn initial(&self) -> World {
        let cpu = Cpu {
            levels: vec![Level::default()],
            buffer: Vec::new(),
            pending: false,
            nest: 0,
            acknowledged: false,
            seen_new: false,
            view: self.model.serialised(&self.case.site, 0),
        };
        World {
            words: [0; WORDS.len()],
            commits: Vec::new(),
            origins: Vec::new(),
            cpus: vec![cpu; self.case.count()],
            done: false,
            host: 0,
            seen: Vec::new(),
        }
    }

    fn amd(&self) -> bool {
        self.case.site.amd || self.model.amd
    }

    fn finished(&self, world: &World, slot: usize) -> bool {
        let cpu = &world.cpus[slot];
        let [main] = &cpu.levels[..] else { return false };
        main.at == self.case.programs[slot].len() && cpu.buffer.is_empty() && !cpu.pending
    }

    /// What can be observed, if everything has finished.
    pub fn observed(&self, world: &World) -> Option<Final> {
        let finished = (0..world.cpus.len()).all(|slot| self.finished(world, slot));
        if !finished || world.host < self.case.host.len() {
            return None;
        }
        let value = |slot: usize, register: usize| world.cpus[slot].levels[0].registers[register];
        let observe = |(slot, register): (usize, usize)| {
            if self.case.alike {
                (0..world.cpus.len()).filter(|slot| value(*slot, register) != 0).count() as u32
            } else {
                value(slot, register)
            }
        };
        let text = content(&self.case.site, &world.commits);
        Some(Final {
            words: world.words[..ARMED].to_vec(),
            registers: self.case.recorded().into_iter().map(observe).collect(),
            text: self.case.observed_text().iter().map(|&(at, size)| number(&text[at..at + size])).collect(),
        })
    }

    pub fn moves(&self, world: &World) -> Vec<Next> {
        let mut nexts = Vec::new();
        self.patch(world, &mut nexts);
        for slot in 0..world.cpus.len() {
            let cpu = &world.cpus[slot];
            if !cpu.buffer.is_empty() {
                let mut next = world.clone();
                self.drain(&mut next, slot);
                nexts.push(plain(Label::Drain(slot), next));
            }
            if cpu.pending && cpu.interruptible() && cpu.buffer.is_empty() {
                let mut next = world.clone();
                next.cpus[slot].pending = false;
                next.cpus[slot].levels.push(Level { function: true, ..Level::default() });
                nexts.push(plain(Label::Message(slot), next));
            }
            self.execute(world, slot, &mut nexts);
        }
        nexts
    }

    /// The oldest store of a buffer goes to memory.
    fn drain(&self, world: &mut World, slot: usize) {
        match world.cpus[slot].buffer.remove(0) {
            Waiting::Word { word, value } => world.words[word] = value,
            Waiting::Text { at, bytes } => self.commit(world, slot, at, &bytes),
            Waiting::Nest(value) => world.cpus[slot].nest = value,
            Waiting::Acknowledgement => world.cpus[slot].acknowledged = true,
        }
    }

    /// A step of the host: it reads memory, and what it stores is in memory.
    fn patch(&self, world: &World, nexts: &mut Vec<Next>) {
        let Some(step) = self.case.host.get(world.host) else { return };
        let mut next = world.clone();
        let quiet = |cpu: &Cpu| cpu.nest == 0;
        match *step {
            Host::Set(word, value) => next.words[word] = value,
            Host::Tell(to) => (next.cpus[to].pending, next.cpus[to].acknowledged) = (true, false),
            Host::Await(word, value) if world.words[word] == value => {}
            Host::AwaitNest if world.cpus.iter().all(quiet) => {}
            Host::AwaitAck(of) if world.cpus[of].acknowledged => {}
            Host::Quiesce if world.seen.len() == world.cpus.len() => next.seen.clear(),
            Host::Quiesce => {
                for (slot, cpu) in world.cpus.iter().enumerate() {
                    if quiet(cpu) && !world.seen.contains(&slot) {
                        let mut next = world.clone();
                        next.seen.push(slot);
                        next.seen.sort_unstable();
                        nexts.push(plain(Label::Host(world.host), next));
                    }
                }
                return;
            }
            _ => return,
        }
        next.host += 1;
        nexts.push(plain(Label::Host(world.host), next));
    }

    /// A plain store: it waits under x86-TSO.
    fn store(&self, world: &mut World, slot: usize, store: Waiting) {
        world.cpus[slot].buffer.push(store);
        if self.memory == Memory::Sc {
            self.drain(world, slot);
        }
    }

    fn execute(&self, world: &World, slot: usize, nexts: &mut Vec<Next>) {
        let cpu = &world.cpus[slot];
        let empty = cpu.buffer.is_empty();
        let Some(level) = cpu.levels.last() else { return };
        match &level.pass {
            Some(Pass { at: Place::Site, .. }) => return self.fetch(world, slot, nexts),
            Some(_) => return self.handle(world, slot, nexts),
            None => {}
        }
        let program = if level.function { &self.case.function } else { &self.case.programs[slot] };
        let mut next = world.clone();
        let Some(op) = program.get(level.at) else {
            // The IRET of a function; a program is simply over.
            if level.function && empty {
                self.serialise(&mut next, slot);
                next.cpus[slot].levels.pop();
                nexts.push(plain(Label::Return(slot), next));
            }
            return;
        };
        let registers = level.registers;
        next.cpus[slot].top().at += 1;
        match op {
            Op::Set(word, value) => {
                self.store(&mut next, slot, Waiting::Word { word: *word, value: *value });
            }
            Op::Copy(word, register) => {
                let value = registers[*register];
                self.store(&mut next, slot, Waiting::Word { word: *word, value });
            }
            Op::Arm => self.store(&mut next, slot, Waiting::Word { word: ARMED, value: 1 }),
            Op::Disarm => self.store(&mut next, slot, Waiting::Word { word: ARMED, value: 0 }),
            Op::Drop => self.store(&mut next, slot, Waiting::Word { word: LOCK, value: 0 }),
            Op::Store { at, bytes } => {
                self.store(&mut next, slot, Waiting::Text { at: *at, bytes: bytes.clone() });
            }
            Op::Nest(value) => self.store(&mut next, slot, Waiting::Nest(*value)),
            Op::Acknowledge => self.store(&mut next, slot, Waiting::Acknowledgement),
            Op::Load(register, word) => {
                next.cpus[slot].top().registers[*register] = cpu.load(world.words[*word], *word);
            }
            Op::LoadText { register, at, size } => {
                let text = content(&self.case.site, &world.commits);
                let Some(value) = cpu.load_text(&text, *at, *size) else { return };
                next.cpus[slot].top().registers[*register] = value;
            }
            Op::Add(word, value) if empty => next.words[*word] = world.words[*word].wrapping_add(*value),
            Op::Take if empty && world.words[LOCK] == 0 => next.words[LOCK] = 1,
            Op::Fence if empty && self.amd() => self.serialise(&mut next, slot),
            Op::Fence if empty => {}
            Op::Serialise if empty => self.serialise(&mut next, slot),
            Op::Send { to, x2apic } if empty || *x2apic => next.cpus[*to].pending = true,
            Op::Add(..) | Op::Take | Op::Fence | Op::Serialise | Op::Send { .. } => return,
            Op::Pass => {
                let (after_done, new_before) = (world.done, cpu.seen_new);
                let top = next.cpus[slot].top();
                top.pass = Some(Pass { at: Place::Site, after_done, new_before });
                top.at = level.at;
            }
            Op::Done => next.done = true,
            // A violation ends the execution.
            Op::Check(register, value) if registers[*register] != *value => {
                let label = Label::Step(slot, level.at);
                nexts.push(Next { label, world: None, violated: vec!["text-data"], outcome: None });
                return;
            }
            Op::Check(..) => {}
            Op::SkipIf(register, value) => {
                next.cpus[slot].top().at += usize::from(registers[*register] == *value);
            }
        }
        nexts.push(plain(Label::Step(slot, level.at), next));
    }
}

fn plain(label: Label, world: World) -> Next {
    Next { label, world: Some(world), violated: Vec::new(), outcome: None }
}
