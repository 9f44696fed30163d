//! Which five bytes of a function may become a jump.
//!
//! An optimised probe replaces several instructions by one jump (arch/x86/kernel/kprobes/opt.c, `can_optimize()` and
//! `copy_optimized_instructions()`). That is legal where they are whole instructions, where nothing arrives behind
//! the first byte, and where nothing else patches. The rules here look at each window; the kernel is stricter, and
//! gives up on the whole function where any of its instructions is in the exception table or jumps indirectly.

use std::collections::BTreeMap;

use iced_x86::{Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic};
use serde::Serialize;

use super::flow::{self, ByAddress, Via};
use super::image::Image;
use super::site::Kind;

/// Bytes of a `jmp rel32`.
pub const JUMP: u64 = 5;

/// Why five bytes may not become a jump.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Hazard {
    /// The function ends before them.
    FunctionEnd {
        /// Bytes that are left.
        left: u64,
    },
    /// Control arrives at a byte behind the first: it would find the jump's displacement.
    Entered {
        /// The byte.
        byte: u64,
        /// Where from.
        from: String,
        /// How.
        via: Via,
    },
    /// A call inside returns behind the first byte.
    Returned {
        /// The byte to which it returns.
        byte: u64,
    },
    /// An instruction of the exception table would be elsewhere when it faults.
    Faulting {
        /// Its byte.
        byte: u64,
    },
    /// Something else patches these bytes.
    Patched {
        /// Name of the kind.
        kind: &'static str,
        /// Byte at which that site begins, negative if before.
        byte: i64,
    },
    /// No instruction begins at this byte.
    Undecodable {
        /// The byte.
        byte: u64,
    },
}

impl Hazard {
    /// In words.
    pub fn text(&self) -> String {
        match self {
            Hazard::FunctionEnd { left } => format!("the function ends after {left} bytes"),
            Hazard::Entered { byte, from, via } => {
                let how = match via {
                    Via::Branch => "a branch",
                    Via::Fixup => "an exception's fixup",
                    Via::JumpLabel => "a jump label",
                };
                format!("{how} at {from} arrives at byte {byte}")
            }
            Hazard::Returned { byte } => format!("a call inside returns to byte {byte}"),
            Hazard::Faulting { byte } => format!("the instruction at byte {byte} is in the exception table"),
            Hazard::Patched { kind, byte } => format!("a {kind} site begins at byte {byte}"),
            Hazard::Undecodable { byte } => format!("no instruction begins at byte {byte}"),
        }
    }
}

/// A place where a jump might go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Window {
    /// Function and offset.
    pub site: String,
    /// Address, in hex.
    #[serde(serialize_with = "as_hex")]
    pub address: u64,
    /// Bytes of the whole instructions that would go, at least 5 unless the function ends.
    pub length: u64,
    /// Lengths of these instructions, in bytes.
    pub lengths: Vec<u64>,
    /// The bytes, in hex.
    pub bytes: String,
    /// How many instructions.
    pub instructions: usize,
    /// What stands against it; nothing if it is legal.
    pub hazards: Vec<Hazard>,
}

fn as_hex<S: serde::Serializer>(address: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{address:#x}"))
}

/// What is known about a function's surroundings.
struct Context<'a> {
    image: &'a Image,
    index: ByAddress<'a>,
    /// Arrivals in the functions asked for, by address; one for each place they come from.
    arrivals: BTreeMap<u64, Vec<(u64, Via)>>,
}

/// The windows of every function that a pattern matches, by address.
pub fn windows(image: &Image, pattern: &str) -> Vec<Window> {
    let memory = &image.binary.memory;
    let mut functions: Vec<(u64, u64)> = image
        .binary
        .symbols
        .matching(pattern)
        .filter(|symbol| memory.executable(symbol.address))
        .filter_map(|symbol| {
            let limit = memory.region(symbol.address)?.end();
            let end = match symbol.size {
                0 => image.binary.symbols.next(symbol.address).unwrap_or(limit),
                size => symbol.address.saturating_add(size),
            };
            Some((symbol.address, end.min(limit)))
        })
        .collect();
    functions.sort_unstable();
    functions.dedup();
    let wanted = |address: u64| {
        let index = functions.partition_point(|(start, _)| *start <= address);
        index.checked_sub(1).is_some_and(|index| address < functions[index].1)
    };
    let mut context =
        Context { image, index: ByAddress::new(&image.tables.sites), arrivals: BTreeMap::new() };
    let mut arrive = |from: u64, to: u64, via: Via| {
        if wanted(to) {
            context.arrivals.entry(to).or_default().push((from, via));
        }
    };
    flow::instructions(image, |instruction| {
        if let Some(to) = flow::target(instruction) {
            arrive(instruction.ip(), to, Via::Branch);
        }
    });
    for exception in &image.tables.exceptions {
        arrive(exception.address, exception.fixup, Via::Fixup);
    }
    for site in image.tables.sites.iter().filter(|site| site.kind == Kind::JumpLabel) {
        if let Some(to) = site.target {
            arrive(site.address, to, Via::JumpLabel);
        }
    }
    functions.into_iter().flat_map(|(start, end)| function(&context, start, end)).collect()
}

fn function(context: &Context<'_>, start: u64, end: u64) -> Vec<Window> {
    let Some(bytes) = context.image.binary.memory.bytes(start, (end - start) as usize) else {
        return Vec::new();
    };
    let mut instructions: Vec<Instruction> =
        Decoder::with_ip(64, bytes, start, DecoderOptions::NONE).into_iter().collect();
    // What pads the place up to the next function is no part of it.
    while instructions.last().is_some_and(|last| matches!(last.mnemonic(), Mnemonic::Int3 | Mnemonic::Nop)) {
        instructions.pop();
    }
    let end = instructions.last().map_or(start, Instruction::next_ip);
    (0..instructions.len()).map(|index| window(context, &instructions[index..], end)).collect()
}

fn window(context: &Context<'_>, rest: &[Instruction], end: u64) -> Window {
    let image = context.image;
    let start = rest[0].ip();
    let count = rest.iter().position(|instruction| instruction.next_ip() >= start + JUMP);
    let whole = &rest[..count.map_or(rest.len(), |count| count + 1)];
    let stop = whole.last().map_or(end, Instruction::next_ip);
    let mut hazards = Vec::new();
    if stop - start < JUMP {
        hazards.push(Hazard::FunctionEnd { left: stop - start });
    }
    if let Some(invalid) = whole.iter().find(|instruction| instruction.is_invalid()) {
        hazards.push(Hazard::Undecodable { byte: invalid.ip() - start });
    }
    // Behind the jump's five bytes only the instruction that it cut is left, and nobody arrives inside of that.
    for (to, arrivals) in context.arrivals.range(start + 1..(start + JUMP).max(start + 1)) {
        for (from, via) in arrivals {
            let from = image.binary.symbols.label(*from);
            hazards.push(Hazard::Entered { byte: to - start, from, via: *via });
        }
    }
    for instruction in whole {
        let call = matches!(instruction.flow_control(), FlowControl::Call | FlowControl::IndirectCall);
        if call && instruction.next_ip() < start + JUMP {
            hazards.push(Hazard::Returned { byte: instruction.next_ip() - start });
        }
    }
    let exceptions = &image.tables.exceptions;
    let first = exceptions.partition_point(|exception| exception.address < start);
    for exception in exceptions[first..].iter().take_while(|exception| exception.address < stop) {
        hazards.push(Hazard::Faulting { byte: exception.address - start });
    }
    let mut patched: Vec<(&'static str, i64)> = context
        .index
        .touching(start, stop)
        .map(|site| &image.tables.sites[site])
        .map(|site| (site.kind.name(), site.address.wrapping_sub(start) as i64))
        .collect();
    patched.dedup();
    hazards.extend(patched.into_iter().map(|(kind, byte)| Hazard::Patched { kind, byte }));
    let bytes = image.binary.memory.bytes(start, (stop - start) as usize).unwrap_or_default();
    Window {
        site: image.binary.symbols.label(start),
        address: start,
        length: stop - start,
        lengths: whole.iter().map(|instruction| instruction.len() as u64).collect(),
        bytes: super::hex(bytes),
        instructions: whole.len(),
        hazards,
    }
}
