//! The exception table: `__ex_table`.
//!
//! `struct exception_table_entry` of arch/x86/include/asm/extable_fixup_types.h and extable.h: three s32, of which the
//! first two, instruction and fixup, are relative to themselves; the third was a handler, and is a type with data
//! since 5.16 (4b5305decc84).
//!
//! These are not patch sites, but they restrict patching: a CPU may arrive at a fixup at any time, so no fixup may lie
//! inside patched bytes, and an instruction that may fault must stay at the address in its entry.

use super::{Name, Tables, find, relative};
use crate::error::ImageError;
use crate::read::Binary;
use crate::site::Exception;

const NAME: Name = Name { section: "__ex_table", start: "__start___ex_table", stop: "__stop___ex_table" };
const SIZE: usize = 12;

pub fn read(binary: &Binary, tables: &mut Tables) -> Result<(), ImageError> {
    let Some(table) = find(binary, &NAME)? else { return Ok(()) };
    table.whole(SIZE)?;
    for (entry, raw) in table.entries(SIZE) {
        let exception = Exception { address: relative(entry, raw, 0), fixup: relative(entry, raw, 4) };
        for (what, place) in [("instruction", exception.address), ("fixup", exception.fixup)] {
            if !binary.memory.executable(place) {
                return Err(
                    table.wrong(entry, format!("its {what}, {place:#x}, is not in executable memory"))
                );
            }
        }
        tables.exceptions.push(exception);
    }
    tables.exceptions.sort_unstable();
    tables.formats.insert(NAME.section, "12 bytes, relative".into());
    Ok(())
}
