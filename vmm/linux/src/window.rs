//! Finds the windows of a function that an optimised probe may overwrite with a jump.
//!
//! An optimised probe replaces several instructions by one jump (arch/x86/kernel/kprobes/opt.c, `can_optimize()` and
//! `copy_optimized_instructions()`). That is legal if the jump replaces whole instructions, if control never arrives
//! after the first byte, and if nothing else patches these bytes. These rules apply to each window; the kernel is stricter
//! and rejects the whole function if any of its instructions is in the exception table or jumps indirectly.

use std::collections::BTreeMap;

use iced_x86::{Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic};
use serde::Serialize;

use crate::flow::{self, ByAddress, Via};
use crate::hex::hex;
use crate::image::Image;

/// Length of a `jmp rel32` in bytes.
pub const JUMP: u64 = 5;

/// A reason why a jump may not replace a window.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, strum::Display)]
#[serde(rename_all = "kebab-case")]
pub enum Hazard {
    /// The function ends inside the window.
    #[strum(to_string = "the function ends after {left} bytes")]
    FunctionEnd {
        /// Bytes up to the end of the function.
        left: u64,
    },
    /// Control arrives after the first byte, in the middle of the jump.
    #[strum(to_string = "{via} at {from} arrives at byte {byte}")]
    Entered {
        /// The byte.
        byte: u64,
        /// Where control comes from.
        from: String,
        /// How control arrives.
        via: Via,
    },
    /// A call in the window returns after the first byte.
    #[strum(to_string = "a call in the window returns to byte {byte}")]
    Returned {
        /// The byte to which it returns.
        byte: u64,
    },
    /// The exception table lists an instruction of the window, which would fault at another address.
    #[strum(to_string = "the instruction at byte {byte} is in the exception table")]
    Faulting {
        /// The byte at which it begins.
        byte: u64,
    },
    /// Something else patches these bytes.
    #[strum(to_string = "a {kind} site begins at byte {byte}")]
    Patched {
        /// Name of the kind.
        kind: &'static str,
        /// The byte at which that site begins; negative if before the window.
        byte: i64,
    },
    /// No valid instruction begins at this byte.
    #[strum(to_string = "no valid instruction begins at byte {byte}")]
    Undecodable {
        /// The byte.
        byte: u64,
    },
}

/// A window that a jump might replace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ProbeWindow {
    /// Function and offset.
    pub site: String,
    /// Address, in hex.
    #[serde(serialize_with = "as_hex")]
    pub address: u64,
    /// Length in bytes of the whole instructions that the jump replaces: at least 5 unless the function ends.
    pub length: u64,
    /// Lengths of these instructions, in bytes.
    pub lengths: Vec<u64>,
    /// The bytes, in hex.
    pub bytes: String,
    /// Number of instructions.
    pub instructions: usize,
    /// Reasons against it; empty if the window is legal.
    pub hazards: Vec<Hazard>,
}

fn as_hex<S: serde::Serializer>(address: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{address:#x}"))
}

/// What the rules need to know besides the instructions.
struct Context<'a> {
    image: &'a Image,
    index: ByAddress<'a>,
    /// Ways into the selected functions by target address, with the source of each.
    arrivals: BTreeMap<u64, Vec<(u64, Via)>>,
}

/// The windows of every function that matches a pattern, by address.
pub fn windows(image: &Image, pattern: &str) -> Vec<ProbeWindow> {
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
    flow::arrivals(image, |from, to, via| {
        if wanted(to) {
            context.arrivals.entry(to).or_default().push((from, via));
        }
    });
    functions.into_iter().flat_map(|(start, end)| function(&context, start, end)).collect()
}

fn function(context: &Context<'_>, start: u64, end: u64) -> Vec<ProbeWindow> {
    let Some(bytes) = context.image.binary.memory.bytes(start, (end - start) as usize) else {
        return Vec::new();
    };
    let mut instructions: Vec<Instruction> =
        Decoder::with_ip(64, bytes, start, DecoderOptions::NONE).into_iter().collect();
    // The padding before the next function does not belong to this one.
    while instructions.last().is_some_and(|last| matches!(last.mnemonic(), Mnemonic::Int3 | Mnemonic::Nop)) {
        instructions.pop();
    }
    let end = instructions.last().map_or(start, Instruction::next_ip);
    (0..instructions.len()).map(|index| window(context, &instructions[index..], end)).collect()
}

fn window(context: &Context<'_>, rest: &[Instruction], end: u64) -> ProbeWindow {
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
    // After the five bytes of the jump, only the rest of a cut instruction remains, where control does not arrive.
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
    for exception in image.tables.exceptions_in(start, stop) {
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
    ProbeWindow {
        site: image.binary.symbols.label(start),
        address: start,
        length: stop - start,
        lengths: whole.iter().map(|instruction| instruction.len() as u64).collect(),
        bytes: hex(bytes),
        instructions: whole.len(),
        hazards,
    }
}
