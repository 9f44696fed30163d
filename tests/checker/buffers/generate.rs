//! Random programs: short, of all kinds, the same for the same seed.

use fastrand::Rng;

use super::program::{Case, Host, LOCK, Op};
use crate::checker::case::{self, INT3, Instruction, JMP8, JMP32, NOP2, NOP5, bytes};
use crate::checker::fetch::{AMD, AMD_BLOCK, COHERENT, HALF_LINE, INTEL, LINE, Model};

/// A site of one instruction: inside a quadword, across two, across two cache lines.
fn site(random: &mut Rng) -> case::Case {
    let (old, new): (Instruction, Instruction) =
        *random.choice(&[(NOP2, JMP8), (NOP2, JMP8), (JMP8, NOP2), (NOP5, JMP32)]).unwrap();
    case::Case {
        old: vec![old],
        new: vec![new],
        offset: *random.choice(&[0x100, 0x100, 0x103, 0x106, 0x107, 0x13f]).unwrap(),
        executors: Vec::new(),
        resume: None,
        armed: false,
        counting: false,
        nmis: 0,
        amd: random.u8(..3) == 0,
        steps: Vec::new(),
    }
}

/// One instruction that stores to the site.
fn store(random: &mut Rng, site: &case::Case) -> Op {
    let [old, new] = [&site.old, &site.new].map(bytes);
    let version = if random.u8(..4) == 0 { old } else { new };
    let len = version.len();
    let (at, size) = match (random.u8(..12), len) {
        (0, _) => return Op::Store { at: 0, bytes: vec![INT3] },
        (1 | 2, _) => (0, 1),
        (3 | 4, _) => (len - 1, 1),
        (5 | 6, 5) => (1, 4),
        (7 | 8, 5) => (1, 2),
        (_, 5) => (0, 4),
        _ => (0, 2),
    };
    // A store across a cache line would take more than one instruction.
    let line = |byte: usize| (site.offset + byte) / 64;
    let size = if line(at) == line(at + size - 1) { size } else { 1 };
    Op::Store { at, bytes: version[at..at + size].to_vec() }
}

fn load_text(random: &mut Rng, site: &case::Case, register: usize) -> Op {
    let size = *random.choice(if site.len() == 5 { &[1, 2, 4] } else { &[1, 2, 2] }).unwrap();
    Op::LoadText { register, at: random.usize(..=site.len() - size), size }
}

/// What a case's programs are made of.
struct Kinds {
    text: bool,
    words: usize,
}

/// Some word, mostly this one.
fn mostly(random: &mut Rng, kinds: &Kinds, word: usize) -> usize {
    if random.u8(..8) == 0 { random.usize(..kinds.words) } else { word % kinds.words }
}

/// A step that loads nothing. Mostly, programs store to words of their own, and some to the site.
fn any(random: &mut Rng, site: &case::Case, kinds: &Kinds, slot: usize) -> Op {
    let word = mostly(random, kinds, slot);
    let text = kinds.text && random.u8(..4) < if slot == 0 { 3 } else { 1 };
    match random.u8(..28) {
        0 => Op::Add(word, random.u32(1..=2)),
        1 => Op::Fence,
        2 => Op::Serialise,
        3..=5 if kinds.text => Op::Pass,
        _ if text => store(random, site),
        _ => Op::Set(word, random.u32(1..=2)),
    }
}

/// Loads a register, mostly from what others store, and does something with it.
fn load(random: &mut Rng, site: &case::Case, kinds: &Kinds, slot: usize, register: usize) -> Vec<Op> {
    let text = kinds.text && random.u8(..4) < if slot == 0 { 1 } else { 3 };
    let (load, known) = if text {
        (load_text(random, site, register), u32::from(site.new[0].bytes[0]))
    } else {
        (Op::Load(register, mostly(random, kinds, slot + 1)), random.u32(..2))
    };
    match random.u8(..30) {
        0 => vec![load, Op::Check(register, known)],
        1 | 2 => vec![load, Op::SkipIf(register, known), any(random, site, kinds, slot)],
        3 => vec![load, Op::Copy(random.usize(..kinds.words), register)],
        _ => vec![load],
    }
}

/// Loads at most so many registers. Mostly there is a store before a load: that is where memory models differ.
fn program(
    random: &mut Rng,
    site: &case::Case,
    kinds: &Kinds,
    slot: usize,
    len: usize,
    loads: usize,
) -> Vec<Op> {
    let mut ops = Vec::new();
    let mut register = 0;
    while ops.len() < len {
        if register == loads || ops.is_empty() || random.u8(..3) == 0 {
            ops.push(any(random, site, kinds, slot));
        } else {
            ops.extend(load(random, site, kinds, slot, register));
            register += 1;
        }
    }
    if register < loads {
        ops.extend(load(random, site, kinds, slot, register));
    }
    ops
}

/// Takes the lock somewhere, and mostly drops it later.
fn lock(random: &mut Rng, program: &mut Vec<Op>) {
    // Steps of the lock are never skipped.
    if program.iter().any(|op| matches!(op, Op::SkipIf(..))) {
        return;
    }
    let take = random.usize(..=program.len());
    program.insert(take, Op::Take);
    if random.u8(..12) > 0 {
        program.insert(random.usize(take + 1..=program.len()), Op::Drop);
    }
}

fn function(random: &mut Rng, site: &case::Case, kinds: &Kinds) -> Vec<Op> {
    let word = random.usize(..kinds.words);
    match random.u8(..5) {
        _ if kinds.text && random.bool() => vec![Op::Pass],
        2 if kinds.text => vec![store(random, site)],
        0 => vec![Op::Set(word, 2)],
        1 => vec![Op::Add(word, 1)],
        _ => vec![Op::Load(0, word), Op::Copy(LOCK, 0)],
    }
}

/// Somewhere behind the first step, inserts one that empties the buffer.
fn drain(random: &mut Rng, program: &mut Vec<Op>) {
    let op = match random.u8(..6) {
        0 => Op::Serialise,
        1 => Op::Add(2, 1),
        2 => return,
        _ => Op::Fence,
    };
    let at = random.usize(1..=program.len().min(3));
    program.insert(at, op);
}

/// Arms the handler somewhere, stores INT3 somewhere, and perhaps disarms the handler at the end.
fn arm(random: &mut Rng, program: &mut Vec<Op>) {
    let at = random.usize(..=program.len().min(1));
    program.insert(at, Op::Arm);
    let at = random.usize(..=program.len());
    program.insert(at, Op::Store { at: 0, bytes: vec![INT3] });
    if random.u8(..4) == 0 {
        program.push(Op::Disarm);
    }
}

/// Inserts a step that is executed once, whatever is loaded.
fn insert(random: &mut Rng, program: &mut Vec<Op>, op: Op) {
    let at = program.iter().position(|op| matches!(op, Op::SkipIf(..))).unwrap_or(program.len());
    program.insert(random.usize(..=at), op);
}

/// Steps of the host, and what they need.
fn host(
    random: &mut Rng,
    site: &case::Case,
    kinds: &Kinds,
    programs: &mut [Vec<Op>],
    messages: &mut Vec<Op>,
) -> Vec<Host> {
    let any = |random: &mut Rng| Host::Set(random.usize(..kinds.words), random.u32(1..=2));
    let wait = match random.u8(..3) {
        0 if messages.is_empty() => {
            *messages = function(random, site, kinds);
            let at = random.usize(..=messages.len());
            messages.insert(at, Op::Acknowledge);
            let to = random.usize(..programs.len());
            return vec![any(random), Host::Tell(to), Host::AwaitAck(to), any(random)];
        }
        1 => {
            let sets = programs.iter().flatten().filter_map(|op| match *op {
                Op::Set(word, value) => Some(Host::Await(word, value)),
                _ => None,
            });
            random.choice(sets.collect::<Vec<_>>())
        }
        _ => None,
    };
    let Some(wait) = wait else {
        // Readers, and a grace period.
        for program in programs {
            if random.u8(..4) > 0 {
                program.insert(0, Op::Nest(1));
                program.push(Op::Nest(0));
            }
        }
        let wait = if random.bool() { Host::AwaitNest } else { Host::Quiesce };
        return vec![any(random), wait, any(random)];
    };
    vec![any(random), wait, any(random)]
}

/// The case of a seed, and the fetch model.
pub fn case(seed: u64) -> (Case, Model) {
    let mut random = Rng::with_seed(seed);
    let random = &mut random;
    let site = site(random);
    // A single vCPU runs beside the host's patcher.
    let count = match random.u8(..12) {
        0 => 1,
        1..=4 => 3,
        _ => 2,
    };
    let alike = count > 1 && random.u8(..12) == 0;
    let kinds = Kinds { text: random.bool(), words: if random.u8(..6) == 0 { 3 } else { 2 } };
    let one = |random: &mut Rng, slot: usize| {
        let len = if count == 3 { random.usize(1..=2) } else { random.usize(2..=4) };
        program(random, &site, &kinds, slot, len, if slot == 2 { 1 } else { 2 })
    };
    let mut programs: Vec<Vec<Op>> = (0..count).map(|slot| one(random, slot)).collect();
    if random.u8(..4) == 0 {
        programs.iter_mut().for_each(|program| drain(random, program));
    }
    if alike {
        if random.u8(..4) == 0 {
            lock(random, &mut programs[0]);
        }
        programs = vec![programs[0].clone(); count];
    } else if random.u8(..8) == 0 {
        programs.iter_mut().for_each(|program| lock(random, program));
    }
    if kinds.text && count > 1 && !alike && random.u8(..5) == 0 {
        arm(random, &mut programs[0]);
        programs[1].push(Op::Pass);
    }
    let mut messages = Vec::new();
    if count > 1 && !alike && random.u8(..5) == 0 {
        messages = function(random, &site, &kinds);
        let x2apic = random.u8(..3) > 0;
        insert(random, &mut programs[0], Op::Send { to: 1, x2apic });
    }
    let host = if count == 1 || !alike && random.u8(..5) == 0 {
        host(random, &site, &kinds, &mut programs, &mut messages)
    } else {
        Vec::new()
    };
    let stores = programs.iter().flatten().any(|op| matches!(op, Op::Store { .. }));
    if stores && !alike && host.is_empty() && random.bool() {
        let slot = random.usize(..count);
        insert(random, &mut programs[slot], Op::Done);
    }
    let models = [COHERENT, COHERENT, COHERENT, AMD, AMD_BLOCK, HALF_LINE, LINE, INTEL];
    (Case { site, programs, alike, function: messages, host }, *random.choice(&models).unwrap())
}
