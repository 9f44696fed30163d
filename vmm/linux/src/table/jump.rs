//! Jump labels: `__jump_table`.
//!
//! `struct jump_entry` of include/linux/jump_label.h. Since 4.19 (50ff18ab497a) it is s32 code, s32 target, s64 key,
//! each relative to itself: 16 bytes. Before, it was three absolute words: 24 bytes. The low two bits of the key are
//! flags: bit 0 is the layout of the branch; bit 1 marks init code, or asks objtool to turn a jump into a NOP.
//!
//! Code and length are those of arch/x86/kernel/jump_label.c: a NOP or a jump, of 2 or 5 bytes, with equal lengths in
//! both states. On disk, objtool has turned jumps into NOPs where the key is initially in that state.

use super::{Name, Table, Tables, branch, find, relative, s64};
use crate::error::ImageError;
use crate::read::Binary;
use crate::site::Kind;

const NAME: Name =
    Name { section: "__jump_table", start: "__start___jump_table", stop: "__stop___jump_table" };
pub const NOP2: [u8; 2] = [0x66, 0x90];
pub const NOP5: [u8; 5] = [0x0f, 0x1f, 0x44, 0x00, 0x00];
/// NOPs of kernels before 5.13 (a89dfde3dc3c): `ideal_nops` of arch/x86/include/asm/nops.h.
const OLDER_NOP5: [[u8; 5]; 2] = [[0x66, 0x66, 0x66, 0x66, 0x90], [0x3e, 0x8d, 0x74, 0x26, 0x00]];
const FLAGS: u64 = 3;

/// Code, target and key of an entry.
type Fields = (u64, u64, u64);
type Reader = fn(u64, &[u8]) -> Fields;

const FORMATS: [(usize, &str, Reader); 2] = [
    (16, "16 bytes, relative", |address, entry| {
        let key = address.wrapping_add(8).wrapping_add_signed(s64(entry, 8));
        (relative(address, entry, 0), relative(address, entry, 4), key & !FLAGS)
    }),
    (24, "24 bytes, absolute", |_, entry| {
        let word = |at| s64(entry, at) as u64;
        (word(0), word(8), word(16) & !FLAGS)
    }),
];

pub fn read(binary: &Binary, tables: &mut Tables) -> Result<(), ImageError> {
    let Some(table) = find(binary, &NAME)? else { return Ok(()) };
    let memory = table.memory;
    let fits = |&(size, _, fields): &(usize, &str, Reader)| {
        table.whole(size).is_ok()
            && table.entries(size).all(|(address, entry)| {
                let (code, target, _) = fields(address, entry);
                memory.executable(code) && memory.executable(target)
            })
    };
    let (size, format, fields) = FORMATS.into_iter().find(fits).unwrap_or(FORMATS[0]);
    table.whole(size)?;
    for (address, entry) in table.entries(size) {
        label(&table, address, fields(address, entry), tables)?;
    }
    tables.formats.insert(NAME.section, format);
    Ok(())
}

fn label(
    table: &Table<'_>,
    entry: u64,
    (code, target, key): Fields,
    tables: &mut Tables,
) -> Result<(), ImageError> {
    table.executable(entry, "code", code)?;
    table.executable(entry, "target", target)?;
    let head = table.code(entry, code, 2)?;
    let (bytes, other) = if head == NOP2 || head[0] == 0xeb {
        let distance = i8::try_from(target.wrapping_sub(code.wrapping_add(2)) as i64)
            .map_err(|_| table.wrong(entry, format!("a short jump does not reach {target:#x}")))?;
        let jump = vec![0xeb, distance as u8];
        if head == jump { (head, NOP2.to_vec()) } else { (head, jump) }
    } else {
        let head = table.code(entry, code, 5)?;
        let jump = branch(&[0xe9], code, target)
            .ok_or_else(|| table.wrong(entry, format!("a jump does not reach {target:#x}")))?;
        if head == jump { (head, NOP5.to_vec()) } else { (head, jump) }
    };
    let nop = bytes == NOP2 || bytes == NOP5 || OLDER_NOP5.iter().any(|nop| bytes == nop);
    let jump = other == NOP2 || other == NOP5;
    if !nop && !jump {
        let what = format!("neither a NOP nor a jump to {target:#x}");
        return Err(table.unlike(entry, code, bytes, &what));
    }
    let site = tables.add(Kind::JumpLabel, code, bytes);
    (site.other, site.target, site.key) = (Some(other), Some(target), Some(key));
    Ok(())
}
