//! The data accesses of a step, as far as others can see them.

use crossmod_abi::{PAGE, private, shared, va};
use crossmod_model::layout::{self, Shared};
use crossmod_model::plan::Site;
use crossmod_model::x86::cpu::Cpu;
use crossmod_model::x86::decode::{self, Access};
use iced_x86::Instruction;

use crate::error::{EngineError, Result};

/// The accesses of one step that others can see.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Touched {
    /// To the shared page.
    pub(super) shared: Option<Access>,
    /// To the site as data.
    pub(super) text: Option<Access>,
    /// To the executor's own words.
    pub(super) own: Option<Access>,
}

/// Finds the access to the shared page and the one to the site's master copy. An access outside the state is an error.
pub(super) fn touched(
    instruction: &Instruction,
    accesses: &[Access],
    rip: u64,
    site: &Site,
) -> Result<Touched> {
    let mut found = Touched::default();
    let master = layout::master(site.address);
    for access in accesses {
        let (start, end) = (access.address, access.address.wrapping_add(access.size as u64));
        let within = |base: u64, len: u64| start >= base && end <= base + len;
        if within(va::SHARED, shared::STATE_END) && access.size <= 8 {
            if found.shared.replace(*access).is_some() {
                return Err(outside(instruction, rip, "it accesses the shared page twice"));
            }
        } else if within(master, site.len() as u64) && access.size <= 8 {
            if found.text.replace(*access).is_some() {
                return Err(outside(instruction, rip, "it accesses the site twice"));
            }
        } else if access.touches(va::SITE, va::SITE + 2 * PAGE) {
            return Err(outside(instruction, rip, "it accesses patchable addresses as data"));
        } else if within(va::PRIVATE, private::TASK_STACK) {
            // Of two, the one that the patcher may see.
            found.own = found.own.filter(|known| known.writes).or(Some(*access));
        } else if !within(va::PRIVATE, private::STATE_END) {
            return Err(outside(
                instruction,
                rip,
                &format!("it accesses {start:#x}, which belongs to no state"),
            ));
        }
    }
    Ok(found)
}

fn outside(instruction: &Instruction, rip: u64, what: &str) -> EngineError {
    EngineError::Contract { rip, what: format!("`{}`: {what}", decode::format(instruction)) }
}

/// What a step reads from memory that others write. An instruction with two memory operands reads both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(super) struct Reads {
    shared: u64,
    text: u64,
}

impl Touched {
    /// The values that the step reads from the shared page and from the site as data.
    pub(super) fn reads(&self, memory: &Shared, data: &[u8], site: &Site) -> Reads {
        let read = |access: Option<Access>| access.filter(|access| access.reads);
        Reads {
            shared: read(self.shared).map_or(0, |access| read_word(memory, access)),
            text: read(self.text).map_or(0, |access| read_text(data, access, site)),
        }
    }
}

fn read_text(data: &[u8], access: Access, site: &Site) -> u64 {
    let start = (access.address - layout::master(site.address)) as usize;
    let mut word = [0; 8];
    word[..access.size].copy_from_slice(&data[start..start + access.size]);
    u64::from_le_bytes(word)
}

fn read_word(memory: &Shared, access: Access) -> u64 {
    let start = (access.address - va::SHARED) as usize;
    let mut word = [0; 8];
    word[..access.size].copy_from_slice(&memory[start..start + access.size]);
    u64::from_le_bytes(word)
}

/// What a step stored to the shared page. A change of bytes that its decoding does not write is an error.
pub(super) fn store_of(
    before: &Shared,
    after: &Shared,
    access: Option<Access>,
) -> Result<Option<(u8, u8, u64)>, String> {
    let written = access.filter(|access| access.writes);
    let mut rest = *after;
    let store = written.map(|access| {
        let start = (access.address - va::SHARED) as usize;
        rest[start..start + access.size].copy_from_slice(&before[start..start + access.size]);
        (start as u8, access.size as u8, read_word(after, access))
    });
    if rest == *before { Ok(store) } else { Err("a step changed shared bytes that it does not write".into()) }
}

pub(super) fn load(cpu: &Cpu, memory: &Shared, address: u64) -> Option<u64> {
    if let Some(value) = cpu.read(address, 8) {
        return Some(value);
    }
    let start = usize::try_from(address.checked_sub(va::SHARED)?).ok()?;
    let bytes = memory.get(start..start.checked_add(8)?)?;
    let mut word = [0; 8];
    word.copy_from_slice(bytes);
    Some(u64::from_le_bytes(word))
}

#[cfg(test)]
mod tests {
    use crossmod_model::layout::{SHARED_LEN, master};
    use crossmod_model::plan::{Code, Part};

    use super::*;

    #[test]
    fn a_step_that_reads_shared_memory_and_text_depends_on_both() {
        let code = Code { bytes: vec![0x90; 8], boundaries: vec![0] };
        let (old, new, parts) = (code.clone(), code, vec![Part::whole(8)]);
        let site = Site { address: va::SITE, old, new, intermediates: Vec::new(), parts };
        let read = |address| Access { address, size: 8, reads: true, writes: false };
        // `cmpsq` with RSI in the shared page and RDI in the site.
        let instruction = decode::decode(&[0x48, 0xa7], 0x1000).expect("cmpsq");
        let accesses = [read(va::SHARED), read(master(va::SITE))];
        let touched = touched(&instruction, &accesses, 0x1000, &site).expect("accesses to the state");
        let reads = |shared: u8, text: u8| touched.reads(&[shared; SHARED_LEN], &[text; 8], &site);
        assert_eq!(reads(1, 1), reads(1, 1));
        assert_ne!(reads(1, 1), reads(2, 1), "shared memory differs");
        assert_ne!(reads(1, 1), reads(1, 2), "text differs");
    }
}
