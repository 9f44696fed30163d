//! The canonical state of one vCPU: everything that decides what it does next, and nothing else.
//!
//! Two states are equal exactly if no guest instruction can distinguish them. The following traces of a backend are
//! therefore removed before a state is compared or hashed:
//!
//! * TF, RF and IOPL, in RFLAGS and in the trap frames that the stepper causes to be pushed: TF is how we
//!   step, RF is left by #DB on some backends, IOPL 3 is only there so that ring 3 may ring a doorbell.
//! * The bytes of a stack below its stack pointer: a trap will overwrite them, and the guest has no red zone.
//! * Segment attributes: they follow from the selectors.

use std::sync::Arc;

use crossmod_abi::{private, selector, va};

/// RFLAGS bits that never take part in a state: TF, IOPL, RF.
pub const HIDDEN_FLAGS: u64 = 1 << 8 | 3 << 12 | 1 << 16;
/// RFLAGS.IF.
pub const IF: u64 = 1 << 9;
/// Bytes of the private page that belong to the state.
pub const PRIVATE_LEN: usize = private::STATE_END as usize;

/// Register numbers in [`Regs::gpr`], in the order of instruction encoding.
pub mod reg {
    /// RAX.
    pub const RAX: usize = 0;
    /// RSP.
    pub const RSP: usize = 4;
    /// R12: the address of the site, by convention of the guest.
    pub const R12: usize = 12;
    /// R15: passes left, by convention of the guest.
    pub const R15: usize = 15;
}

/// Registers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Regs {
    /// RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8 … R15.
    pub gpr: [u64; 16],
    /// Instruction pointer.
    pub rip: u64,
    /// RFLAGS without [`HIDDEN_FLAGS`].
    pub rflags: u64,
    /// Page-fault address.
    pub cr2: u64,
    /// CS selector; its low two bits are the CPL.
    pub cs: u16,
    /// SS selector.
    pub ss: u16,
    /// NMIs are blocked until an IRET.
    pub nmi_masked: bool,
}

impl Regs {
    /// True at CPL 3.
    pub fn user(&self) -> bool {
        self.cs & 3 == 3
    }

    /// True if maskable interrupts are accepted.
    pub fn interrupts_on(&self) -> bool {
        self.rflags & IF != 0
    }
}

/// A vCPU with the memory that only it sees.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Cpu {
    /// Registers.
    pub regs: Regs,
    /// The state part of the private page: mailbox and stacks. Most vCPUs are copies of another that differ in registers
    /// only, and share it.
    pub private: Arc<[u8; PRIVATE_LEN]>,
}

/// An interrupt or trap frame as the CPU pushes it in 64-bit mode (SDM vol. 3, 6.14.2), without error code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame {
    /// Where the interrupted code goes on.
    pub rip: u64,
    /// Its CS.
    pub cs: u64,
    /// Its RFLAGS.
    pub rflags: u64,
    /// Its RSP.
    pub rsp: u64,
    /// Its SS.
    pub ss: u64,
}

/// Size of a [`Frame`] in bytes.
pub const FRAME: u64 = 40;

impl Cpu {
    /// A vCPU before its first instruction: all registers zero but those of the executor's contract.
    pub fn at(rip: u64, site: u64, passes: u8, user: bool) -> Cpu {
        let mut regs = Regs { rip, rflags: 2 | IF, ..Regs::default() };
        (regs.cs, regs.ss) = if user {
            (selector::USER_CODE, selector::USER_DATA)
        } else {
            (selector::KERNEL_CODE, selector::KERNEL_STACK)
        };
        regs.gpr[reg::RSP] = va::PRIVATE + private::TASK_STACK + private::STACK;
        regs.gpr[reg::R12] = site;
        regs.gpr[reg::R15] = passes.into();
        Cpu { regs, private: Arc::new([0; PRIVATE_LEN]) }
    }

    /// Little-endian value of up to 8 bytes at a private virtual address, if it is part of the state.
    pub fn read(&self, address: u64, size: usize) -> Option<u64> {
        let start = usize::try_from(address.checked_sub(va::PRIVATE)?).ok()?;
        let bytes = self.private.get(start..start.checked_add(size)?)?;
        let mut value = [0; 8];
        value.get_mut(..size)?.copy_from_slice(bytes);
        Some(u64::from_le_bytes(value))
    }

    fn write_u64(&mut self, address: u64, value: u64) {
        let start = (address - va::PRIVATE) as usize;
        if let Some(bytes) = Arc::make_mut(&mut self.private).get_mut(start..start + 8) {
            bytes.copy_from_slice(&value.to_le_bytes());
        }
    }

    /// The frame at a private address.
    pub fn frame(&self, address: u64) -> Option<Frame> {
        let word = |index: u64| self.read(address + 8 * index, 8);
        Some(Frame { rip: word(0)?, cs: word(1)?, rflags: word(2)?, rsp: word(3)?, ss: word(4)? })
    }

    /// Whether the last broadcast was acknowledged.
    pub fn acknowledged(&self) -> bool {
        self.private[private::ACK as usize] != 0
    }

    /// The same vCPU with its acknowledgement cleared, as a broadcast does.
    pub fn without_ack(&self) -> Cpu {
        let mut cpu = self.clone();
        Arc::make_mut(&mut cpu.private)[private::ACK as usize..private::ACK as usize + 4].fill(0);
        cpu
    }

    /// The same vCPU with nothing in its mailbox: what is there belongs to no pass.
    pub fn without_mailbox(&self) -> Cpu {
        let mut cpu = self.clone();
        if cpu.private[..private::TASK_STACK as usize].iter().any(|&byte| byte != 0) {
            Arc::make_mut(&mut cpu.private)[..private::TASK_STACK as usize].fill(0);
        }
        cpu
    }

    /// One of its words that a scenario names.
    pub fn word(&self, number: u8) -> u32 {
        self.read(va::PRIVATE + private::WORD + 4 * u64::from(number), 4).unwrap_or_default() as u32
    }

    /// The same vCPU with one of its words changed.
    pub fn with_word(&self, number: u8, value: u32) -> Cpu {
        let mut cpu = self.clone();
        let at = (private::WORD + 4 * u64::from(number)) as usize;
        Arc::make_mut(&mut cpu.private)[at..at + 4].copy_from_slice(&value.to_le_bytes());
        cpu
    }

    /// Makes the frame that was just pushed at RSP canonical: the stepper's flags go, and so does what the
    /// alignment of frames to 16 bytes left between it and the interrupted stack pointer. Says which part of
    /// the private page it may have changed.
    pub fn clean_frame_at_rsp(&mut self) -> Option<std::ops::Range<usize>> {
        let frame = self.regs.gpr[reg::RSP];
        let Frame { rflags, rsp, .. } = self.frame(frame)?;
        self.write_u64(frame + 16, rflags & !HIDDEN_FLAGS);
        let top = frame + FRAME;
        let hole = top..if (top..top + 16).contains(&rsp) { rsp } else { top };
        let offset = |address: u64| (address - va::PRIVATE) as usize;
        Arc::make_mut(&mut self.private).get_mut(offset(hole.start)..offset(hole.end))?.fill(0);
        Some(offset(frame)..offset(hole.end))
    }

    /// Zeroes what no instruction may rely on: stack bytes below the stack pointers in use, found by
    /// following the saved RSPs from stack to stack. False if RSP is in none of the guest's stacks.
    #[must_use]
    pub fn clear_dead_stack(&mut self) -> bool {
        const BASES: [u64; 3] = [private::TASK_STACK, private::KERNEL_STACK, private::NMI_STACK];
        let mut live_from = BASES.map(|base| base + private::STACK);
        const NMI: usize = 2;
        let mut rsp = self.regs.gpr[reg::RSP];
        let mut nested = false;
        for hop in 0..=BASES.len() {
            let offset = rsp.wrapping_sub(va::PRIVATE);
            // A full stack pointer equals the top, which is the base of the next stack: (base, top].
            let Some(stack) = BASES.iter().position(|&base| offset > base && offset <= base + private::STACK)
            else {
                return hop > 0;
            };
            live_from[stack] = live_from[stack].min(offset);
            if stack == 0 {
                break;
            }
            // The kernel and NMI stacks are entered only through the TSS: a frame is at their top. That of a
            // nested NMI leads into its own stack, where the one that it interrupted keeps a copy of its own.
            let below = if stack == NMI && nested { private::NMI_COPY } else { FRAME };
            let Some(frame) = self.frame(va::PRIVATE + BASES[stack] + private::STACK - below) else { break };
            nested = stack == NMI;
            rsp = frame.rsp;
        }
        for (base, live) in BASES.into_iter().zip(live_from) {
            Arc::make_mut(&mut self.private)[base as usize..live as usize].fill(0);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task_top() -> u64 {
        va::PRIVATE + private::TASK_STACK + private::STACK
    }

    #[test]
    fn dead_bytes_go_and_live_bytes_of_an_interrupted_stack_stay() {
        let mut cpu = Cpu::at(0x10_0000, va::SITE, 1, false);
        cpu.write_u64(task_top() - 8, 0x1111);
        cpu.write_u64(task_top() - 16, 0x2222);
        let nmi_top = va::PRIVATE + private::NMI_STACK + private::STACK;
        cpu.write_u64(nmi_top - 16, task_top() - 8); // saved RSP
        cpu.write_u64(nmi_top - 48, 0x3333);
        cpu.regs.gpr[reg::RSP] = nmi_top - FRAME;
        assert!(cpu.clear_dead_stack());
        assert_eq!(cpu.read(task_top() - 8, 8), Some(0x1111));
        assert_eq!(cpu.read(task_top() - 16, 8), Some(0));
        assert_eq!(cpu.read(nmi_top - 48, 8), Some(0));
        assert_eq!(cpu.read(nmi_top - 16, 8), Some(task_top() - 8));
    }

    #[test]
    fn a_wild_stack_pointer_is_told() {
        let mut cpu = Cpu::at(0x10_0000, va::SITE, 1, false);
        cpu.regs.gpr[reg::RSP] = 0x1234;
        assert!(!cpu.clear_dead_stack());
    }

    #[test]
    fn an_nmi_frame_that_points_into_its_own_stack_ends_the_walk() {
        let mut cpu = Cpu::at(0x10_0000, va::SITE, 1, false);
        let nmi_top = va::PRIVATE + private::NMI_STACK + private::STACK;
        cpu.regs.gpr[reg::RSP] = nmi_top - FRAME;
        cpu.write_u64(nmi_top - 16, nmi_top - 64);
        assert!(cpu.clear_dead_stack());
    }
}
