//! Virtual machines that run at full speed: pinned threads, nothing stepped, nothing replayable.
//!
//! * [`survey`]: an executor and a writer count what the CPU does with stores to code.
//! * [`stress`]: executors pass through a scenario's site while the host performs the scenario's steps.
//! * [`mod@bench`]: executors pass through sites while the host times patching protocols.
//!
//! All vCPUs fetch from *one* copy of the site pages, unlike those of [`Machine`](crate::Machine), and there are no
//! exits between the passes of a batch.

/// Declares labels of assembled code that is copied to [`CODE`]: its start, its end, and others.
macro_rules! guest_code {
    ($start:ident $end:ident $($name:ident)*) => {
        unsafe extern "C" { static $start: u8; static $end: u8; $(static $name: u8;)* }

        /// Offset of a label in [`bytes`].
        fn offset(label: *const u8) -> u64 {
            label as u64 - &raw const $start as u64
        }

        /// All of it, to be copied into a guest.
        pub fn bytes() -> &'static [u8] {
            let length = offset(&raw const $end) as usize;
            // SAFETY: both labels are in one section of this program's text, which is readable and never changes.
            unsafe { std::slice::from_raw_parts(&raw const $start, length) }
        }
    };
}

pub mod bench;
mod executors;
mod guest_words;
mod message;
mod run_time;
pub mod stress;
pub mod survey;

use std::time::{Duration, Instant};

use crossmod_abi::{PAGE, port, va};
use crossmod_model::image::Image;
use crossmod_model::x86::cpu::{Regs, reg};

use crate::layout::CpuPages;
use crate::tables::{self, HANDLERS};
use crate::vcpu::Exit;
use crate::vm::{Controller, Vm};
use crate::{MachineError, Result};

pub use message::{Injector, Message};

/// Where the loops are copied to: in the identity-mapped low 2 MiB, behind the guest image.
const CODE: u64 = 0x18_0000;
/// The instruction that a loop returns to.
const FINISH: u64 = CODE - 16;
/// The log of passes: below the image, and above what an SMI would use.
const LOG: u64 = 0x4_0000;

/// Guest-physical address of the local APIC's page (SDM vol. 3, 11.4.1).
const APIC: u64 = 0xfee0_0000;
/// Where the guest sees that page.
const APIC_VA: u64 = va::IDT + PAGE;
/// Offset of its EOI register (SDM vol. 3, 11.8.5).
const EOI: u64 = 0xb0;

/// One pass of an executor, as the guest's loop logs it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Pass {
    /// The last generation that was complete when the pass began.
    pub done: u64,
    /// What the site left in RAX.
    pub value: u64,
    /// The last generation whose store had begun when the pass was over.
    pub begun: u64,
}

impl Pass {
    /// The passes in a log.
    fn read(log: &[u8]) -> Vec<Pass> {
        let (passes, _) = log.as_chunks::<{ size_of::<Pass>() }>();
        let of = |pass: &[u8; size_of::<Pass>()]| {
            let (words, _) = pass.as_chunks::<8>();
            let [done, value, begun] = [0, 1, 2].map(|word| u64::from_le_bytes(words[word]));
            Pass { done, value, begun }
        };
        passes.iter().map(of).collect()
    }
}

/// Keeps this CPU busy for a time. Sleeping would take longer than most waits at full speed.
pub fn spin(time: Duration) {
    let from = Instant::now();
    while from.elapsed() < time {
        std::hint::spin_loop();
    }
}

/// A VM whose vCPUs fetch from one copy of the site pages, with `code` at [`CODE`] and the plain handlers.
fn vm_with_one_text(cpus: usize, controller: Controller, code: &[u8]) -> Result<Vm> {
    let vm = Vm::new(cpus, controller)?;
    vm.memory.write(CODE, code)?;
    vm.memory.write(FINISH, &[0xe6, port::STOP, 0xf4])?; // out STOP, al; hlt
    for index in 0..cpus {
        tables::one_text(&vm.memory, CpuPages::of(index))?;
    }
    let image = Image::embedded()?;
    for (vector, name) in HANDLERS {
        tables::gate(&vm.memory, vector, image.label(name)?)?;
    }
    Ok(vm)
}

/// Guest-physical address of the return address of a loop that starts with these registers.
fn return_slot(cpu: usize, regs: &Regs) -> u64 {
    CpuPages::of(cpu).private + (regs.gpr[reg::RSP] - va::PRIVATE)
}

fn unexpected(exit: &Exit, rip: u64, from: u64) -> MachineError {
    MachineError::UnexpectedExit { exit: format!("{exit:?}"), rip, from }
}
