//! A case: short programs, one for each vCPU, that store, load and pass through the site; and the same case as TOML.

use std::collections::BTreeSet;
use std::fmt::Write;

use super::machine::Final;
use crate::checker::case::{self, Instruction, hex};

/// The shared words, by their names. One is taken and dropped, the last one arms the handler.
pub const WORDS: [&str; 5] = ["x", "y", "flag", "lock", "armed"];
pub const LOCK: usize = 3;
pub const ARMED: usize = 4;
/// Registers, by their names.
pub const REGISTERS: [&str; 3] = ["a", "b", "c"];

/// A step of a program. Words and registers by their numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    Set(usize, u32),
    /// Stores a register.
    Copy(usize, usize),
    Load(usize, usize),
    LoadText {
        register: usize,
        at: usize,
        size: usize,
    },
    /// One instruction: one, two or four bytes.
    Store {
        at: usize,
        bytes: Vec<u8>,
    },
    Add(usize, u32),
    Take,
    Drop,
    Arm,
    Disarm,
    Fence,
    Serialise,
    Pass,
    Done,
    /// Violates `text-data` unless the register has this value.
    Check(usize, u32),
    /// Leaves out the next step if the register has this value.
    SkipIf(usize, u32),
    /// Lets a vCPU run the function, and does not wait.
    Send {
        to: usize,
        x2apic: bool,
    },
    /// Stores the word that each vCPU has for itself.
    Nest(u32),
    /// Tells the host that the message has come.
    Acknowledge,
}

/// A step of the host's patcher.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Host {
    Set(usize, u32),
    Await(usize, u32),
    /// Waits until the vCPUs' own words are all 0 at once; waits until each of them has been seen at 0.
    AwaitNest,
    Quiesce,
    /// Lets a vCPU run the function; and waits until it has acknowledged that.
    Tell(usize),
    AwaitAck(usize),
}

#[derive(Debug, Clone)]
pub struct Case {
    /// The site and the rule. Its executors and steps are ignored.
    pub site: case::Case,
    pub programs: Vec<Vec<Op>>,
    /// All vCPUs run the first program: nothing tells them apart.
    pub alike: bool,
    /// What the receiver of a message runs, with interrupts off. There is at most one message.
    pub function: Vec<Op>,
    pub host: Vec<Host>,
}

/// The scenario violates this where it ends in a state that the checker does not find.
pub const IMPOSSIBLE: &str = "recursion";

/// The registers that a program loads.
fn loaded(program: &[Op]) -> Vec<usize> {
    let of = |op: &Op| match *op {
        Op::Load(register, _) | Op::LoadText { register, .. } => Some(register),
        _ => None,
    };
    program.iter().filter_map(of).collect::<BTreeSet<_>>().into_iter().collect()
}

impl Op {
    fn text(&self, next: &str) -> String {
        match self {
            Op::Set(word, value) => format!("set = {{ {} = {value} }}", WORDS[*word]),
            Op::Copy(word, register) => {
                format!("set = {{ {} = \"{}\" }}", WORDS[*word], REGISTERS[*register])
            }
            Op::Load(register, word) => {
                format!("load = {{ {} = \"{}\" }}", REGISTERS[*register], WORDS[*word])
            }
            Op::LoadText { register, at, size } => {
                format!("load = {{ {} = {{ text = {at}, size = {size} }} }}", REGISTERS[*register])
            }
            Op::Store { at, bytes } => format!("store = {{ at = {at}, bytes = \"{}\" }}", hex(bytes)),
            Op::Add(word, value) => format!("add = {{ {} = {value} }}", WORDS[*word]),
            Op::Take => format!("take = \"{}\"", WORDS[LOCK]),
            Op::Drop => format!("drop = \"{}\"", WORDS[LOCK]),
            Op::Arm => "arm = {}".into(),
            Op::Disarm => "disarm = {}".into(),
            Op::Fence => "fence = {}".into(),
            Op::Serialise => "serialise = {}".into(),
            Op::Pass => "pass = {}".into(),
            Op::Done => "done = {}".into(),
            Op::Check(register, value) => {
                format!("check = {{ {} = {value}, else = \"text-data\" }}", REGISTERS[*register])
            }
            Op::SkipIf(register, value) => {
                format!("if = {{ {} = {value}, goto = \"{next}\" }}", REGISTERS[*register])
            }
            Op::Send { to, x2apic } => {
                let send = if *x2apic { "x2apic" } else { "fenced" };
                format!("broadcast = {{ run = \"told\", to = [{to}], send = \"{send}\" }}")
            }
            Op::Nest(value) => format!("set = {{ nest = {value} }}"),
            Op::Acknowledge => "acknowledge = {}".into(),
        }
    }
}

impl Host {
    fn text(&self) -> String {
        match self {
            Host::Set(word, value) => format!("set = {{ {} = {value} }}", WORDS[*word]),
            Host::Await(word, value) => format!("wait = {{ {} = {value} }}", WORDS[*word]),
            Host::AwaitNest => "wait = { nest = 0 }".into(),
            Host::Quiesce => "quiesce = { of = \"nest\" }".into(),
            Host::Tell(to) => format!("broadcast = {{ run = \"told\", to = [{to}] }}"),
            Host::AwaitAck(of) => format!("wait = {{ acks = [{of}] }}"),
        }
    }
}

impl Case {
    pub fn count(&self) -> usize {
        self.programs.len()
    }

    /// Which register of which vCPU is observed.
    pub fn recorded(&self) -> Vec<(usize, usize)> {
        let programs = if self.alike { &self.programs[..1] } else { &self.programs[..] };
        programs
            .iter()
            .enumerate()
            .flat_map(|(slot, program)| loaded(program).into_iter().map(move |register| (slot, register)))
            .collect()
    }

    /// The pieces of the site that are observed: first byte and size.
    pub fn observed_text(&self) -> &'static [(usize, usize)] {
        if self.site.len() == 5 { &[(0, 4), (4, 1)] } else { &[(0, 2)] }
    }

    pub fn stores_text(&self) -> bool {
        self.programs.iter().flatten().chain(&self.function).any(|op| matches!(op, Op::Store { .. }))
    }

    fn arms(&self) -> bool {
        self.programs.iter().flatten().any(|op| *op == Op::Arm)
    }

    /// Who counts up that they have finished: the programs, the function, the host.
    fn finishers(&self) -> usize {
        self.count() + usize::from(!self.function.is_empty()) + usize::from(!self.host.is_empty())
    }

    /// The body of a scenario: all but title and expectation. It tells these final states apart.
    pub fn text(&self, memory: &str, finals: &BTreeSet<Final>) -> String {
        let version = |version: &[Instruction]| {
            version.iter().map(|one| format!("\"{}\"", hex(one.bytes))).collect::<Vec<_>>().join(", ")
        };
        let mut text = format!("memory = \"{memory}\"\n");
        if self.site.amd {
            text.push_str("rule = \"amd\"\n");
        }
        let site = &self.site;
        let _ = write!(text, "\n[site]\nold = [{}]\nnew = [{}]\n", version(&site.old), version(&site.new));
        let _ = write!(text, "offset = {:#x}\n\n[words]\nx = 0\ny = 0\nfinished = 0\n", site.offset);
        for (slot, register) in self.recorded() {
            let _ = writeln!(text, "r{slot}{} = 0", REGISTERS[register]);
        }
        text.push_str("\n[each]\nnest = 0\n\n[program]\n");
        let kinds = if self.alike { 1 } else { self.count() };
        for slot in 0..kinds {
            self.program(slot, finals, &mut text);
        }
        if !self.function.is_empty() {
            text.push_str("told = [\n");
            list("t", &self.function, &mut text);
            text.push_str("    { add = { finished = 1 } },\n]\n");
        }
        if self.arms() {
            text.push_str("\n[handler]\nresume = \"new\"\n");
        }
        for slot in 0..self.count() {
            let role = if self.alike { 0 } else { slot };
            let _ = write!(text, "\n[[executor]]\nrole = \"p{role}\"\npasses = 1\n");
        }
        for step in &self.host {
            let _ = write!(text, "\n[[step]]\n{}\n", step.text());
        }
        if !self.host.is_empty() {
            text.push_str("\n[[step]]\nadd = { finished = 1 }\n");
        }
        if !self.programs.iter().flatten().any(|op| *op == Op::Done) {
            text.push_str("\n[[step]]\nabandon = {}\n");
        }
        text
    }

    /// A program, what it records of its registers, and, in the first one, what tells the final states apart.
    fn program(&self, slot: usize, finals: &BTreeSet<Final>, text: &mut String) {
        let _ = writeln!(text, "p{slot} = [");
        let recorded = loaded(&self.programs[slot]);
        if self.programs[slot].iter().any(|op| matches!(op, Op::SkipIf(..))) {
            for register in &recorded {
                let _ = writeln!(text, "    {{ load = {{ {} = 0 }} }},", REGISTERS[*register]);
            }
        }
        list("s", &self.programs[slot], text);
        let _ = writeln!(text, "    {{ label = \"s{}\", pause = {{}} }},", self.programs[slot].len());
        for register in recorded {
            let name = REGISTERS[register];
            if self.alike {
                // How many have loaded something else than 0.
                let _ = writeln!(text, "    {{ if = {{ {name} = 0, goto = \"no-{name}\" }} }},");
                let _ = writeln!(text, "    {{ add = {{ r0{name} = 1 }} }},");
                let _ = writeln!(text, "    {{ label = \"no-{name}\", pause = {{}} }},");
            } else {
                let _ = writeln!(text, "    {{ set = {{ r{slot}{name} = \"{name}\" }} }},");
            }
        }
        text.push_str("    { add = { finished = 1 } },\n");
        if slot == 0 {
            let _ = writeln!(text, "    {{ wait = {{ finished = {} }} }},", self.finishers());
            self.tell_apart(finals, text);
        }
        text.push_str("]\n");
    }

    /// Tells the final states apart: the first program gets to a step of its own in each of them.
    fn tell_apart(&self, finals: &BTreeSet<Final>, text: &mut String) {
        for (number, one) in finals.iter().enumerate() {
            let _ = writeln!(text, "    {{ label = \"try-{number}\", pause = {{}} }},");
            let next = number + 1;
            let unless = |text: &mut String, name: &str, value: u32| {
                let _ = writeln!(text, "    {{ unless = {{ {name} = {value}, goto = \"try-{next}\" }} }},");
            };
            for (name, value) in WORDS[..ARMED].iter().zip(&one.words) {
                unless(text, name, *value);
            }
            for ((slot, register), value) in self.recorded().into_iter().zip(&one.registers) {
                unless(text, &format!("r{slot}{}", REGISTERS[register]), *value);
            }
            if self.stores_text() {
                for ((at, size), value) in self.observed_text().iter().zip(&one.text) {
                    let _ = writeln!(text, "    {{ load = {{ a = {{ text = {at}, size = {size} }} }} }},");
                    unless(text, "a", *value);
                }
            }
            let _ = writeln!(text, "    {{ label = \"{}\", pause = {{}} }},", ends_at(number));
            text.push_str("    { goto = \"end\" },\n");
        }
        let _ = writeln!(text, "    {{ label = \"try-{}\", fail = \"{IMPOSSIBLE}\" }},", finals.len());
    }
}

/// The step that the first program gets to in the final state of this number.
pub fn ends_at(number: usize) -> String {
    format!("final-{number}")
}

/// The steps of a list, labelled with their numbers.
fn list(prefix: &str, program: &[Op], text: &mut String) {
    for (index, op) in program.iter().enumerate() {
        let op = op.text(&format!("{prefix}{}", index + 2));
        let _ = writeln!(text, "    {{ label = \"{prefix}{index}\", {op} }},");
    }
}
