//! Function entries that ftrace patches: `__mcount_loc`.
//!
//! u64 addresses (include/linux/ftrace.h), sorted when the kernel is built (scripts/sorttable.c). Since 6.12.x,
//! overridden weak functions leave zeros, which sort to the front. On disk, a site is a call of `__fentry__`; ftrace
//! turns it into a NOP at boot (arch/x86/kernel/ftrace.c), and back into a call while the function is traced. With
//! `CONFIG_HAVE_OBJTOOL_NOP_MCOUNT` it is a NOP on disk.

use super::jump::NOP5;
use super::{Name, Tables, branch, find, s64};
use crate::error::ImageError;
use crate::hex::hex;
use crate::read::Binary;
use crate::site::Kind;

const NAME: Name = Name { section: "__mcount_loc", start: "__start_mcount_loc", stop: "__stop_mcount_loc" };
const SIZE: usize = 8;

pub fn read(binary: &Binary, tables: &mut Tables) -> Result<(), ImageError> {
    let Some(table) = find(binary, &NAME)? else { return Ok(()) };
    table.whole(SIZE)?;
    let memory = &binary.memory;
    let fentry = binary.symbols.address("__fentry__");
    let mut zeros = 0;
    for (entry, raw) in table.entries(SIZE) {
        let code = s64(raw, 0) as u64;
        if code == 0 {
            zeros += 1;
            continue;
        }
        if !memory.executable(code) {
            return Err(table.wrong(entry, format!("{code:#x} is not in executable memory")));
        }
        let Some(bytes) = memory.bytes(code, 5) else {
            return Err(table.wrong(entry, format!("the code at {code:#x} ends before its instruction does")));
        };
        let (other, target) = match bytes {
            [0xe8, rest @ ..] => {
                let displacement = rest.first_chunk().map_or(0, |raw| i32::from_le_bytes(*raw));
                let target = code.wrapping_add(5).wrapping_add_signed(displacement.into());
                (Some(NOP5.to_vec()), Some(target))
            }
            _ if bytes == NOP5 => (fentry.and_then(|to| branch(&[0xe8], code, to)), fentry),
            _ => {
                let found = hex(bytes);
                return Err(table
                    .wrong(entry, format!("the bytes at {code:#x}, {found}, are neither a call nor a NOP")));
            }
        };
        let site = tables.add(Kind::Mcount, code, bytes);
        site.other = other;
        site.target = target;
    }
    tables.formats.insert(NAME.section, "8 bytes, absolute".into());
    tables.padding.insert(NAME.section, zeros);
    Ok(())
}
