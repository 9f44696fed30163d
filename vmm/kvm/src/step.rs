//! The stepping primitive: one instruction, or the delivery of one event, from a complete state to a
//! complete state.
//!
//! A step is whatever runs between the restored state and the exit. Each kind of step therefore ends at a known
//! place on every KVM, and that place is checked:
//!
//! | what | how it ends |
//! |---|---|
//! | instruction at ring 0 | TF in the restored RFLAGS and KVM's single-step: a debug exit |
//! | instruction at ring 3 | TF: #DB through the guest's gate, whose stub rings a doorbell; registers come from its frame |
//! | IRETQ, and other instructions that some KVM steps past | TF clear, a doorbell planted at the successor |
//! | INT3 | the #BP handler's doorbell; where KVM cannot emulate INT3 at ring 0 the host delivers the #BP |
//! | NMI, interrupt, machine check | the handler's doorbell |
//! | SMI | the SMI handler's doorbell, then, behind its RSM, one planted at RIP itself; where KVM has no SMM it is modelled: nothing happens |
//!
//! A restore through the sync-regs page drops KVM's single-step on kvm-amd, and KVM's single-step at ring 3
//! is wrong on kvm-pvm; TF works on both.
//!
//! A HLT (only torn bytes contain one) ends its step with an exit of that name, except on kvm-pvm, whose single-step
//! passes over it and which halts in a later step instead, from an unrelated state. The vCPU expects such a late exit,
//! and continues after it.
//!
//! A delivery within ring 0 does not change SS, even when it switches to an IST stack (SDM vol. 3, 6.14.4: only
//! a change of CPL makes it null; APM vol. 2, 8.9.3). QEMU's emulation makes it null nevertheless, which the next
//! frame would show: the step restores SS.

use crossmod_abi::{PAGE, port, private, va, vector};
use crossmod_model::layout::in_landing_window;
use crossmod_model::step::{Landing, Stimulus};
use crossmod_model::x86::cpu::{Cpu, FRAME, Frame, HIDDEN_FLAGS, PRIVATE_LEN, Regs, reg};
use crossmod_model::x86::decode::{self, FETCH_WINDOW};

use super::error::{MachineError, Result};
use super::layout::{self, CpuPages};
use super::machine::{Backing, Machine};
use super::vcpu::{Exit, IOPL};

/// Length in bytes of a doorbell, `out imm8, al`.
pub(super) const DOORBELL: u64 = 2;

impl Machine {
    /// Returns whether the first vCPU owes the late exit of a HLT, and sets whether it does. For tests, which cannot
    /// cause both cases on one host.
    #[doc(hidden)]
    pub fn replace_halt_owed(&mut self, owed: bool) -> bool {
        let before = self.vcpus[0].pays_halt();
        if owed {
            self.vcpus[0].owes_halt();
        }
        before
    }

    /// One step of the vCPU in `slot` from `cpu`. Writes its private page; the caller has written the shared page and
    /// the views that the step may read.
    pub fn step(&mut self, slot: usize, cpu: &Cpu, stimulus: Stimulus) -> Result<(Cpu, Landing)> {
        self.write_private(slot, cpu)?;
        let (regs, landing) = self.step_regs(slot, &cpu.regs, stimulus)?;
        self.finish(slot, regs, landing)
    }

    /// The same from the private memory that the vCPU itself left behind.
    pub(super) fn step_regs(
        &mut self,
        slot: usize,
        before: &Regs,
        stimulus: Stimulus,
    ) -> Result<(Regs, Landing)> {
        if stimulus == Stimulus::Smi && !self.real_smis {
            return Ok((*before, Landing::Boundary));
        }
        self.assists.steps += 1;
        let planted = self.plant_stop(slot, before, stimulus)?;
        let index = self.backing(slot, before.user());
        let result = self.execute(index, slot, before, stimulus);
        if let Some((to, original)) = planted {
            self.set_two_bytes(slot, to, original)?;
        }
        let after = self.vcpus[index].regs()?;
        let (exit, entered_smm) = result?;
        // What KVM has still to do for the instruction that was just stepped.
        match exit {
            // An OUT where the step began: KVM would step over the next instruction at this address.
            Exit::Doorbell(_) if after.rip == before.rip => self.vcpus[index].owes_completion_at(before.rip),
            Exit::Debug if self.is_halt(slot, before.rip, after.rip)? => self.vcpus[index].owes_halt(),
            _ => {}
        }
        self.landing(index, slot, (before, stimulus), after, (exit, entered_smm))
    }

    /// Plants a doorbell where a step is to stop that TF does not stop. Returns the address and the bytes there.
    fn plant_stop(
        &mut self,
        slot: usize,
        before: &Regs,
        stimulus: Stimulus,
    ) -> Result<Option<(u64, [u8; 2])>> {
        let to = match stimulus {
            Stimulus::InstructionTo(to) if to.abs_diff(before.rip) < DOORBELL => {
                let what = "the doorbell behind an instruction would overwrite the instruction".into();
                return Err(MachineError::Contract { rip: before.rip, what });
            }
            Stimulus::InstructionTo(to) => {
                self.lend_iopl(slot, before)?;
                to
            }
            Stimulus::Smi => before.rip,
            _ => return Ok(None),
        };
        Ok(Some((to, self.plant(slot, to)?)))
    }

    /// Restores the state, and runs the vCPU to the exit that ends the step. Also returns whether it entered SMM.
    fn execute(
        &mut self,
        index: usize,
        slot: usize,
        before: &Regs,
        stimulus: Stimulus,
    ) -> Result<(Exit, bool)> {
        if matches!(stimulus, Stimulus::Interrupt(_)) && !before.interrupts_on() {
            // VMX refuses to enter (SDM vol. 3, "Checks on Guest RIP, RFLAGS, and SSP"), and no CPU would deliver it.
            let what = "a maskable interrupt is to be delivered with interrupts off".into();
            return Err(MachineError::Contract { rip: before.rip, what });
        }
        let vcpu = &mut self.vcpus[index];
        // Single-stepping must stop neither inside SMM nor behind its RSM.
        vcpu.set_single_step(!before.user() && stimulus != Stimulus::Smi)?;
        vcpu.restore(CpuPages::of(slot).pml4, before, Some(stimulus))?;
        let exit = self.run(index, slot, before.rip)?;
        match (stimulus, &exit) {
            (Stimulus::Smi, Exit::Doorbell(port::SMM)) if self.vcpus[index].in_smm() => {
                Ok((self.run(index, slot, before.rip)?, true))
            }
            (Stimulus::Breakpoint, Exit::Internal(_)) if self.vcpus[index].rip() == before.rip => {
                self.assists.completed_breakpoints += 1;
                self.vcpus[index].inject_at(before.rip + 1, vector::BP);
                Ok((self.run(index, slot, before.rip)?, false))
            }
            _ => Ok((exit, false)),
        }
    }

    /// Where the step ended, and the registers there.
    fn landing(
        &mut self,
        index: usize,
        slot: usize,
        (before, stimulus): (&Regs, Stimulus),
        after: Regs,
        (exit, entered_smm): (Exit, bool),
    ) -> Result<(Regs, Landing)> {
        match exit {
            Exit::Debug => Ok((after, Landing::Boundary)),
            Exit::Doorbell(port::STOP) => {
                self.assists.planted_stops += 1;
                match stimulus {
                    Stimulus::InstructionTo(to) if at_doorbell(&after, to) => {
                        if after.rip == to {
                            self.vcpus[index].owes_completion_at(to);
                        }
                        Ok((Regs { rip: to, ..after }, Landing::Boundary))
                    }
                    Stimulus::Smi if at_doorbell(&after, before.rip) && entered_smm => {
                        self.assists.smis += 1;
                        Ok((Regs { rip: before.rip, ..after }, Landing::Boundary))
                    }
                    _ => Err(unexpected("planted doorbell", &after, before)),
                }
            }
            Exit::Doorbell(number) if !self.rung_by_handler(number, &after) => {
                Err(unexpected(&format!("doorbell {number:#x}"), &after, before))
            }
            // Its stack is not part of any state.
            Exit::Doorbell(vector::DF) => {
                let what = "double fault (an exception without a gate, or without a stack)";
                Err(unexpected(what, &after, before))
            }
            Exit::Doorbell(vector::DB) => {
                self.assists.user_traps += 1;
                Ok((returned(&self.debug_frame(slot)?, after), Landing::Boundary))
            }
            Exit::Doorbell(number) => {
                let rip = self.doorbells[usize::from(number)].map_or(after.rip, |entry| entry + DOORBELL);
                let ss = if before.user() == after.user() { before.ss } else { after.ss };
                Ok((Regs { rip, ss, ..after }, Landing::Handler(number)))
            }
            Exit::Halt => Err(unexpected("HLT", &after, before)),
            Exit::Internal(what) | Exit::Other(what) => Err(unexpected(&what, &after, before)),
        }
    }

    /// Makes the state after a step canonical: reads the private page back, cleans the frame just pushed.
    pub(super) fn finish(&mut self, slot: usize, regs: Regs, landing: Landing) -> Result<(Cpu, Landing)> {
        let mut cpu = Cpu { regs, private: self.read_private(slot)? };
        if let Landing::Handler(vector) = landing
            && !pushes_error_code(vector)
            && let Some(changed) = cpu.clean_frame_at_rsp()
        {
            // In memory too: the handler's IRET must not load the flags that stepping set.
            let at = CpuPages::of(slot).private + changed.start as u64;
            self.memory.write(at, &cpu.private[changed])?;
        }
        if cpu.clear_dead_stack() {
            Ok((cpu, landing))
        } else {
            let what = format!("RSP {:#x} is outside of every stack of the guest", cpu.regs.gpr[reg::RSP]);
            Err(MachineError::Contract { rip: cpu.regs.rip, what })
        }
    }

    /// True if the handler that owns this doorbell rang it, not some other OUT.
    fn rung_by_handler(&self, number: u8, after: &Regs) -> bool {
        self.doorbells[usize::from(number)].is_some_and(|entry| at_doorbell(after, entry))
    }

    /// Which KVM vCPU executes for `slot`.
    fn backing(&self, slot: usize, user: bool) -> usize {
        match self.backing {
            Backing::PerRing => usize::from(user),
            Backing::PerSlot => slot,
        }
    }

    /// Sets IOPL in the frame of an IRETQ to ring 3, for the doorbell planted behind it: states do not contain IOPL. The
    /// I/O bitmap of the TSS would permit the doorbell, too, but QEMU's emulation honours it only in an available TSS,
    /// which a TSS in use is not. The frame is dead after the IRETQ.
    fn lend_iopl(&mut self, slot: usize, regs: &Regs) -> Result<()> {
        const IRETQ: [u8; 2] = [0x48, 0xcf];
        let code = self.two_bytes(slot, regs.rip)?;
        let offset = regs.gpr[reg::RSP].wrapping_sub(va::PRIVATE);
        if code != IRETQ || offset > PRIVATE_LEN as u64 - FRAME {
            return Ok(());
        }
        let at = CpuPages::of(slot).private + offset;
        let mut word = [0; 8];
        self.memory.read(at + 8, &mut word)?;
        if word[0] & 3 == 3 {
            self.memory.read(at + 16, &mut word)?;
            self.memory.write_u64(at + 16, u64::from_le_bytes(word) | IOPL)?;
        }
        Ok(())
    }

    /// Runs a vCPU, and continues after a late exit of a HLT that an earlier step passed over. Each such HLT causes at
    /// most one late exit, after an instruction that is not a HLT. Any other exit of a HLT is returned.
    fn run(&mut self, index: usize, slot: usize, from: u64) -> Result<Exit> {
        loop {
            let exit = self.vcpus[index].run(&self.guard, from)?;
            let owed = exit == Exit::Halt && self.vcpus[index].pays_halt();
            if !owed || self.is_halt(slot, from, self.vcpus[index].rip())? {
                return Ok(exit);
            }
        }
    }

    /// True if the instruction from one address to another is a HLT.
    fn is_halt(&self, slot: usize, from: u64, to: u64) -> Result<bool> {
        const HLT: u8 = 0xf4;
        let len = to.wrapping_sub(from) as usize;
        let mut code = [0; FETCH_WINDOW];
        let Some(code) = code.get_mut(..len) else { return Ok(false) };
        for (distance, byte) in code.iter_mut().enumerate().rev() {
            let Ok(address) = self.code_address(slot, from + distance as u64) else { return Ok(false) };
            self.memory.read(address, std::slice::from_mut(byte))?;
            // Only prefixes precede the opcode, so that the last byte rules out nearly every other instruction.
            if distance == len - 1 && *byte != HLT {
                return Ok(false);
            }
        }
        Ok(decode::decode(code, from).is_some_and(|instruction| decode::is_halt(&instruction)))
    }

    fn debug_frame(&self, slot: usize) -> Result<Frame> {
        let mut bytes = [0; FRAME as usize];
        self.memory.read(CpuPages::of(slot).private + private::DB_STACK_TOP - FRAME, &mut bytes)?;
        let (words, _) = bytes.as_chunks::<8>();
        let word = |index: usize| u64::from_le_bytes(words[index]);
        Ok(Frame { rip: word(0), cs: word(1), rflags: word(2), rsp: word(3), ss: word(4) })
    }

    /// Writes a doorbell over the code at a virtual address. Returns the bytes that it replaces.
    fn plant(&mut self, slot: usize, to: u64) -> Result<[u8; 2]> {
        let original = self.two_bytes(slot, to)?;
        self.set_two_bytes(slot, to, [0xe6, port::STOP])?;
        Ok(original)
    }

    /// Two bytes of the code at a virtual address, which may lie in different pages.
    fn two_bytes(&self, slot: usize, at: u64) -> Result<[u8; 2]> {
        let mut bytes = [0; 2];
        for (at, byte) in (at..).zip(&mut bytes) {
            self.memory.read(self.code_address(slot, at)?, std::slice::from_mut(byte))?;
        }
        Ok(bytes)
    }

    fn set_two_bytes(&mut self, slot: usize, at: u64, bytes: [u8; 2]) -> Result<()> {
        let mut each = (at..).zip(bytes);
        each.try_for_each(|(at, byte)| self.memory.write(self.code_address(slot, at)?, &[byte]))
    }

    /// Guest-physical address of the code that `slot` executes at a virtual address.
    fn code_address(&self, slot: usize, virt: u64) -> Result<u64> {
        if (va::IMAGE..va::PRIVATE).contains(&virt) {
            Ok(virt)
        } else if (va::SITE..va::SITE + 2 * PAGE).contains(&virt) {
            Ok(CpuPages::of(slot).view + (virt - va::SITE))
        } else if in_landing_window(virt) {
            Ok(layout::LANDING + virt % PAGE)
        } else {
            Err(MachineError::Contract { rip: virt, what: "no code is mapped at this address".into() })
        }
    }
}

/// True at the exit of a doorbell at this address. RIP is at the OUT on some KVMs, and behind it on others.
fn at_doorbell(after: &Regs, address: u64) -> bool {
    after.rip == address || after.rip == address + DOORBELL
}

/// True for the faults that push an error code (SDM vol. 3, table 6-1).
fn pushes_error_code(number: u8) -> bool {
    matches!(number, vector::DF | vector::GP | vector::PF)
}

/// The registers that a return from the #DB stub would restore.
fn returned(frame: &Frame, after: Regs) -> Regs {
    let mut gpr = after.gpr;
    gpr[reg::RSP] = frame.rsp;
    let rflags = frame.rflags & !HIDDEN_FLAGS | 2;
    Regs { gpr, rip: frame.rip, rflags, cs: frame.cs as u16, ss: frame.ss as u16, ..after }
}

fn unexpected(exit: &str, after: &Regs, before: &Regs) -> MachineError {
    MachineError::UnexpectedExit { exit: exit.into(), rip: after.rip, from: before.rip }
}
