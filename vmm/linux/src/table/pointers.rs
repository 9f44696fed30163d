//! Tables of bare addresses; the code there determines the rest.
//!
//! | section | entry | code | applied by |
//! |---|---|---|---|
//! | `.retpoline_sites` | s32 | call or jump, conditional too, to an indirect thunk | `apply_retpolines()` |
//! | `.return_sites` | s32 | jump to the return thunk | `apply_returns()` |
//! | `.call_sites` | s32 | direct call | `callthunks_patch_builtin_calls()` |
//! | `.ibt_endbr_seal` | s32 | ENDBR64 | `apply_seal_endbr()` |
//! | `.smp_locks` | s32 | LOCK prefix | `alternatives_smp_unlock()` |
//! | `.parainstructions` | u64 address, u8 type, u8 length, padding: 16 bytes | call through memory | `apply_paravirt()` |
//!
//! All are in arch/x86/kernel/alternative.c except for callthunks.c, and all are applied once, at boot or when a module
//! is loaded. An s32 is relative to itself; zeros pad the end of the table. The other version of a site is:
//!
//! | site | becomes |
//! |---|---|
//! | retpoline | a call or jump through the register, on a CPU that needs no thunk |
//! | return | a return and INT3s, on a CPU that needs no thunk |
//! | call | a counted call, on a CPU with call depth tracking |
//! | ENDBR64 | `gen_endbr_poison()`, a NOP |
//! | LOCK | a DS prefix while only one CPU is online |
//! | paravirt | a call of the function that `pv_ops` has in the file, and NOPs, as on bare metal |
//!
//! A module's file does not contain the function or thunk, so the other version of its retpolines, paravirt calls and
//! counted calls is unknown.

use iced_x86::{Decoder, DecoderOptions};

use super::{Name, Tables, branch, each, relative, s32, s64, target, thunk};
use crate::error::ImageError;
use crate::nops::{self, Style};
use crate::read::Binary;
use crate::site::{Kind, State};

struct Pointers {
    name: Name,
    kind: Kind,
    what: &'static str,
    /// Allowed states of the code there.
    states: &'static [State],
}

const TABLES: [Pointers; 5] = [
    Pointers {
        name: Name { section: ".retpoline_sites", start: "__retpoline_sites", stop: "__retpoline_sites_end" },
        kind: Kind::Retpoline,
        what: "not a call or jump",
        states: &[State::Call, State::Jmp, State::Jcc, State::Indirect],
    },
    Pointers {
        name: Name { section: ".return_sites", start: "__return_sites", stop: "__return_sites_end" },
        kind: Kind::Return,
        what: "not a jump or return",
        states: &[State::Jmp, State::Ret, State::Jcc],
    },
    Pointers {
        name: Name { section: ".call_sites", start: "__call_sites", stop: "__call_sites_end" },
        kind: Kind::CallThunk,
        what: "not a call",
        states: &[State::Call, State::Jmp, State::Jcc],
    },
    Pointers {
        name: Name { section: ".ibt_endbr_seal", start: "__ibt_endbr_seal", stop: "__ibt_endbr_seal_end" },
        kind: Kind::Endbr,
        what: "not an ENDBR64",
        states: &[State::Endbr],
    },
    Pointers {
        name: Name { section: ".smp_locks", start: "__smp_locks", stop: "__smp_locks_end" },
        kind: Kind::Lock,
        what: "not an instruction",
        // The kernel checks the byte and skips anything but LOCK, as in `lock` after an operand size prefix.
        states: &[State::Lock, State::Code],
    },
];

const PARAVIRT: Name =
    Name { section: ".parainstructions", start: "__parainstructions", stop: "__parainstructions_end" };
const PARAVIRT_FORMAT: (usize, &str) = (16, "16 bytes, absolute");
/// Maximum length of an instruction in bytes (SDM vol. 2, 2.3.11).
const LONGEST: usize = 15;
/// `gen_endbr_poison()` of arch/x86/include/asm/ibt.h, a NOP with an operand size prefix.
const SEALED: [u8; 4] = [0x66, 0x0f, 0x1f, 0x00];
/// The prefix that replaces LOCK and has no effect.
const DS: u8 = 0x3e;

pub fn read(binary: &Binary, tables: &mut Tables) -> Result<(), ImageError> {
    for pointers in &TABLES {
        one(binary, pointers, tables)?;
    }
    paravirt(binary, tables)
}

fn one(binary: &Binary, pointers: &Pointers, tables: &mut Tables) -> Result<(), ImageError> {
    let memory = &binary.memory;
    let counting = if pointers.kind == Kind::CallThunk { thunk::counting(binary) } else { None };
    each(binary, &pointers.name, (4, "4 bytes, relative"), tables, |table, tables, entry, raw| {
        if s32(raw, 0) == 0 {
            tables.pad(table);
            return Ok(());
        }
        let code = relative(entry, raw, 0);
        let Some(from) = memory.from(code).filter(|_| memory.executable(code)) else {
            return Err(table.wrong(entry, format!("{code:#x} is not in executable memory")));
        };
        let from = &from[..from.len().min(LONGEST)];
        let length = match pointers.kind {
            Kind::Lock => 1,
            _ => Decoder::with_ip(64, from, code, DecoderOptions::NONE).decode().len(),
        };
        let bytes = &from[..length];
        if !pointers.states.contains(&State::of(bytes)) {
            return Err(table.unlike(entry, code, &from[..from.len().min(6)], pointers.what));
        }
        let branches = matches!(State::of(bytes), State::Call | State::Jmp | State::Jcc) && length >= 5;
        let target = branches.then(|| target(code, bytes));
        let other = match (pointers.kind, target) {
            (Kind::Retpoline, Some(target)) => thunk::retpoline(binary, bytes, target),
            (Kind::Return, _) => thunk::returns(bytes),
            (Kind::CallThunk, Some(target)) => thunk::counted(counting, code, bytes, target),
            (Kind::Endbr, _) => Some(SEALED.to_vec()),
            (Kind::Lock, _) => (State::of(bytes) == State::Lock).then(|| vec![DS]),
            _ => None,
        };
        let site = tables.add(pointers.kind, code, bytes);
        (site.other, site.target) = (other, target);
        Ok(())
    })
}

fn paravirt(binary: &Binary, tables: &mut Tables) -> Result<(), ImageError> {
    let symbols = &binary.symbols;
    let (operations, nothing) = (symbols.address("pv_ops"), symbols.address("_paravirt_nop"));
    each(binary, &PARAVIRT, PARAVIRT_FORMAT, tables, |table, tables, entry, raw| {
        let (code, length) = (s64(raw, 0) as u64, usize::from(raw[9]));
        let bytes = binary.memory.bytes(code, length).filter(|_| binary.memory.executable(code));
        let Some(bytes) = bytes.filter(|bytes| !bytes.is_empty()) else {
            return Err(
                table.wrong(entry, format!("its {length} bytes at {code:#x} are not in executable memory"))
            );
        };
        let function = operations.and_then(|table| binary.memory.u64(table + 8 * u64::from(raw[8])));
        let site = tables.add(Kind::Paravirt, code, bytes);
        site.target = function;
        site.other = function.and_then(|function| {
            // `paravirt_patch()` drops calls of `_paravirt_nop` and turns calls of missing functions into a BUG.
            let mut other = match function {
                0 => branch(&[0xe8], code, symbols.address("paravirt_BUG")?)?,
                function if Some(function) == nothing => Vec::new(),
                function => branch(&[0xe8], code, function)?,
            };
            let used = other.len();
            other.resize(length.max(used), 0x90);
            nops::fill(&mut other[used..], Style::Several);
            (other.len() == length).then_some(other)
        });
        Ok(())
    })
}
