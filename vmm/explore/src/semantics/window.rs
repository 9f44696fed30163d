//! What a vCPU sees at its RIP, and whether another actor can tell when it goes on.

use std::rc::Rc;

use crossmod_abi::{PAGE, private, shared, va, vector};
use crossmod_model::layout::{FILLER, in_landing_window, in_site_pages, pad_code};
use crossmod_model::state::Id;
use crossmod_model::state::ghost::Executor;
use crossmod_model::state::shared_state::SharedState;
use crossmod_model::view::{self, MAX_VIEWS, Seen};
use crossmod_model::x86::decode::{self, Access, FETCH_WINDOW};
use iced_x86::{Instruction, Mnemonic};

use super::future_effects::{self, FutureEffects};
use super::interned::ACKNOWLEDGED;
use super::memo::Views;
use super::{Model, State};
use crate::error::{EngineError, Result};

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

impl Model<'_> {
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

    /// The views of the site that the fetch model allows an executor at its RIP. `None` away from the site.
    pub(super) fn views(
        &mut self,
        executor: Id<Executor>,
        shared_state: Id<SharedState>,
    ) -> Result<Option<Views>> {
        let Executor { cpu, ghost, .. } = &self.interned.executors[executor];
        let rip = self.interned.cpus[*cpu].regs.rip;
        let site = &self.plan.site;
        if !site.contains(rip) {
            return Ok(None);
        }
        if let Some(known) = self.memo.views.get(&(executor, shared_state)) {
            return Ok(Some(Rc::clone(known)));
        }
        let history = self.interned.history(shared_state);
        let seen = Seen {
            images: &history.images,
            commits: &history.spans,
            serialised: ghost.serialised.into(),
            clocks: &ghost.clocks,
        };
        let views = view::views(self.plan.fetch, site, (rip - site.address) as usize, seen);
        if views.len() > MAX_VIEWS {
            let what = format!(
                "the fetch model {} allows more than {MAX_VIEWS} views of one fetch: too many stores since the vCPU \
                 last serialised",
                self.plan.fetch,
            );
            return Err(EngineError::Contract { rip, what });
        }
        let views: Views = views.into();
        self.memo.views.insert((executor, shared_state), Rc::clone(&views));
        Ok(Some(views))
    }

    /// The site as an executor sees it in one of its views.
    pub fn seen(&mut self, state: &State, slot: usize, view: u8) -> Result<Vec<u8>> {
        let views = self.views(state.executors[slot], state.global.shared_state)?;
        let view = views.as_ref().and_then(|views| views.get(usize::from(view)));
        Ok(view.map_or_else(|| self.history_of(state).current().to_vec(), |view| view.site.clone()))
    }

    /// The view by which an executor's next instruction may be taken together with the transition before it, because
    /// no other actor can tell whether it is; `None` if one can.
    ///
    /// An invisible instruction commutes with every transition that another actor may still make, and with the
    /// delivery of every event that may still come to its own vCPU. It touches registers and the private stack, which
    /// every handler leaves as it found them. Besides, it
    ///
    /// * reads only words of the shared page that may no longer be written;
    /// * fetches at the site only once no store, no statement about the site and no event remains, and only if all
    ///   views show the same;
    /// * serialises only if no store remains, or if the patcher waits for this very vCPU's acknowledgement before it
    ///   can store;
    /// * returns from a handler only if the patcher has finished (before that, the time with interrupts off is
    ///   measured) and neither an NMI nor a machine check can be waiting for the return;
    /// * executes withdrawn code only if no more of it may be withdrawn.
    ///
    /// * does not wait for a store of its own vCPU to reach memory, which is a transition of its own.
    ///
    /// Always visible are acknowledgements, stores to the shared page, and changes of the interrupt flag by other
    /// means. The CALL of a pass is invisible: a pass begins with its first fetch.
    ///
    /// To take an invisible instruction as early as possible loses no outcome and no violation: in any schedule it can
    /// be moved forward to just behind the visible one before it.
    pub(super) fn invisible(
        &mut self,
        executor: Id<Executor>,
        shared_state: Id<SharedState>,
        future: &FutureEffects,
    ) -> Result<Option<u8>> {
        let Executor { cpu, ghost, .. } = &self.interned.executors[executor];
        let rip = self.interned.cpus[*cpu].regs.rip;
        if self.interned.summary(executor).parked
            || rip == self.labels.refusal
            || self.plan.programs.refusals.contains(&rip)
            || (future.targets && !self.engine.image().contains(rip))
        {
            return Ok(None);
        }
        let events = future.nmi || future.irq || future.smi || future.mce || ghost.nmi_latched;
        if self.plan.site.contains(rip) && (future.site || events) {
            return Ok(None);
        }
        let history = Rc::clone(self.interned.history(shared_state));
        let mut site = history.current();
        let views = self.views(executor, shared_state)?;
        let mut view = 0;
        if let Some(views) = &views {
            let mut shown = views.iter().enumerate().filter(|(_, view)| !view.dominated);
            match (shown.next(), shown.next()) {
                (Some((index, only)), None) => (view, site) = (index, &only.site[..]),
                _ => return Ok(None),
            }
        }
        let instruction = self.window(rip, site).and_then(|window| decode::decode(window.bytes(), rip));
        let hidden = instruction.is_some_and(|instruction| {
            !self.waits(executor, &instruction) && self.hidden(executor, &instruction, future)
        });
        Ok(hidden.then_some(view as u8))
    }

    /// True if no other actor can tell when an instruction is executed, as far as that depends on what it does.
    fn hidden(&self, executor: Id<Executor>, instruction: &Instruction, future: &FutureEffects) -> bool {
        let Executor { cpu, ghost, .. } = &self.interned.executors[executor];
        let cpu = &self.interned.cpus[*cpu];
        let acknowledged = self.interned.summary(executor).flags.contain(ACKNOWLEDGED);
        let awaited = future.awaited & (1 << self.slot_of(executor)) != 0 && !acknowledged;
        let nmi = cpu.regs.nmi_masked && (future.nmi || ghost.nmi_latched);
        let mce = future.mce && ghost.inside(vector::MC);
        let hidden = match instruction.mnemonic() {
            Mnemonic::Cli | Mnemonic::Sti | Mnemonic::Popfq | Mnemonic::Int3 => false,
            Mnemonic::Iretq => !future.patcher && !nmi && !mce,
            _ => !decode::serialises(instruction, self.plan.rule) || !future.stores || awaited,
        };
        let unseen = |access: &Access| {
            let (start, end) = (access.address, access.address + access.size as u64);
            let within = |from: u64, to: u64| start >= from && end <= to;
            within(va::PRIVATE + private::TASK_STACK, va::PRIVATE + private::STATE_END)
                || (within(va::SHARED, va::SHARED + shared::STATE_END)
                    && !access.writes
                    && future_effects::words(start - va::SHARED, end - va::SHARED) & future.words == 0)
        };
        hidden && decode::accesses(instruction, &cpu.regs).iter().all(unseen)
    }
}
