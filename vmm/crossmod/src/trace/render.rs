//! A schedule as text: one column for the patcher, one for each CPU.

use std::fmt::Write;

use crossmod_abi::{private, shared, va};
use crossmod_explore::error::EngineError;
use crossmod_explore::{Model, State, Transition};
use crossmod_model::hex;
use crossmod_model::layout::master;
use crossmod_model::plan::{Action, Function, OpKind, Plan, Quiet, Word};
use crossmod_model::property::Violation;
use crossmod_model::state::Actor;
use crossmod_model::state::store_buffer::Pending;
use crossmod_model::x86::decode;
use itertools::Itertools;

/// One transition of a schedule.
#[derive(Debug, Clone)]
pub struct TraceRow {
    /// Whose transition it is: its column.
    pub actor: Actor,
    /// The step in words.
    pub what: String,
    /// Bytes of the site after the transition.
    pub site: Vec<u8>,
    /// The violations that it shows.
    pub violations: Vec<Violation>,
    /// How the CPU continued after a torn fetch.
    pub aftermath: Option<String>,
}

/// Describes a transition from the state before it; `site` and the violations are still empty.
pub fn describe(model: &mut Model<'_>, state: &State, step: Transition) -> Result<TraceRow, EngineError> {
    let what = match step {
        Transition::Patcher => patcher(model, state),
        Transition::Piece(piece) => {
            let piece = &model.pieces()[usize::from(piece)];
            let step = &model.plan().program[piece.op].step;
            format!("{step}: store site+{} <- {}", piece.offset, hex::spaced(&piece.bytes))
        }
        Transition::Observe(slot) => format!("sees CPU {slot} outside the site"),
        Transition::Execute(slot, view) => {
            let site = model.seen(state, usize::from(slot), view)?;
            instruction(model, state, usize::from(slot), &site)
        }
        Transition::Ipi(_, function) => format!("IPI `{}` delivered", function.name()),
        Transition::Nmi(_) => "NMI delivered".into(),
        Transition::Irq(_) => "device interrupt delivered".into(),
        Transition::RaiseNmi(_) => "NMI raised, latched".into(),
        Transition::Smi(_) => "SMI, and back by RSM".into(),
        Transition::MachineCheck(_) => "machine check delivered".into(),
        Transition::Commit(slot) => committed(model, state, usize::from(slot)),
    };
    let mut row =
        TraceRow { actor: step.actor(), what, site: Vec::new(), violations: Vec::new(), aftermath: None };
    if let Some(slot) = step.executor() {
        let ghost = model.ghost_of(state, usize::from(slot));
        let waits = |function: &Function| {
            ghost.pending & function.bit() != 0 && step != Transition::Ipi(slot, *function)
        };
        let waiting = Function::maskable().filter(waits);
        let mut pending: Vec<&str> = waiting.map(|function| function.name()).collect();
        if ghost.nmi_latched && !matches!(step, Transition::Nmi(_)) {
            pending.push("NMI");
        }
        if !pending.is_empty() {
            let _ = write!(row.what, " [pending: {}]", pending.join(", "));
        }
    }
    Ok(row)
}

fn patcher(model: &Model<'_>, state: &State) -> String {
    let plan = model.plan();
    let Some(op) = plan.program.get(usize::from(state.global.pc)) else { return "(finished)".into() };
    let who = |mask: u32| {
        if mask == plan.everyone() {
            return "all".to_owned();
        }
        (0..plan.executors.len()).filter(|slot| mask & (1 << slot) != 0).join(", ")
    };
    let what = match &op.kind {
        OpKind::Store { .. } => "store".into(),
        OpKind::Describe(part) => match plan.handler.actions.get(usize::from(*part)) {
            Some(Action::Resume(to)) => format!("descriptor: resume at {}", place(model, *to)),
            Some(Action::Call { target, .. }) => format!("descriptor: call {}", place(model, *target)),
            None => "descriptor".into(),
        },
        OpKind::Armed(true) => "armed <- 1".into(),
        OpKind::Armed(false) => "armed <- 0".into(),
        OpKind::Broadcast { function: Function::Nmi, mask } => format!("NMI to {}", who(*mask)),
        OpKind::Broadcast { function, mask } => format!("IPI `{}` to {}", function.name(), who(*mask)),
        OpKind::WaitAcks { mask } => format!("acknowledged by {}", who(*mask)),
        OpKind::WaitWord { word, value } => format!("sees {} = {value}", word_name(plan, *word)),
        OpKind::SetWord { word, value } => format!("{} <- {value}", word_name(plan, *word)),
        OpKind::AddWord { word, number } => format!("{} += {number}", word_name(plan, *word)),
        OpKind::Take(word) => format!("takes {}", word_name(plan, *word)),
        OpKind::SetEach { word, value } => format!("{} <- {value} everywhere", each_name(plan, *word)),
        OpKind::WaitEach { word, mask } => format!("sees {} = 0 in {}", each_name(plan, *word), who(*mask)),
        OpKind::AssumeSynchronised => "assumed: hardware synchronises".into(),
        OpKind::Quiesce(Quiet::Site) => "all have been outside".into(),
        OpKind::Quiesce(Quiet::Targets) => "all have been outside, targets too".into(),
        OpKind::Quiesce(Quiet::Each(word)) => format!("all have had {} = 0", each_name(plan, *word)),
        OpKind::Delay => "interrupted, does something else".into(),
        OpKind::FreeDescriptor => "descriptor withdrawn".into(),
        OpKind::FreeTarget(target) => format!("{} withdrawn", place(model, *target)),
        OpKind::Done(_) => "done".into(),
    };
    format!("{}: {what}", op.step)
}

/// The store that leaves a CPU's store buffer.
fn committed(model: &Model<'_>, state: &State, slot: usize) -> String {
    let plan = model.plan();
    let word = |base: u64, offset: u8| symbols(model, &format!("{:#x}", base + u64::from(offset)));
    match model.buffer_of(state, slot).0.first() {
        Some(Pending::Shared { offset, value, .. }) => {
            format!("store buffer: {} <- {value} reaches memory", word(va::SHARED, *offset))
        }
        Some(Pending::Text { store }) => {
            let op = &plan.programs.stores[usize::from(*store)].1;
            let OpKind::Store { offset, bytes } = &op.kind else { return "store buffer".into() };
            format!("store buffer: {}: site+{offset} <- {} reaches memory", op.step, hex::spaced(bytes))
        }
        Some(Pending::Own { offset, .. }) => {
            format!("store buffer: {} reaches memory", word(va::PRIVATE, *offset))
        }
        None => "store buffer: nothing".into(),
    }
}

/// A shared word by name.
pub fn word_name(plan: &Plan, word: Word) -> String {
    match word {
        Word::Named(number) => plan.words[usize::from(number)].name.clone(),
        other => format!("{other:?}").to_lowercase(),
    }
}

fn each_name(plan: &Plan, word: u8) -> &str {
    &plan.each[usize::from(word)].name
}

/// The instruction as this vCPU fetches it, marked `[stale]` where memory holds other bytes.
fn instruction(model: &Model<'_>, state: &State, slot: usize, site: &[u8]) -> String {
    let cpu = model.cpu_of(state, slot);
    let rip = cpu.regs.rip;
    let history = model.history_of(state);
    let Some(window) = model.window(rip, site) else { return format!("{rip:#x}: no code") };
    let decoded = decode::decode(window.bytes(), rip);
    let mut mnemonic = symbols(model, &decode::disassemble(window.bytes(), rip));
    if let Some(target) = decoded.map(|instruction| instruction.near_branch_target()).filter(|&to| to != 0) {
        mnemonic = mnemonic.replace(&format!("{target:#x}"), &place(model, target));
    }
    let at = place(model, rip);
    let site = &model.plan().site;
    if !site.contains(rip) {
        return format!("{at}: {mnemonic}");
    }
    let offset = (rip - site.address) as usize;
    let len = decoded.map_or(site.len() - offset, |instruction| instruction.len());
    let seen = &window.bytes()[..len.min(window.bytes().len())];
    let held = &history.current()[offset..];
    let stale = if held.iter().zip(seen).any(|(held, seen)| held != seen) { " [stale]" } else { "" };
    format!("{at}: {}  {mnemonic}{stale}", hex::spaced(seen))
}

/// Replaces addresses in a disassembly by names.
fn symbols(model: &Model<'_>, text: &str) -> String {
    let shared = [
        (shared::ARMED, "armed"),
        (shared::ACTION, "action"),
        (shared::SITE, "descriptor.site"),
        (shared::RESUME, "resume"),
        (shared::RETURN, "return"),
        (shared::HITS, "hits"),
        (shared::ARRIVED, "arrived"),
        (shared::RELEASE, "release"),
        (shared::LOCK, "lock"),
        (shared::FLAG, "flag"),
        (shared::SEND, "send"),
        (shared::DONE, "done"),
    ];
    let private = [(private::ACK, "ack"), (private::NMI_BUSY, "nmi.busy"), (private::NMI_AGAIN, "nmi.again")];
    let shared = shared.into_iter().map(|(offset, name)| (va::SHARED + offset, name.to_owned()));
    let private = private.into_iter().map(|(offset, name)| (va::PRIVATE + offset, name.to_owned()));
    let mut names: Vec<(u64, String)> = shared.chain(private).collect();
    let plan = model.plan();
    let words = (0..).zip(&plan.words);
    names.extend(words.map(|(n, word)| (va::SHARED + shared::WORD + 4 * n, word.name.clone())));
    let each = (0..).zip(&plan.each);
    names.extend(each.map(|(n, word)| (va::PRIVATE + private::WORD + 4 * n, word.name.clone())));
    let site = 0..plan.site.len() as u64;
    names.extend(site.map(|offset| (master(plan.site.address) + offset, format!("site+{offset}"))));
    names.extend(plan.pads.iter().map(|pad| (pad.address, place(model, pad.address))));
    let mut out = text.to_owned();
    // Highest addresses first, because a shorter number may be a prefix of a longer one.
    names.sort_by_key(|&(address, _)| std::cmp::Reverse(address));
    for (address, name) in names {
        out = out.replace(&format!("{address:#x}"), &name);
    }
    out
}

/// An address by name: `site+2`, `next`, `bp_plain+0x7`.
fn place(model: &Model<'_>, address: u64) -> String {
    let plan = model.plan();
    if plan.site.contains(address) {
        let offset = (address - plan.site.address) as usize;
        return match plan.site.part(offset).map(|part| &plan.site.parts[part]) {
            Some(part) if !part.name.is_empty() => format!("{}+{}", part.name, offset - part.offset),
            _ => format!("site+{offset}"),
        };
    }
    let here = plan.pads.iter().find(|pad| (pad.address..pad.address + 4).contains(&address));
    if let Some(pad) = here {
        return match address - pad.address {
            0 => pad.name.clone(),
            offset => format!("{}+{offset}", pad.name),
        };
    }
    model.address(address)
}

/// Lays rows out in columns; `width` is that of the terminal, in characters.
pub fn render(plan: &Plan, rows: &[TraceRow], width: usize) -> String {
    let columns = plan.executors.len() + 1;
    let site = plan.site.len() * 3 - 1;
    let fixed = 5 + site + 2;
    let column = (width.saturating_sub(fixed) / columns).clamp(26, 48);
    let mut out = String::new();
    let mut header = format!("{:>4} {:site$} ", "", "site");
    for index in 0..columns {
        let name = if index == 0 { "patcher".to_owned() } else { format!("CPU {}", index - 1) };
        let _ = write!(header, " {name:column$}");
    }
    let _ = writeln!(out, "{}", header.trim_end());
    let mut shown: &[u8] = &plan.site.old.bytes;
    let _ = writeln!(out, "{:>4} {}", "", hex::spaced(shown));
    for (number, row) in (1..).zip(rows) {
        let bytes = if row.site == shown { String::new() } else { hex::spaced(&row.site) };
        shown = &row.site;
        let indent = match row.actor {
            Actor::Patcher => 0,
            Actor::Executor(slot) => (1 + usize::from(slot)) * (column + 1),
        };
        let (mut number, mut bytes) = (number.to_string(), bytes);
        for part in wrap(&row.what, column - 1) {
            let text = format!("{number:>4} {bytes:site$}  {:indent$}{part}", "");
            let _ = writeln!(out, "{}", text.trim_end());
            (number, bytes) = (String::new(), String::new());
        }
        for violation in &row.violations {
            let _ = writeln!(out, "{:>4} ^^^^ {}: {}", "", violation.property, violation.detail);
        }
        if let Some(aftermath) = &row.aftermath {
            let _ = writeln!(out, "{:>4}      {aftermath}", "");
        }
    }
    out
}

fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let last = lines.len() - 1;
        let line = &mut lines[last];
        if !line.is_empty() && line.len() + 1 + word.len() > width {
            lines.push(format!("  {word}"));
        } else {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_cells_wrap_with_an_indent() {
        assert_eq!(wrap("one two three four", 9), ["one two", "  three", "  four"]);
        assert_eq!(wrap("", 9), [""]);
    }
}
