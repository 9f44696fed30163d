//! The versions of a site: bytes, decoded instructions, and how a handler emulates them.

use crossmod_abi::va;
use crossmod_model::plan::{Action, Code};
use iced_x86::{Decoder, DecoderError, DecoderOptions, FlowControl, Instruction, Mnemonic};

use super::LONGEST_SITE;
use crate::error::{Place, ScenarioError, nearest};
use crate::instruction::{LONGEST, NAMES, Named, refusal};
use crate::spanned::Spanned;
use crate::syntax::{Int, OneOrMore};
use crate::value::{self, hex};

/// Offset of the RET in a landing pad.
const PAD_RETURN: u64 = 3;
/// Where the 32-bit branches of old and new go unless the scenario says otherwise, as page offsets differ and
/// no byte of the displacement is zero for most sites, so that a torn store is not a harmless one.
const FAR_TARGETS: [u64; 2] = [va::SITE + 0x0345_6340, va::SITE + 0x0123_4680];
/// Targets of different sites are different, by this much.
const PART_DISTANCE: u64 = 0x108;
/// The same for 8-bit branches, relative to the site.
const NEAR_TARGETS: [i64; 2] = [0x20, 0x40];

/// One version with its decoded instructions.
#[derive(Debug)]
pub(crate) struct Version {
    pub code: Code,
    pub instructions: Vec<Instruction>,
    pub place: Place,
}

pub(super) fn version(
    given: &Spanned<OneOrMore>,
    target: Option<&Int>,
    [index, part]: [usize; 2],
    address: u64,
) -> Result<Version, ScenarioError> {
    let place = &given.place;
    let mut bytes = Vec::new();
    let mut unused = target;
    for (text, place) in given.items(place) {
        if let Some(raw) = hex(text) {
            bytes.extend(raw);
        } else {
            let Some(&Named { opcode, displacement, .. }) = Named::find(text) else {
                return Err(unknown_name(text, place));
            };
            bytes.extend(opcode);
            if displacement > 0 {
                let end = address + (bytes.len() + displacement) as u64;
                let to = match target {
                    Some(given) => {
                        let (low, high) = (i32::MIN.into(), i32::MAX.into());
                        address.wrapping_add_signed(value::ranged(given, "a target", low, high)?)
                    }
                    None if displacement == 4 => FAR_TARGETS[index] + PART_DISTANCE * part as u64,
                    None => address.wrapping_add_signed(NEAR_TARGETS[index]),
                };
                unused = None;
                let relative = to.wrapping_sub(end) as i64;
                if displacement == 1 && i8::try_from(relative).is_err() {
                    return Err(target.map_or(place, |given| &given.place).error(
                        format!("a jmp8 does not reach a target {relative} bytes after its end"),
                        "too far",
                        "choose a target from 128 bytes before to 127 bytes after the end of the jump, or \
                         use `jmp32`",
                    ));
                }
                bytes.extend(&relative.to_le_bytes()[..displacement]);
            }
        }
        if bytes.len() > LONGEST_SITE {
            return Err(place.error(
                format!("a site has at most {LONGEST_SITE} bytes"),
                "too long",
                "omit bytes that the protocol does not write",
            ));
        }
    }
    if let Some(target) = unused {
        return Err(target.place.error(
            "this target belongs to no branch",
            "not used",
            "remove it, or write the branch by name (`jmp8`, `jmp32`, `call`); hex bytes keep their own \
             displacement",
        ));
    }
    let instructions = decode(&bytes, address, place, true)?;
    let boundaries =
        instructions.iter().map(|instruction| (instruction.ip() - address) as usize).collect::<Vec<_>>();
    let version = Version { code: Code { bytes, boundaries }, instructions, place: place.clone() };
    balanced(&version)?;
    Ok(version)
}

pub(super) fn unknown_name(text: &str, place: &Place) -> ScenarioError {
    let names: Vec<&str> = NAMES.iter().map(|known| known.name).collect();
    let help = match nearest(text, names.iter().copied()) {
        Some(name) => format!("did you mean `{name}`? Otherwise give bytes, as in \"0f 1f 44 00 00\""),
        None => format!("give bytes, as in \"0f 1f 44 00 00\", or one of {}", names.join(", ")),
    };
    place.error(format!("`{text}` is neither bytes in hex nor the name of an instruction"), "unknown", help)
}

pub(super) fn decode(
    bytes: &[u8],
    address: u64,
    place: &Place,
    versions: bool,
) -> Result<Vec<Instruction>, ScenarioError> {
    if bytes.is_empty() {
        return Err(place.error("a version without bytes", "empty", "give at least one instruction"));
    }
    let mut decoder = Decoder::with_ip(64, bytes, address, DecoderOptions::NONE);
    let mut instructions = Vec::new();
    while decoder.can_decode() {
        let at = decoder.position();
        let instruction = decoder.decode();
        if instruction.is_invalid() {
            let rest: Vec<_> = bytes[at..].iter().take(LONGEST).map(|byte| format!("{byte:02x}")).collect();
            let (message, help) = match decoder.last_error() {
                DecoderError::NoMoreBytes => (
                    format!("the site ends inside the instruction at byte {at} ({})", rest.join(" ")),
                    "add its missing bytes, or end the site before it",
                ),
                _ => (
                    format!("byte {at} is not the beginning of an instruction ({})", rest.join(" ")),
                    "correct the bytes; they are decoded in 64-bit mode",
                ),
            };
            return Err(place.error(message, "does not decode", help));
        }
        if instruction.mnemonic() == Mnemonic::Int3 && versions && at == 0 {
            return Err(place.error(
                format!("`int3` (byte {at}) cannot be a version of a site: its effect depends on the handler"),
                "traps",
                "give the instruction that the trap replaces, and store the int3 as a step: `store = { what = \"int3\" }`",
            ));
        }
        if let Some(reason) = refusal(&instruction) {
            return Err(place.error(
                format!("`{instruction}` (byte {at}) cannot be explored: {reason}"),
                "refused",
                "put another instruction of the same length in its place, such as a NOP",
            ));
        }
        instructions.push(instruction);
    }
    Ok(instructions)
}

/// Wherever control leaves the site, a RET follows: the stack must be as deep as it was on entry.
fn balanced(version: &Version) -> Result<(), ScenarioError> {
    let mut depth = 0;
    for (index, instruction) in version.instructions.iter().enumerate() {
        let flow = instruction.flow_control();
        let last = index + 1 == version.instructions.len();
        if !matches!(flow, FlowControl::Call | FlowControl::Return | FlowControl::Interrupt) {
            depth += instruction.stack_pointer_increment();
        }
        let leaves = flow != FlowControl::Next && flow != FlowControl::Call && flow != FlowControl::Interrupt;
        if depth > 0 || (depth != 0 && (leaves || last)) {
            return Err(version.place.error(
                format!("the stack is {depth:+} bytes off where `{instruction}` leaves the site"),
                "unbalanced",
                "every pass returns to its caller right after the site: POP what was PUSHed, or use an \
                 instruction without the stack, such as `xor-ecx-ecx`",
            ));
        }
    }
    Ok(())
}

/// Bytes as a scenario may give them: in hex, or by names of instructions without a displacement (`nop5`, `ret`), one
/// after the other. `None` for anything else.
pub fn bytes(text: &str) -> Option<Vec<u8>> {
    hex(text).or_else(|| {
        let parts: Option<Vec<Vec<u8>>> = text.split_whitespace().map(named).collect();
        parts.map(|parts| parts.concat()).filter(|bytes| !bytes.is_empty())
    })
}

pub(super) fn named(text: &str) -> Option<Vec<u8>> {
    let Named { opcode, displacement, .. } = Named::find(text)?;
    (*displacement == 0).then(|| opcode.to_vec())
}

/// What a handler does that emulates this version, if that can be done without executing it.
pub(crate) fn emulate(version: &Version, next: u64) -> Option<Action> {
    let idle = [Mnemonic::Nop, Mnemonic::Endbr64];
    let mut effective =
        version.instructions.iter().filter(|instruction| !idle.contains(&instruction.mnemonic()));
    let Some(first) = effective.next() else {
        return Some(Action::Resume(next));
    };
    let target = first.near_branch_target();
    match first.flow_control() {
        FlowControl::UnconditionalBranch => Some(Action::Resume(target)),
        // As good as a RET of the handler's own: that of the pad behind the site.
        FlowControl::Return => Some(Action::Resume(next + PAD_RETURN)),
        FlowControl::Call if effective.next().is_none() => Some(Action::Call { target, return_to: next }),
        _ => None,
    }
}
