//! One executor of a [`StressVm`](super::StressVm), which a host thread drives.

use std::sync::atomic::Ordering;

use crossmod_abi::{port, private, va, vector};
use crossmod_model::x86::cpu::{Cpu, FRAME, IF, Regs, reg};

use super::code::Entries;
use super::layout::{BATCH, LOG_LEN, own};
use super::{Observer, Trap};
use crate::free::executors::Executor;
use crate::free::{CODE, LOG, Pass, unexpected};
use crate::kick::Guard;
use crate::layout::CpuPages;
use crate::vcpu::Exit;
use crate::{MachineError, Result, stop_requested};

/// How a piece of guest code ended.
enum Outcome {
    /// It rang its doorbell.
    Finished,
    /// The pass was abandoned.
    Abandoned,
}

pub(super) struct ExecutorThread<'a, O> {
    pub executor: Executor<'a>,
    pub entries: Entries,
    pub site: u64,
    pub observer: O,
}

impl<O: Observer> ExecutorThread<'_, O> {
    /// Runs batch after batch until it is stopped. Returns the observer.
    pub fn run(mut self) -> Result<O> {
        let guard = Guard::new()?;
        let log = LOG + self.executor.index as u64 * LOG_LEN;
        let mut bytes = vec![0; LOG_LEN as usize];
        self.set_own(own::SITE, self.site);
        let regs = Cpu::at(self.entries.execute, va::SITE, 0, true).regs;
        self.set_own(own::TOP, regs.gpr[reg::RSP]);
        while !self.executor.stop.load(Ordering::Relaxed) {
            self.set_own(own::LOG, log);
            self.set_own(own::LEFT, BATCH as u64);
            let sent = self.executor.ledger.sent();
            self.resume(&regs)?;
            match self.drive(&guard) {
                Ok(Outcome::Finished | Outcome::Abandoned) => {}
                // A signal ends the run without an error: the patcher sees it too.
                Err(MachineError::Interrupted) if stop_requested() => break,
                Err(error) => return Err(error),
            }
            // Messages from before this batch were taken when it began, or coalesced with one that was.
            if !self.executor.vcpu.nmi_pending() {
                self.executor.ledger.settle(sent, [own::NMIS, own::IRQS].map(|count| self.own(count)));
            }
            let logged = (self.own(own::LOG) - log) as usize;
            self.executor.memory.read(log, &mut bytes[..logged])?;
            self.observer.passes(&Pass::read(&bytes[..logged]));
        }
        Ok(self.observer)
    }

    /// A word of this executor's private page.
    fn own(&self, offset: u64) -> u64 {
        self.executor.words.own(self.executor.index, offset)
    }

    fn set_own(&self, offset: u64, value: u64) {
        self.executor.words.set_own(self.executor.index, offset, value);
    }

    fn resume(&mut self, regs: &Regs) -> Result<()> {
        self.executor.vcpu.resume(CpuPages::of(self.executor.index).pml4, regs)
    }

    /// Runs until the current code ends, and acts for trap and interrupt handlers meanwhile.
    fn drive(&mut self, guard: &Guard) -> Result<Outcome> {
        loop {
            match self.executor.vcpu.run(guard, self.executor.vcpu.rip()) {
                Ok(Exit::Doorbell(port::STOP)) => return Ok(Outcome::Finished),
                Ok(Exit::Doorbell(vector::NMI)) => self.handler(guard, true)?,
                Ok(Exit::Doorbell(vector::IRQ)) => self.handler(guard, false)?,
                Ok(Exit::Doorbell(vector::BP)) => {
                    if !self.trap()? {
                        return Ok(Outcome::Abandoned);
                    }
                }
                Ok(Exit::Doorbell(number)) => {
                    // An error code, if any, lies below the frame.
                    let top = if number == vector::DF { private::DF_STACK_TOP } else { own::TRAP_STACK_TOP };
                    let rip = self.own(top - FRAME);
                    self.observer.fault(&format!("an exception of vector {number}"), rip);
                    return Ok(Outcome::Abandoned);
                }
                Err(MachineError::Endless { .. }) => {
                    let regs = self.executor.vcpu.regs()?;
                    // A held executor waits at ring 0 for as long as the patcher wants.
                    if regs.user() && !(va::IMAGE..va::PRIVATE).contains(&regs.rip) {
                        self.observer.fault("an endless loop", regs.rip);
                        return Ok(Outcome::Abandoned);
                    }
                }
                Err(error) => return Err(error),
                // The bytes of two instructions may form a third one that leaves the guest.
                Ok(Exit::Other(name)) if self.executor.vcpu.regs()?.user() => {
                    self.observer.fault(&format!("an exit to the host, {name},"), self.executor.vcpu.rip());
                    return Ok(Outcome::Abandoned);
                }
                Ok(exit) => return Err(unexpected(&exit, self.executor.vcpu.rip(), self.site)),
            }
        }
    }

    /// Runs the site on behalf of the handler of an NMI or of a device interrupt, unless the handler interrupted a stub of
    /// this module, whose stack the site's traps would overwrite.
    fn handler(&mut self, guard: &Guard, nmi: bool) -> Result<()> {
        // `top` is the top of the stack with the handler's frame.
        let (back, stack, top) = if nmi {
            (self.entries.nmi_back, own::NMI_STACK_TOP, private::NMI_STACK + private::STACK)
        } else {
            (self.entries.irq_back, own::IRQ_STACK_TOP, private::KERNEL_STACK + private::STACK)
        };
        let mut handler = self.executor.vcpu.regs()?;
        handler.rip = back;
        let interrupted = self.own(top - FRAME);
        let ring = self.own(top - FRAME + 8) & 3;
        if ring == 3 || (CODE..self.entries.end).contains(&interrupted) {
            let mut regs = Cpu::at(self.entries.once, va::SITE, 0, true).regs;
            regs.gpr[reg::RSP] = va::PRIVATE + stack;
            regs.rflags &= !IF;
            regs.nmi_masked = handler.nmi_masked;
            self.resume(&regs)?;
            self.observer.handler_begins();
            let value = match self.drive(guard)? {
                Outcome::Finished => Some(self.executor.vcpu.gpr(reg::RAX)),
                Outcome::Abandoned => None,
            };
            self.observer.handler_ends(nmi, value);
        }
        self.resume(&handler)
    }

    /// Acts for the #BP handler. Returns false if the pass ends here.
    fn trap(&mut self) -> Result<bool> {
        let frame = own::TRAP_STACK_TOP - FRAME;
        let word = |at: u64| self.own(frame + at);
        let mut regs = self.executor.vcpu.regs()?;
        let rip = word(0);
        (regs.cs, regs.rflags, regs.gpr[reg::RSP], regs.ss) =
            (word(8) as u16, word(16), word(24), word(32) as u16);
        match self.observer.trap(rip.wrapping_sub(1)) {
            Trap::Abandon => return Ok(false),
            Trap::Resume(at) => regs.rip = at,
            Trap::Call { target, return_to } => {
                // A torn site may have set RSP to anything.
                let pushed = regs.gpr[reg::RSP].wrapping_sub(8);
                let stack = pushed.wrapping_sub(va::PRIVATE);
                if stack > crossmod_abi::PAGE - 8 {
                    self.observer.fault(&format!("a trap with RSP at {:#x}", regs.gpr[reg::RSP]), rip);
                    return Ok(false);
                }
                regs.gpr[reg::RSP] = pushed;
                self.set_own(stack & !7, return_to);
                regs.rip = target;
            }
        }
        self.resume(&regs)?;
        Ok(true)
    }
}
