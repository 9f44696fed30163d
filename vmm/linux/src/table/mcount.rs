//! Function entries that ftrace patches: `__mcount_loc`.
//!
//! u64 addresses (include/linux/ftrace.h), sorted when the kernel is built (scripts/sorttable.c). Since 6.12.x,
//! overridden weak functions leave zeros, which sort to the front. On disk, a site is a call of `__fentry__`; ftrace
//! turns it into a NOP at boot (arch/x86/kernel/ftrace.c), and back into a call while the function is traced. With
//! `CONFIG_HAVE_OBJTOOL_NOP_MCOUNT` it is a NOP on disk.

use super::jump::NOP5;
use super::{Name, Tables, branch, each, s64, target};
use crate::error::ImageError;
use crate::read::Binary;
use crate::site::Kind;

const NAME: Name = Name { section: "__mcount_loc", start: "__start_mcount_loc", stop: "__stop_mcount_loc" };
const FORMAT: (usize, &str) = (8, "8 bytes, absolute");

pub fn read(binary: &Binary, tables: &mut Tables) -> Result<(), ImageError> {
    let fentry = binary.symbols.address("__fentry__");
    each(binary, &NAME, FORMAT, tables, |table, tables, entry, raw| {
        let code = s64(raw, 0) as u64;
        if code == 0 {
            tables.pad(table);
            return Ok(());
        }
        if !binary.memory.executable(code) {
            return Err(table.wrong(entry, format!("{code:#x} is not in executable memory")));
        }
        let bytes = table.code(entry, code, 5)?;
        let (other, target) = match bytes {
            [0xe8, ..] => (Some(NOP5.to_vec()), Some(target(code, bytes))),
            _ if bytes == NOP5 => (fentry.and_then(|to| branch(&[0xe8], code, to)), fentry),
            _ => return Err(table.unlike(entry, code, bytes, "neither a call nor a NOP")),
        };
        let site = tables.add(Kind::Mcount, code, bytes);
        (site.other, site.target) = (other, target);
        Ok(())
    })
}
