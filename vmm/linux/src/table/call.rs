//! Static calls: `.static_call_sites`.
//!
//! `struct static_call_site` of include/linux/static_call_types.h: s32 address, s32 key, each relative to itself. Bit 0
//! of the key marks a tail call, bit 1 init code (set at boot, 0 in the file).
//!
//! On disk, a site calls or jumps to its trampoline `__SCT__name`; since 6.3 (923510c88d2b) it may be a conditional
//! jump. At boot, `static_call_init()` (kernel/static_call_inline.c) patches every site to its key's function, and a site
//! never returns to the trampoline. `__static_call_transform()` of arch/x86/kernel/static_call.c writes a call of the
//! function; for NULL a NOP, or a return in tail position; for `__static_call_return0` an `xor %eax,%eax` with prefixes.
//! That is the other version of the site. The key begins with the address of the function.

use super::jump::NOP5;
use super::{Name, Tables, branch, each, relative, target};
use crate::error::ImageError;
use crate::read::Binary;
use crate::site::{Kind, State};

const NAME: Name = Name {
    section: ".static_call_sites",
    start: "__start_static_call_sites",
    stop: "__stop_static_call_sites",
};
const FORMAT: (usize, &str) = (8, "8 bytes, relative");
const XOR5RAX: [u8; 5] = [0x2e, 0x2e, 0x2e, 0x31, 0xc0];
const RET5: [u8; 5] = [0xc3, 0xcc, 0xcc, 0xcc, 0xcc];
const TAIL: u64 = 1;
const FLAGS: u64 = 3;

pub fn read(binary: &Binary, tables: &mut Tables) -> Result<(), ImageError> {
    let memory = &binary.memory;
    let zero = binary.symbols.address("__static_call_return0");
    each(binary, &NAME, FORMAT, tables, |table, tables, entry, raw| {
        let (code, key) = (relative(entry, raw, 0), relative(entry, raw, 4));
        let tail = key & TAIL != 0;
        let key = key & !FLAGS;
        table.executable(entry, "code", code)?;
        let head = memory.bytes(code, 5).unwrap_or_default();
        let (opcode, length): (&[u8], usize) = match (head, tail) {
            ([0xe8, ..], false) => (&[0xe8], 5),
            ([0xe9, ..], true) => (&[0xe9], 5),
            ([0x0f, 0x80..=0x8f, ..], true) => (&head[..2], 6),
            (_, true) => return Err(table.unlike(entry, code, head, "not a jump")),
            (_, false) => return Err(table.unlike(entry, code, head, "not a call")),
        };
        let bytes = table.code(entry, code, length)?;
        // The kernel's keys are not in a module's file; assume NULL.
        let function = memory.u64(key).filter(|function| *function != 0);
        let other = match (function, State::of(bytes)) {
            (Some(function), State::Call) if Some(function) == zero => Some(XOR5RAX.to_vec()),
            (Some(function), _) => branch(opcode, code, function),
            (None, State::Call) => Some(NOP5.to_vec()),
            (None, State::Jmp) => Some(RET5.to_vec()),
            // A conditional jump becomes one to the return thunk, which the kernel chooses at boot.
            (None, _) => None,
        };
        let site = tables.add(Kind::StaticCall, code, bytes);
        site.other = other.filter(|other| other != bytes);
        (site.target, site.key, site.tail) = (Some(target(code, bytes)), Some(key), tail);
        Ok(())
    })
}
