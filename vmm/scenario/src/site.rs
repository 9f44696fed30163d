//! From the `[site]` table to bytes, instruction boundaries and landing pads.

use crossmod_abi::{PAGE, va};
use crossmod_model::layout::{FILLER, pad_code};
use crossmod_model::plan::{Action, Code, Pad, Part, Site};
use iced_x86::{Decoder, DecoderError, DecoderOptions, FlowControl, Instruction, Mnemonic};
use toml::Spanned;

use super::error::{Place, ScenarioError, Source, nearest};
use super::forms::{OneOrMore, Sites};
use super::instruction::{Displacement, LONGEST, NAMES, refusal};
use super::syntax::{self, Int};
use super::tags::is_tag;
use super::{pads, value};

/// Longest site, in bytes.
const LONGEST_SITE: usize = 32;
/// Most parts of one: each has a register of the guest's.
const MOST_PARTS: usize = 3;
/// Where the 32-bit branches of old and new go unless the scenario says otherwise, as page offsets differ and
/// no byte of the displacement is zero for most sites, so that a torn store is not a harmless one.
const FAR_TARGETS: [u64; 2] = [va::SITE + 0x0345_6340, va::SITE + 0x0123_4680];
/// Targets of different sites are different, by this much.
const PART_DISTANCE: u64 = 0x108;
/// The same for 8-bit branches, relative to the site.
const NEAR_TARGETS: [i64; 2] = [0x20, 0x40];

/// One version with its decoded instructions.
#[derive(Debug)]
pub(super) struct Version {
    pub code: Code,
    pub instructions: Vec<Instruction>,
    pub place: Place,
}

/// What the rest of a scenario is checked against.
#[derive(Debug)]
pub(super) struct Resolved {
    pub site: Site,
    pub pads: Vec<Pad>,
    /// Old and new of each part.
    pub versions: Vec<[Version; 2]>,
    /// Addresses that `free` may withdraw: the first branch target of old and of new, of any part.
    pub targets: [Option<u64>; 2],
}

impl Resolved {
    /// One version of a part.
    pub fn version(&self, part: usize, new: bool) -> &Version {
        &self.versions[part][usize::from(new)]
    }

    /// The low half of a part's address, by its name; `site` is the first.
    pub fn low_address(&self, name: &str, place: &Place) -> Result<u32, ScenarioError> {
        let part = if name == "site" { 0 } else { self.part(name, place)? };
        Ok((self.site.address + self.site.parts[part].offset as u64) as u32)
    }

    /// The part with a name.
    pub fn part(&self, name: &str, place: &Place) -> Result<usize, ScenarioError> {
        let names = || self.site.parts.iter().map(|part| part.name.as_str());
        names().position(|known| !known.is_empty() && known == name).ok_or_else(|| {
            let help = match nearest(name, names()) {
                Some(near) if !near.is_empty() => format!("did you mean `{near}`?"),
                _ => "give each [[site]] a `name`".into(),
            };
            place.error(format!("there is no site `{name}`"), "unknown site", help)
        })
    }
}

/// Resolves the table, or the list of tables. `int3` says whether anybody stores 0xCC over a first byte.
pub(super) fn resolve(
    source: &Source,
    table: &Spanned<Sites>,
    int3: bool,
) -> Result<Resolved, ScenarioError> {
    let place = source.at(table.span());
    let mut tables: Vec<(&syntax::Site, Place)> = match table.get_ref() {
        Sites::One(one) => vec![(one, place.clone())],
        Sites::Several(list) => list.iter().map(|one| (one.get_ref(), source.at(one.span()))).collect(),
    };
    if tables.is_empty() || tables.len() > MOST_PARTS {
        return Err(place.error(
            format!("{} sites", tables.len()),
            "too few or too many",
            format!("describe 1 to {MOST_PARTS} of them"),
        ));
    }
    tables.sort_by_key(|(table, _)| *table.offset.get_ref());
    let (mut parts, mut versions): (Vec<Part>, Vec<[Version; 2]>) = (Vec::new(), Vec::new());
    let several = tables.len() > 1;
    let base = value::ranged(source, &tables[0].0.offset, "a page offset", 0, PAGE as i64 - 1)? as u64;
    for (table, place) in &tables {
        let offset = value::ranged(source, &table.offset, "a page offset", 0, PAGE as i64 - 1)? as u64;
        let name = part_name(source, table, place, several, &parts)?;
        let address = va::SITE + offset;
        let old = version(source, &table.old, table.old_target.as_ref(), [0, parts.len()], address)?;
        let new = version(source, &table.new, table.new_target.as_ref(), [1, parts.len()], address)?;
        let (old_len, new_len) = (old.code.bytes.len(), new.code.bytes.len());
        if old_len != new_len {
            return Err(new.place.error(
                format!("old has {old_len} bytes and new has {new_len}"),
                "of another length than `old`",
                "give both versions the same length: fill the shorter one with NOPs (`nop1` to `nop9` in a list)",
            ));
        }
        let part = Part { name, offset: (offset - base) as usize, len: old_len };
        let end = parts.last().map_or(0, |last| last.offset + last.len);
        // What follows a site, unless the next one does at once, is a landing pad.
        if part.offset < end
            || (part.offset > end && part.offset < end + pads::PAD as usize && !parts.is_empty())
        {
            return Err(place.error(
                "this site lies over another one, or over what follows it",
                "overlaps",
                format!("begin right behind the other site, or {} bytes later or more", pads::PAD),
            ));
        }
        if part.offset + part.len > LONGEST_SITE {
            return Err(place.error(
                format!("the sites are more than {LONGEST_SITE} bytes apart"),
                "too far",
                "move them nearer to each other: what matters is which blocks they lie in",
            ));
        }
        parts.push(part);
        versions.push([old, new]);
    }
    build(source, &tables, base, parts, versions, int3)
}

/// The whole site: the parts' bytes, and between them the pads that follow a part.
fn build(
    source: &Source,
    tables: &[(&syntax::Site, Place)],
    base: u64,
    parts: Vec<Part>,
    versions: Vec<[Version; 2]>,
    int3: bool,
) -> Result<Resolved, ScenarioError> {
    let address = va::SITE + base;
    let len = parts.last().map_or(0, |last| last.offset + last.len);
    let code = |which: usize| {
        let mut bytes = vec![FILLER; len];
        let mut boundaries = Vec::new();
        for (part, version) in parts.iter().zip(&versions) {
            let own = &version[which].code;
            bytes[part.offset..part.offset + part.len].copy_from_slice(&own.bytes);
            boundaries.extend(own.boundaries.iter().map(|boundary| part.offset + boundary));
        }
        Code { bytes, boundaries }
    };
    let mut site = Site { address, old: code(0), new: code(1), intermediates: Vec::new(), parts };
    let mut pads = Vec::new();
    let mut targets = [None; 2];
    for part in &site.parts {
        let next = address + (part.offset + part.len) as u64;
        if site.entry(part.offset + part.len).is_none() {
            let name = if part.name.is_empty() { "next".into() } else { format!("next of {}", part.name) };
            pads::after(&mut pads, next, name);
        }
    }
    for (part, [old, new]) in site.parts.iter().zip(&versions) {
        let name = |which: &str| match part.name.as_str() {
            "" => format!("{which} target"),
            name => format!("{which} target of {name}"),
        };
        let old_target = pads::add(&mut pads, &site, part, old, &name("old"), [2, 0x10])?;
        let new_target = pads::add(&mut pads, &site, part, new, &name("new"), [4, 0x20])?;
        targets = [targets[0].or(old_target), targets[1].or(new_target)];
    }
    // Pads between parts are text that never changes.
    for pad in &pads {
        if !site.contains(pad.address) {
            continue;
        }
        let at = (pad.address - address) as usize;
        for code in [&mut site.old, &mut site.new] {
            code.bytes[at..at + pads::PAD as usize].copy_from_slice(&pad_code(pad.mark));
            code.boundaries.extend([at, at + 3]);
            code.boundaries.sort_unstable();
        }
    }
    if int3 {
        site.intermediates.push(vec![0xcc]);
    }
    for (table, _) in tables {
        for text in &table.intermediates {
            let bytes = intermediate(&site, &pads, text.get_ref(), &source.at(text.span()))?;
            if !site.intermediates.contains(&bytes) {
                site.intermediates.push(bytes);
            }
        }
    }
    Ok(Resolved { site, pads, versions, targets })
}

fn part_name(
    source: &Source,
    table: &syntax::Site,
    place: &Place,
    several: bool,
    others: &[Part],
) -> Result<String, ScenarioError> {
    let Some(name) = &table.name else {
        return if several {
            Err(place.error("one of several sites without a name", "nameless", "add `name = \"...\"`"))
        } else {
            Ok(String::new())
        };
    };
    let text = name.get_ref();
    let reserved = ["a", "b", "c", "all", "site", "old", "new", "next"].contains(&text.as_str());
    if !is_tag(text) || reserved || others.iter().any(|part| part.name == *text) {
        return Err(source.at(name.span()).error(
            format!("`{text}` cannot be the name of this site"),
            "not a name, or taken",
            "use small letters, digits and `-`, and each name once",
        ));
    }
    Ok(text.clone())
}

/// Hex digits in pairs, if that is what the text is.
pub(super) fn hex(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    for word in text.split_whitespace() {
        if word.len() % 2 != 0 || !word.bytes().all(|c| c.is_ascii_hexdigit()) {
            return None;
        }
        for at in (0..word.len()).step_by(2) {
            bytes.push(u8::from_str_radix(word.get(at..at + 2)?, 16).ok()?);
        }
    }
    (!bytes.is_empty()).then_some(bytes)
}

fn version(
    source: &Source,
    given: &Spanned<OneOrMore>,
    target: Option<&Int>,
    [index, part]: [usize; 2],
    address: u64,
) -> Result<Version, ScenarioError> {
    let place = source.at(given.span());
    let parts: Vec<(&str, Place)> = match given.get_ref() {
        OneOrMore::One(text) => vec![(text, place.clone())],
        OneOrMore::More(list) => {
            list.iter().map(|text| (text.get_ref().as_str(), source.at(text.span()))).collect()
        }
    };
    let mut bytes = Vec::new();
    let mut unused = target;
    for (text, place) in parts {
        if let Some(raw) = hex(text) {
            bytes.extend(raw);
        } else {
            let Some((_, opcode, displacement)) = NAMES.iter().find(|(name, ..)| *name == text) else {
                return Err(unknown_name(text, &place));
            };
            bytes.extend(*opcode);
            let far = *displacement == Displacement::Rel32;
            if *displacement != Displacement::None {
                let end = address + bytes.len() as u64 + if far { 4 } else { 1 };
                let to = match target {
                    Some(given) => {
                        let (low, high) = (i32::MIN.into(), i32::MAX.into());
                        address.wrapping_add_signed(value::ranged(source, given, "a target", low, high)?)
                    }
                    None if far => FAR_TARGETS[index] + PART_DISTANCE * part as u64,
                    None => address.wrapping_add_signed(NEAR_TARGETS[index]),
                };
                unused = None;
                let relative = to.wrapping_sub(end) as i64;
                if far {
                    bytes.extend((relative as i32).to_le_bytes());
                } else {
                    let near = i8::try_from(relative).map_err(|_| {
                        let place = target.map_or(place.clone(), |given| source.at(given.span()));
                        place.error(
                            format!("a jmp8 does not reach a target {relative} bytes after its end"),
                            "too far",
                            "choose a target from 128 bytes before to 127 bytes after the end of the \
                             jump, or use `jmp32`",
                        )
                    })?;
                    bytes.extend(near.to_le_bytes());
                }
            }
        }
        if bytes.len() > LONGEST_SITE {
            return Err(place.error(
                format!("a site has at most {LONGEST_SITE} bytes"),
                "too long",
                "leave out what the protocol does not write",
            ));
        }
    }
    if let Some(target) = unused {
        return Err(source.at(target.span()).error(
            "a target without a branch that takes it",
            "not used",
            "remove it, or write the branch by name (`jmp8`, `jmp32`, `call`); hex bytes keep their own \
             displacement",
        ));
    }
    let instructions = decode(&bytes, address, &place, true)?;
    let boundaries =
        instructions.iter().map(|instruction| (instruction.ip() - address) as usize).collect::<Vec<_>>();
    let version = Version { code: Code { bytes, boundaries }, instructions, place };
    balanced(&version)?;
    Ok(version)
}

fn unknown_name(text: &str, place: &Place) -> ScenarioError {
    let names = NAMES.map(|(name, ..)| name);
    let help = match nearest(text, names) {
        Some(name) => format!("did you mean `{name}`? Otherwise give bytes, as in \"0f 1f 44 00 00\""),
        None => format!("give bytes, as in \"0f 1f 44 00 00\", or one of {}", names.join(", ")),
    };
    place.error(format!("`{text}` is neither bytes in hex nor the name of an instruction"), "unknown", help)
}

fn decode(
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
                    format!(
                        "the instruction at byte {at} ({}) is cut by the end of the site",
                        rest.join(" ")
                    ),
                    "add its missing bytes, or end the site before it",
                ),
                _ => (
                    format!("byte {at} begins no instruction ({})", rest.join(" ")),
                    "correct the bytes; 64-bit mode is meant",
                ),
            };
            return Err(place.error(message, "does not decode", help));
        }
        if instruction.mnemonic() == Mnemonic::Int3 && versions && at == 0 {
            return Err(place.error(
                format!("`int3` (byte {at}) is no version of a site: what it does is up to the handler"),
                "traps",
                "give the instruction that the trap stands for, and store the int3 as a step: `store = { what = \"int3\" }`",
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

fn intermediate(site: &Site, pads: &[Pad], text: &str, place: &Place) -> Result<Vec<u8>, ScenarioError> {
    let Some(bytes) = hex(text).or_else(|| named(text)) else {
        return Err(unknown_name(text, place));
    };
    let instructions = decode(&bytes, site.address, place, false)?;
    let [instruction] = instructions.as_slice() else {
        return Err(place.error(
            format!("an intermediate is one instruction, these are {}", instructions.len()),
            "more than one",
            "list the instructions one by one, as they stand at the first byte",
        ));
    };
    if bytes.len() > site.len() {
        return Err(place.error(
            format!("the intermediate has {} bytes, the site {}", bytes.len(), site.len()),
            "longer than the site",
            "an intermediate stands within the site",
        ));
    }
    let branches = !matches!(
        instruction.flow_control(),
        FlowControl::Next | FlowControl::Interrupt | FlowControl::Return
    );
    let target = instruction.near_branch_target();
    if branches && !site.contains(target) && pads.iter().all(|pad| pad.address != target) {
        return Err(place.error(
            format!("`{instruction}` goes to {target:#x}, where there is no landing pad"),
            "leads nowhere",
            "let it go to the end of the site, to the target of old or new, or into the site",
        ));
    }
    Ok(bytes)
}

/// Bytes in hex, or of named instructions that have no displacement, in a row.
pub(super) fn bytes(text: &str) -> Option<Vec<u8>> {
    hex(text).or_else(|| {
        let parts: Option<Vec<Vec<u8>>> = text.split_whitespace().map(named).collect();
        parts.map(|parts| parts.concat()).filter(|bytes| !bytes.is_empty())
    })
}

fn named(text: &str) -> Option<Vec<u8>> {
    let (_, opcode, displacement) = NAMES.iter().find(|(name, ..)| *name == text)?;
    (*displacement == Displacement::None).then(|| opcode.to_vec())
}

/// What a handler does that emulates this version, if that can be done without executing it.
pub(super) fn emulate(version: &Version, next: u64) -> Option<Action> {
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
        FlowControl::Return => Some(Action::Resume(next + pads::RETURN)),
        FlowControl::Call if effective.next().is_none() => Some(Action::Call { target, return_to: next }),
        _ => None,
    }
}
