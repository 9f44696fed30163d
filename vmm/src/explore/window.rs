//! What a vCPU sees where it stands, and whether anybody else can tell when it goes on.

use crossmod_abi::{PAGE, private, va};
use iced_x86::Mnemonic;

use super::engine::Engine;
use super::model::Model;
use crate::decode::{self, Access, FETCH_WINDOW};
use crate::machine::{FILLER, in_landing_window, in_site_pages, pad_code};

/// What a vCPU sees at an address: up to 15 bytes.
#[derive(Debug, Clone, Copy)]
pub struct Window {
    bytes: [u8; FETCH_WINDOW],
    len: usize,
}

impl Window {
    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl<E: Engine> Model<'_, E> {
    /// The bytes at `rip` as a vCPU sees them that sees `site` as the site; `None` where no code is mapped.
    pub fn window(&self, rip: u64, site: &[u8]) -> Option<Window> {
        let mut window = Window { bytes: [FILLER; FETCH_WINDOW], len: FETCH_WINDOW };
        let image = self.engine.image();
        if image.contains(rip) {
            let code = image.code(rip);
            window.bytes[..code.len()].copy_from_slice(code);
            window.len = code.len();
        } else if in_site_pages(rip) || in_landing_window(rip) {
            let put = |window: &mut Window, start: u64, code: &[u8], same: fn(u64) -> u64| {
                for (index, &byte) in code.iter().enumerate() {
                    let distance = same(start + index as u64).wrapping_sub(same(rip));
                    if let Some(slot) = window.bytes.get_mut(distance as usize) {
                        *slot = byte;
                    }
                }
            };
            for pad in &self.plan.pads {
                let here = in_site_pages(rip);
                if here == in_site_pages(pad.address) {
                    // Outside the site pages every address shows the one landing page.
                    let same: fn(u64) -> u64 = if here { |at| at } else { |at| at % PAGE };
                    put(&mut window, pad.address, &pad_code(pad.mark), same);
                }
            }
            put(&mut window, self.plan.site.address, site, |at| at);
        } else {
            return None;
        }
        Some(window)
    }

    /// Whether other actors can tell if they move before or after the executor's next instruction, or the
    /// instruction changes what may be delivered to it.
    ///
    /// An invisible instruction touches registers and the private stack only, and every handler leaves
    /// both as it found them: it commutes with every other actor's move and with the delivery of any event
    /// to its own vCPU. Looking for events and other actors only before visible instructions therefore loses
    /// no outcome and no violation. Visible are: fetches at the site, accesses to the shared page and to
    /// the acknowledgement, serialising instructions (they take in what is committed), returns from
    /// handlers, changes of the interrupt flag, the CALL that begins a pass (it notes whether the patcher has
    /// completed), and landing pads if the plan withdraws one.
    pub fn visible(&self, executor: u32, env: u32) -> bool {
        let executor = self.executors.get(executor);
        let cpu = self.cpus.get(executor.cpu);
        let rip = cpu.regs.rip;
        let image = self.engine.image().contains(rip);
        if rip == self.labels.park
            || rip == self.labels.refusal
            || self.plan.site.contains(rip)
            || self.labels.passes.iter().any(|pass| pass.begin == rip)
            || (!image && self.frees_targets)
        {
            return true;
        }
        let text = &self.texts[env as usize];
        let Some(instruction) =
            self.window(rip, text.current()).and_then(|window| decode::decode(window.bytes(), rip))
        else {
            return true;
        };
        let private = |access: &Access| {
            let (start, end) = (va::PRIVATE + private::TASK_STACK, va::PRIVATE + private::STATE_END);
            access.address >= start && access.address + access.size as u64 <= end
        };
        decode::serialises(&instruction, self.plan.rule)
            || matches!(
                instruction.mnemonic(),
                Mnemonic::Iretq | Mnemonic::Int3 | Mnemonic::Cli | Mnemonic::Sti | Mnemonic::Popfq
            )
            || !decode::accesses(&instruction, &cpu.regs).iter().all(private)
    }
}
