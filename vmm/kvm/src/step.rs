//! The stepping primitive: one instruction, or the delivery of one event, from a complete state to a
//! complete state.
//!
//! A step is whatever ran between restoring the state and the exit, so each kind of step is set up to end
//! at a known place on every backend, and the place is checked:
//!
//! | what | how it ends |
//! |---|---|
//! | instruction at ring 0 | TF in the restored RFLAGS and KVM's single-step: a debug exit |
//! | instruction at ring 3 | TF: #DB through the guest's gate, whose stub rings a doorbell; registers come from its frame |
//! | IRETQ, and whatever some backend steps over | TF clear, a doorbell planted at the successor |
//! | INT3 | the #BP handler's doorbell; where KVM cannot emulate INT3 at ring 0 the host delivers the #BP |
//! | NMI, interrupt, machine check | the handler's doorbell |
//! | SMI | the SMI handler's doorbell, then, behind its RSM, one planted at RIP itself; where KVM has no SMM it is modelled: nothing happens |
//!
//! A restore through the sync-regs page drops KVM's single-step on kvm-amd, and KVM's single-step at ring 3
//! is wrong on kvm-pvm; TF works on both.
//!
//! A HLT that a step executes (only what is torn has one) ends in an exit of that name, except on kvm-pvm, whose
//! single-step goes over it, and which halts at a later step instead, in another state: an IRETQ's, for example. The
//! vCPU knows that such an exit is to come, and goes on behind it.
//!
//! A delivery that stays at ring 0 leaves SS alone, also when it takes an IST stack (SDM vol. 3, 6.14.4: only
//! a change of CPL makes it null; APM vol. 2, 8.9.3). QEMU's emulation of a CPU makes it null there, too, and
//! the next frame would show it: SS is put back.

use crossmod_abi::{PAGE, port, private, va, vector};
use crossmod_model::layout::in_landing_window;
use crossmod_model::step::{Landing, Stimulus};
use crossmod_model::x86::cpu::{Cpu, FRAME, Frame, HIDDEN_FLAGS, PRIVATE_LEN, Regs, reg};
use crossmod_model::x86::decode::{self, FETCH_WINDOW};

use super::error::MachineError;
use super::layout::CpuPages;
use super::vcpu::{Exit, IOPL, Inject};
use super::{Backing, Machine};

/// Length in bytes of a doorbell, `out imm8, al`.
pub(super) const DOORBELL: u64 = 2;

/// Counts of what the host had to do by itself, for `probe` and reports.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Assists {
    /// Steps executed by KVM.
    pub steps: u64,
    /// #BP deliveries completed by the host because KVM cannot emulate INT3 at ring 0.
    pub completed_breakpoints: u64,
    /// Steps that ended at a planted doorbell.
    pub planted_stops: u64,
    /// Ring-3 steps that came back through the guest's #DB stub.
    pub user_traps: u64,
    /// SMIs that a vCPU took and came back from.
    pub smis: u64,
}

impl Assists {
    /// What was added to an earlier count.
    #[must_use]
    pub fn since(self, before: Assists) -> Assists {
        Assists {
            steps: self.steps - before.steps,
            completed_breakpoints: self.completed_breakpoints - before.completed_breakpoints,
            planted_stops: self.planted_stops - before.planted_stops,
            user_traps: self.user_traps - before.user_traps,
            smis: self.smis - before.smis,
        }
    }
}

impl Machine {
    /// Says whether the first vCPU still owes the exit of a HLT that was stepped over, and whether it is to owe one from
    /// here on. For tests, which cannot bring about both on one host.
    #[doc(hidden)]
    pub fn replace_halt_owed(&mut self, owed: bool) -> bool {
        let before = self.vcpus[0].pays_halt();
        if owed {
            self.vcpus[0].owes_halt();
        }
        before
    }

    /// One step of the vCPU in `slot` from `cpu`. The memory it may read must be in place: its private
    /// page is written here, shared page and views by the caller.
    pub fn step(
        &mut self,
        slot: usize,
        cpu: &Cpu,
        stimulus: Stimulus,
    ) -> Result<(Cpu, Landing), MachineError> {
        self.write_private(slot, cpu)?;
        let (regs, landing) = self.step_regs(slot, &cpu.regs, stimulus)?;
        self.finish(slot, regs, landing)
    }

    /// The same, going on from the memory the vCPU itself left behind.
    pub(super) fn step_regs(
        &mut self,
        slot: usize,
        regs: &Regs,
        stimulus: Stimulus,
    ) -> Result<(Regs, Landing), MachineError> {
        if stimulus == Stimulus::Smi && !self.real_smis {
            return Ok((*regs, Landing::Boundary));
        }
        self.assists.steps += 1;
        let cr3 = CpuPages::of(slot).pml4();
        let (trap_flag, inject) = match stimulus {
            Stimulus::Instruction | Stimulus::Breakpoint => (true, Inject::Nothing),
            Stimulus::InstructionTo(_) => (false, Inject::Nothing),
            Stimulus::Nmi => (false, Inject::Nmi),
            Stimulus::Interrupt(vector) => (false, Inject::Interrupt(vector)),
            Stimulus::Smi => (false, Inject::Smi),
            Stimulus::MachineCheck => (false, Inject::MachineCheck),
        };
        if let Stimulus::InstructionTo(to) = stimulus
            && to.abs_diff(regs.rip) < DOORBELL
        {
            let what = "the stop after an instruction would stand on the instruction itself".into();
            return Err(MachineError::Contract { rip: regs.rip, what });
        }
        let planted = match stimulus {
            Stimulus::InstructionTo(to) => {
                self.lend_iopl(slot, regs)?;
                Some((to, self.plant(slot, to)?))
            }
            Stimulus::Smi => Some((regs.rip, self.plant(slot, regs.rip)?)),
            _ => None,
        };
        let index = self.backing(slot, regs.user());
        let vcpu = &mut self.vcpus[index];
        // Nothing is to be stepped inside of SMM, nor over its RSM.
        vcpu.set_single_step(!regs.user() && stimulus != Stimulus::Smi)?;
        let restored = vcpu.restore(cr3, regs, trap_flag, inject);
        let mut exit = restored.and_then(|()| self.run(index, slot, regs.rip));
        let entered = matches!(exit, Ok(Exit::Doorbell(port::SMM))) && self.vcpus[index].in_smm();
        if stimulus == Stimulus::Smi && entered {
            exit = self.run(index, slot, regs.rip);
        }
        if stimulus == Stimulus::Breakpoint
            && let Ok(Exit::Internal(_)) = exit
            && self.vcpus[index].rip() == regs.rip
        {
            self.assists.completed_breakpoints += 1;
            self.vcpus[index].inject_at(regs.rip + 1, vector::BP);
            exit = self.run(index, slot, regs.rip);
        }
        if let Some((to, original)) = planted {
            self.unplant(slot, to, &original)?;
        }
        let after = self.vcpus[index].regs()?;
        if matches!(exit, Ok(Exit::Doorbell(_))) && after.rip == regs.rip {
            // An OUT where the step began. KVM is not done with it, and would step over whatever stands there next.
            self.vcpus[index].owes_completion_at(regs.rip);
        }
        if matches!(exit, Ok(Exit::Debug)) && self.is_halt(slot, regs.rip, after.rip)? {
            self.vcpus[index].owes_halt();
        }
        match exit? {
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
                    Stimulus::Smi if at_doorbell(&after, regs.rip) && entered => {
                        self.assists.smis += 1;
                        Ok((Regs { rip: regs.rip, ..after }, Landing::Boundary))
                    }
                    _ => Err(unexpected("planted doorbell", &after, regs)),
                }
            }
            Exit::Doorbell(number) if !self.rung_by_handler(number, &after) => {
                Err(unexpected(&format!("doorbell {number:#x}"), &after, regs))
            }
            // On a stack that is part of no state.
            Exit::Doorbell(vector::DF) => Err(unexpected(
                "double fault (an exception without a gate, or without a stack)",
                &after,
                regs,
            )),
            Exit::Doorbell(vector::DB) => {
                self.assists.user_traps += 1;
                let frame = self.debug_frame(slot)?;
                let mut gpr = after.gpr;
                gpr[reg::RSP] = frame.rsp;
                let regs = Regs {
                    gpr,
                    rip: frame.rip,
                    rflags: frame.rflags & !HIDDEN_FLAGS | 2,
                    cs: frame.cs as u16,
                    ss: frame.ss as u16,
                    ..after
                };
                Ok((regs, Landing::Boundary))
            }
            Exit::Doorbell(number) => {
                let rip = self.doorbells[usize::from(number)].map_or(after.rip, |entry| entry + DOORBELL);
                let ss = if regs.user() == after.user() { regs.ss } else { after.ss };
                Ok((Regs { rip, ss, ..after }, Landing::Handler(number)))
            }
            Exit::Halt => Err(unexpected("HLT", &after, regs)),
            Exit::Internal(what) | Exit::Other(what) => Err(unexpected(&what, &after, regs)),
        }
    }

    /// Makes the state after a step canonical: reads the private page back, cleans the frame just pushed.
    pub(super) fn finish(
        &mut self,
        slot: usize,
        regs: Regs,
        landing: Landing,
    ) -> Result<(Cpu, Landing), MachineError> {
        let mut cpu = Cpu { regs, private: Box::new([0; PRIVATE_LEN]) };
        self.memory.read(CpuPages::of(slot).private(), &mut cpu.private[..])?;
        if let Landing::Handler(vector) = landing
            && !pushes_error_code(vector)
            && let Some(changed) = cpu.clean_frame_at_rsp()
        {
            // In memory too: the stepper's own flags must not come back with the handler's IRET.
            let at = CpuPages::of(slot).private() + changed.start as u64;
            self.memory.write(at, &cpu.private[changed])?;
        }
        if cpu.clear_dead_stack() {
            Ok((cpu, landing))
        } else {
            let what = format!("RSP {:#x} is in no stack of the guest", cpu.regs.gpr[reg::RSP]);
            Err(MachineError::Contract { rip: cpu.regs.rip, what })
        }
    }

    /// True if the doorbell with this number was rung by the handler that owns it, not by some other OUT.
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

    /// An IRETQ to ring 3 takes IOPL from its frame, where it is hidden like all that is the stepper's; the
    /// doorbell planted behind it needs it. The TSS has an I/O bitmap that would do, but QEMU's emulation
    /// looks at that of an available TSS only, which a TSS in use never is. The frame is dead once it is used.
    fn lend_iopl(&mut self, slot: usize, regs: &Regs) -> Result<(), MachineError> {
        const IRETQ: [u8; 2] = [0x48, 0xcf];
        let mut code = [0; IRETQ.len()];
        for (distance, byte) in (0..).zip(&mut code) {
            let at = self.code_address(slot, regs.rip + distance)?;
            self.memory.read(at, std::slice::from_mut(byte))?;
        }
        let offset = regs.gpr[reg::RSP].wrapping_sub(va::PRIVATE);
        if code != IRETQ || offset > PRIVATE_LEN as u64 - FRAME {
            return Ok(());
        }
        let at = CpuPages::of(slot).private() + offset;
        let mut word = [0; 8];
        self.memory.read(at + 8, &mut word)?;
        if word[0] & 3 == 3 {
            self.memory.read(at + 16, &mut word)?;
            self.memory.write_u64(at + 16, u64::from_le_bytes(word) | IOPL)?;
        }
        Ok(())
    }

    /// Runs a vCPU, and on behind a halt that an earlier step owes, which leaves KVM where it was. There is one such
    /// exit at most for each HLT that was stepped over, and it comes behind an instruction that is none: an exit
    /// that nothing owes, or that the HLT at `from` itself ends in, is told.
    fn run(&mut self, index: usize, slot: usize, from: u64) -> Result<Exit, MachineError> {
        loop {
            let exit = self.vcpus[index].run(&self.guard, from)?;
            let owed = exit == Exit::Halt && self.vcpus[index].pays_halt();
            if !owed || self.is_halt(slot, from, self.vcpus[index].rip())? {
                return Ok(exit);
            }
        }
    }

    /// True if what a single step went over, from one address to another, is a HLT.
    fn is_halt(&self, slot: usize, from: u64, to: u64) -> Result<bool, MachineError> {
        const HLT: u8 = 0xf4;
        let len = to.wrapping_sub(from) as usize;
        let mut code = [0; FETCH_WINDOW];
        let Some(code) = code.get_mut(..len) else { return Ok(false) };
        for (distance, byte) in code.iter_mut().enumerate().rev() {
            let Ok(address) = self.code_address(slot, from + distance as u64) else { return Ok(false) };
            self.memory.read(address, std::slice::from_mut(byte))?;
            // Only prefixes come before it: nearly always the last byte is enough to know that it is something else.
            if distance == len - 1 && *byte != HLT {
                return Ok(false);
            }
        }
        Ok(decode::decode(code, from).is_some_and(|instruction| decode::is_halt(&instruction)))
    }

    fn debug_frame(&self, slot: usize) -> Result<Frame, MachineError> {
        let mut bytes = [0; FRAME as usize];
        self.memory.read(CpuPages::of(slot).private() + private::DB_STACK_TOP - FRAME, &mut bytes)?;
        let word = |index: usize| {
            let mut word = [0; 8];
            word.copy_from_slice(&bytes[8 * index..8 * index + 8]);
            u64::from_le_bytes(word)
        };
        Ok(Frame { rip: word(0), cs: word(1), rflags: word(2), rsp: word(3), ss: word(4) })
    }

    /// Writes a doorbell over the code at a virtual address; returns what stood there.
    fn plant(&mut self, slot: usize, to: u64) -> Result<[u8; 2], MachineError> {
        let mut original = [0; 2];
        for (index, byte) in [0xe6, port::STOP].into_iter().enumerate() {
            let at = self.code_address(slot, to + index as u64)?;
            self.memory.read(at, &mut original[index..=index])?;
            self.memory.write(at, &[byte])?;
        }
        Ok(original)
    }

    fn unplant(&mut self, slot: usize, to: u64, original: &[u8; 2]) -> Result<(), MachineError> {
        for (index, &byte) in original.iter().enumerate() {
            let at = self.code_address(slot, to + index as u64)?;
            self.memory.write(at, &[byte])?;
        }
        Ok(())
    }

    /// Guest-physical address of the code that `slot` executes at a virtual address.
    fn code_address(&self, slot: usize, virt: u64) -> Result<u64, MachineError> {
        if (va::IMAGE..va::PRIVATE).contains(&virt) {
            Ok(virt)
        } else if (va::SITE..va::SITE + 2 * PAGE).contains(&virt) {
            Ok(CpuPages::of(slot).view() + (virt - va::SITE))
        } else if in_landing_window(virt) {
            Ok(super::layout::LANDING + virt % PAGE)
        } else {
            Err(MachineError::Contract { rip: virt, what: "no code is mapped there".into() })
        }
    }
}

/// True at the exit of a doorbell at this address: RIP stands at the OUT on some backends, behind it on others.
fn at_doorbell(after: &Regs, address: u64) -> bool {
    after.rip == address || after.rip == address + DOORBELL
}

/// True for the addresses around the site that all show the landing page.
/// True for the faults whose frame has an error code below it (SDM vol. 3, table 6-1).
fn pushes_error_code(number: u8) -> bool {
    matches!(number, vector::DF | vector::GP | vector::PF)
}

fn unexpected(exit: &str, after: &Regs, before: &Regs) -> MachineError {
    MachineError::UnexpectedExit { exit: exit.into(), rip: after.rip, from: before.rip }
}
