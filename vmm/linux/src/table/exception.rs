//! The exception table: `__ex_table`.
//!
//! `struct exception_table_entry` of arch/x86/include/asm/extable_fixup_types.h and extable.h: three s32, of which the
//! first two, instruction and fixup, are relative to themselves; the third was a handler, and is a type with data
//! since 5.16 (4b5305decc84).
//!
//! These are not patch sites, but they restrict patching: a CPU may arrive at a fixup at any time, so no fixup may lie
//! inside patched bytes, and an instruction that may fault must stay at the address in its entry.

use super::{Name, Tables, each, relative};
use crate::error::ImageError;
use crate::read::Binary;
use crate::site::Exception;

const NAME: Name = Name { section: "__ex_table", start: "__start___ex_table", stop: "__stop___ex_table" };
const FORMAT: (usize, &str) = (12, "12 bytes, relative");

pub fn read(binary: &Binary, tables: &mut Tables) -> Result<(), ImageError> {
    each(binary, &NAME, FORMAT, tables, |table, tables, entry, raw| {
        let exception = Exception { address: relative(entry, raw, 0), fixup: relative(entry, raw, 4) };
        table.executable(entry, "instruction", exception.address)?;
        table.executable(entry, "fixup", exception.fixup)?;
        tables.exceptions.push(exception);
        Ok(())
    })?;
    tables.exceptions.sort_unstable();
    Ok(())
}
