//! Writes the file of a scenario: what the site is, what was changed, and the tables.

use crossmod_linux::code::{Flow, Insn, decode};
use crossmod_linux::{Image, Kind, Site, State, hex};
use iced_x86::{Decoder, DecoderOptions};

use super::{Candidate, EXECUTORS, PatchSetup, StandIn, Versions};
use crate::scenario;

/// Replaces everything that is not printable, and quotes: names and banners in images are untrusted.
pub fn plain(text: &str) -> String {
    text.chars()
        .map(|c| if (c.is_ascii_graphic() && c != '"' && c != '\\') || c == ' ' { c } else { '?' })
        .collect()
}

/// The file name of a scenario, without extension.
pub fn file_stem(name: &str) -> String {
    let short = name.strip_prefix("sites/").unwrap_or(name);
    short.chars().map(|c| if c.is_ascii_alphanumeric() || "_.+-".contains(c) { c } else { '_' }).collect()
}

/// A description of a version.
fn version(image: &Image, versions: &Versions, bytes: &[u8]) -> String {
    let state = State::of(bytes);
    let instruction = Decoder::with_ip(64, bytes, versions.address, DecoderOptions::NONE).decode();
    let target =
        matches!(state, State::Jmp | State::Call | State::Jcc).then(|| instruction.near_branch_target());
    match target {
        Some(target) => {
            format!("{} to {}, {target:#x}", state.name(), plain(&image.binary.symbols.label(target)))
        }
        None => format!("{}, {} bytes", state.name(), bytes.len()),
    }
}

fn sort(site: &Site) -> &'static str {
    match (site.kind, site.tail) {
        (Kind::JumpLabel, _) => "jump label",
        (Kind::StaticCall, true) => "static call in tail position",
        (Kind::StaticCall, false) => "static call",
        (Kind::Mcount, _) => "entry of a traced function",
        (Kind::CallThunk, _) => "call that may be counted",
        (Kind::Lock, _) => "lock prefix",
        (Kind::Return, _) => "return through a thunk",
        (Kind::Retpoline, _) => "branch through a thunk",
        (Kind::Endbr, _) => "target of indirect branches",
        (kind, _) => kind.name(),
    }
}

/// When the kernel patches a kind, if not while all CPUs run.
fn when(kind: Kind) -> Option<&'static str> {
    match kind {
        Kind::JumpLabel | Kind::StaticCall | Kind::Mcount => None,
        Kind::Lock => Some("Linux patches it while only one CPU is online."),
        _ => Some(
            "Linux patches it once, before other CPUs or the module's code run. This scenario shows what would happen if\n\
             # it patched the site while CPUs run it.",
        ),
    }
}

fn place(versions: &Versions, site: &Site) -> String {
    if versions.prefix {
        return "is one byte and crosses no boundary".into();
    }
    let Some((boundary, split)) = site.crossing().zip(site.split()) else {
        return "is inside an aligned quadword".into();
    };
    let what = match boundary {
        4096 => "page".to_owned(),
        64 => "cache line".to_owned(),
        8 => "quadword".to_owned(),
        other => format!("block of {other} bytes"),
    };
    format!("crosses the end of a {what}, {split} bytes before and {} after", site.len() - split)
}

pub(super) fn text(
    image: &Image,
    site: &Site,
    versions: &Versions,
    setup: &PatchSetup,
    real: [&[u8]; 2],
    candidate: &Candidate,
) -> String {
    let (label, sort) = (plain(&image.label(site)), sort(site));
    let PatchSetup { protocol, rule, nmi, passes } = setup;
    let [old, new] = &candidate.bytes;
    let release = image.release.as_deref().map_or("?", |release| release.split(" (").next().unwrap_or("?"));
    let article = if sort.starts_with(['a', 'e']) { "An" } else { "A" };
    let mut lines = vec![
        format!("# {article} {sort} of Linux {} ({}).", plain(release), plain(&image.name)),
        format!("# site:  {label}, {:#x}", site.address),
    ];
    for (name, bytes) in ["old", "new"].into_iter().zip(real) {
        lines.push(format!("# {name}:   {} ({})", hex(bytes), version(image, versions, bytes)));
    }
    lines.extend(site.key.map(|key| format!("# key:   {}", plain(&image.binary.symbols.label(key)))));
    lines.push(format!("# It {}.", place(versions, site)));
    lines.extend(when(site.kind).map(|when| format!("# {when}")));
    if versions.left_out > 0 {
        let (first, all) = (old.len(), old.len() + versions.left_out);
        let why = "because it cannot have more";
        lines.push(format!("# The scenario has the first {first} of its {all} bytes, {why}."));
    }
    lines.extend(changes(candidate));
    lines.push(format!("title = \"{label}, {sort} by {protocol}\"\ntags = [\"linux\", \"{}\"]", site.kind));
    lines.push(format!("protocol = \"{protocol}\"\nexpect = \"safe\"\nrule = \"{rule}\""));
    let own = if versions.prefix { one_byte(protocol) } else { None };
    lines.extend(own.as_ref().map(|(order, _)| order.clone()));
    lines.push(format!("\n[site]\nold = \"{}\"\nnew = \"{}\"", hex(old), hex(new)));
    lines.push(format!("offset = {:#x}\n", versions.address % 4096));
    lines.push(format!("[executors]\ncount = {EXECUTORS}\npasses = {passes}"));
    if *nmi > 0 {
        lines.push(format!("\n[events]\nnmi = {nmi}               # its handler runs the site"));
    }
    let handled =
        scenario::protocols().iter().any(|(name, text)| name == protocol && text.contains("[handler]"));
    if handled && let Some((resume, why)) = resume(new, versions.address) {
        lines.push(format!("\n[handler]\nresume = {resume}          # {why}"));
    }
    if own.is_some_and(|(_, step)| step) {
        let byte = hex(&new[..1]);
        lines.push(format!("\n[[step]]\nlabel = \"prefix\"\nstore = {{ at = 0, bytes = \"{byte}\" }}"));
    }
    lines.join("\n") + "\n"
}

fn changes(candidate: &Candidate) -> Vec<String> {
    let mut lines = Vec::new();
    if candidate.adapted && candidate.stand_ins.is_empty() {
        lines.push(
            "# Its targets are too close for landing pads and have been moved apart below. The same bytes differ, and\n\
             # blocks end at the same bytes."
                .into(),
        );
    }
    for StandIn { version, at, real, bytes, why } in &candidate.stand_ins {
        let which = ["old", "new"][*version];
        lines.push(format!("# In {which}, `{}` stands for `{}` at byte {at}: {why}.", hex(bytes), hex(real)));
    }
    if !candidate.stand_ins.is_empty() {
        lines.push("# The stand-ins have the lengths and the control flow of the real instructions.".into());
    }
    if candidate.misses > 0 {
        let what = "differ between old and new where they are equal in the kernel, or the other way round";
        lines.push(format!("# {} bytes {what}.", candidate.misses));
    }
    lines
}

/// Adapts a protocol that stores whole versions to a prefix, which the kernel stores alone: its `without` and `order`, and
/// whether the scenario adds a step.
fn one_byte(protocol: &str) -> Option<(String, bool)> {
    let shipped = scenario::protocols();
    let (_, text) = shipped.iter().find(|(name, _)| name == protocol)?;
    let table: toml::Table = text.parse().ok()?;
    let (mut order, mut without, mut own) = (Vec::new(), Vec::new(), false);
    for step in table.get("step")?.as_array()? {
        let label = format!("{:?}", step.get("label")?.as_str()?);
        match step.get("store").and_then(|store| store.get("what")).and_then(toml::Value::as_str) {
            Some("new") => {
                without.push(label);
                order.push("\"prefix\"".to_owned());
                own = true;
            }
            // The tail of a prefix does not differ.
            Some("new-tail") => without.push(label),
            _ => order.push(label),
        }
    }
    let order = format!("without = [{}]\norder = [{}]", without.join(", "), order.join(", "));
    (!without.is_empty()).then_some((order, own))
}

/// What the handler does, and why, unless it does what the new version would.
fn resume(new: &[u8], address: u64) -> Option<(String, &'static str)> {
    let insns = decode(new, address);
    if insns.iter().all(|insn| matches!(insn.flow, Flow::Nop | Flow::Fence)) {
        let fence = insns.iter().any(|insn| insn.flow == Flow::Fence);
        return fence.then(|| ("\"next\"".into(), "a fence has no outcome"));
    }
    let mut effective = insns.iter().filter(|insn| insn.flow != Flow::Nop);
    let (first, second) = (effective.next(), effective.next());
    match (first?.flow, second) {
        (Flow::Leaves | Flow::Returns, _) | (Flow::Calls, None) => None,
        (Flow::Branches, None) => {
            Some((condition(new, first?, address), "the flags of a pass decide the branch"))
        }
        (_, None) if State::of(new) == State::Zero => {
            Some(("\"next\"".into(), "EAX is 0 when a pass arrives, as after the XOR"))
        }
        _ => Some(("\"retry\"".into(), "scenarios cannot emulate the new version, so the handler waits")),
    }
}

/// Where a conditional jump goes: a pass arrives with the flags of an XOR, whose result is zero and has even parity.
fn condition(new: &[u8], insn: &Insn, address: u64) -> String {
    let Some(code) = new[insn.at..].iter().find_map(|byte| match byte {
        0x70..=0x8f => Some(byte & 0xf),
        _ => None,
    }) else {
        return "\"next\"".into();
    };
    // Numbers of conditions (SDM vol. 2, appendix B.1.4.7): equal, below or equal, parity, less or equal hold.
    let met = matches!(code >> 1, 2 | 3 | 5 | 7);
    if met == (code & 1 == 1) {
        return "\"next\"".into();
    }
    let mut decoder = Decoder::with_ip(64, &new[insn.at..], address + insn.at as u64, DecoderOptions::NONE);
    let target = decoder.decode().near_branch_target();
    format!("{{ at = {} }}", target.wrapping_sub(address) as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_conditional_jump_goes_where_the_flags_of_xor_lead() {
        let resume = |new: &[u8]| resume(new, 0x1000).map(|(resume, _)| resume);
        assert_eq!(resume(&[0x0f, 0x84, 0x10, 0, 0, 0]).unwrap_or_default(), "{ at = 22 }", "JE");
        assert_eq!(resume(&[0x0f, 0x85, 0x10, 0, 0, 0]).unwrap_or_default(), "\"next\"", "JNE");
        assert_eq!(resume(&[0x78, 0x10]).unwrap_or_default(), "\"next\"", "JS");
        assert_eq!(resume(&[0x79, 0x10]).unwrap_or_default(), "{ at = 18 }", "JNS");
        assert_eq!(resume(&[0x7f, 0x10]).unwrap_or_default(), "\"next\"", "JG");
        assert_eq!(resume(&[0x2e, 0x2e, 0x2e, 0x31, 0xc0]).unwrap_or_default(), "\"next\"");
        assert_eq!(resume(&[0x0f, 0xae, 0xe8]).unwrap_or_default(), "\"next\"", "LFENCE");
        assert_eq!(resume(&[0x0f, 0xae, 0xe8, 0xeb, 0x10]).unwrap_or_default(), "\"retry\"");
        assert_eq!(resume(&[0x31, 0xc9, 0x90]).unwrap_or_default(), "\"retry\"");
        for emulated in [&[0x90][..], &[0xe8, 0, 1, 0, 0, 0x90], &[0xc3, 0xcc, 0xcc], &[0xeb, 0x10, 0xcc]] {
            assert_eq!(resume(emulated), None, "{emulated:02x?}");
        }
    }

    #[test]
    fn a_prefix_is_stored_alone() {
        let (order, own) = one_byte("plain_store").unwrap_or_default();
        assert_eq!((order.as_str(), own), ("without = [\"store\"]\norder = [\"prefix\"]", true));
        let (order, own) = one_byte("text_poke_fixup").unwrap_or_default();
        assert!(!own && order.contains("without = [\"tail\"]"), "{order}");
    }
}
