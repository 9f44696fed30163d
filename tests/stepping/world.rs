//! A vCPU with its memory as the table sees it: states to start from, and the few architectural effects that
//! the guest's instructions are made of, written from the manuals and not from the code under test.

use std::sync::Arc;

use crossmod::layout::Shared;
use crossmod::machine::Machine;
use crossmod::step::{Landing, Stimulus};
use crossmod::x86::cpu::{Cpu, FRAME, HIDDEN_FLAGS, IF, reg};
use crossmod_abi::{private, selector, shared, va, vector};
use iced_x86::{Instruction, OpKind, Register};

pub const CF: u64 = 1;
pub const PF: u64 = 1 << 2;
pub const AF: u64 = 1 << 4;
pub const ZF: u64 = 1 << 6;
pub const SF: u64 = 1 << 7;
pub const DF: u64 = 1 << 10;
pub const OF: u64 = 1 << 11;
pub const ARITHMETIC: u64 = CF | PF | AF | ZF | SF | OF;

pub const TASK_TOP: u64 = va::PRIVATE + private::TASK_STACK + private::STACK;
pub const KERNEL_TOP: u64 = va::PRIVATE + private::KERNEL_STACK + private::STACK;
pub const NMI_TOP: u64 = va::PRIVATE + private::NMI_STACK + private::STACK;

/// Registers, private page and shared page, with where the last step landed.
#[derive(Debug, Clone, PartialEq)]
pub struct World {
    pub cpu: Cpu,
    pub shared: Shared,
    pub landing: Landing,
    /// Flags that the last instruction leaves undefined: not compared.
    pub undefined: u64,
}

impl World {
    /// A vCPU about to execute at `rip`: registers, flags and live memory at random, dead stack bytes zero.
    pub fn random(random: &mut fastrand::Rng, rip: u64, user: bool) -> World {
        let mut cpu = Cpu::at(rip, va::SITE, 1, user);
        for value in &mut cpu.regs.gpr {
            *value = random.u64(..);
        }
        // Room for a trap frame and more on either side.
        cpu.regs.gpr[reg::RSP] = TASK_TOP - 8 * random.u64(8..16);
        // Ring 3 always runs with interrupts on, and never with NMIs blocked.
        let off = if user || random.bool() { 0 } else { IF };
        cpu.regs.rflags = 2 | (IF & !off) | (random.u64(..) & (ARITHMETIC | DF));
        cpu.regs.nmi_masked = !user && random.bool();
        let live = (cpu.regs.gpr[reg::RSP] - va::PRIVATE) as usize;
        let top = (TASK_TOP - va::PRIVATE) as usize;
        let page = Arc::make_mut(&mut cpu.private);
        page[private::ACK as usize] = random.u8(0..2);
        random.fill(&mut page[4..private::TASK_STACK as usize]);
        random.fill(&mut page[live..top]);
        let mut memory = [0; shared::STATE_END as usize];
        for word in memory.chunks_exact_mut(4) {
            if random.bool() {
                random.fill(word);
            }
        }
        World { cpu, shared: memory, landing: Landing::Boundary, undefined: 0 }
    }

    pub fn rsp(&self) -> u64 {
        self.cpu.regs.gpr[reg::RSP]
    }

    pub fn set_rsp(&mut self, value: u64) {
        self.cpu.regs.gpr[reg::RSP] = value;
    }

    pub fn load(&self, address: u64, size: usize) -> u64 {
        let mut word = [0; 8];
        word[..size].copy_from_slice(self.bytes(address, size));
        u64::from_le_bytes(word)
    }

    pub fn store(&mut self, address: u64, size: usize, value: u64) {
        let (memory, start): (&mut [u8], u64) = if address < va::SHARED {
            (&mut Arc::make_mut(&mut self.cpu.private)[..], va::PRIVATE)
        } else {
            (&mut self.shared, va::SHARED)
        };
        let start = (address - start) as usize;
        memory[start..start + size].copy_from_slice(&value.to_le_bytes()[..size]);
    }

    fn bytes(&self, address: u64, size: usize) -> &[u8] {
        let (memory, start): (&[u8], u64) = if address < va::SHARED {
            (&self.cpu.private[..], va::PRIVATE)
        } else {
            (&self.shared, va::SHARED)
        };
        &memory[(address - start) as usize..][..size]
    }

    pub fn push(&mut self, value: u64) {
        let rsp = self.rsp() - 8;
        self.set_rsp(rsp);
        self.store(rsp, 8, value);
    }

    /// Takes a word off the stack; what is left there is dead, and so zero in a canonical state.
    pub fn pop(&mut self) -> u64 {
        let rsp = self.rsp();
        let value = self.load(rsp, 8);
        self.store(rsp, 8, 0);
        self.set_rsp(rsp + 8);
        value
    }

    /// The address of the memory operand: no operand of the guest or of a site has an index.
    pub fn address(&self, instruction: &Instruction) -> u64 {
        assert_eq!(instruction.memory_index(), Register::None, "{instruction:?}");
        let base = match instruction.memory_base() {
            Register::None | Register::RIP => 0, // the displacement is the address
            base => self.cpu.regs.gpr[base.full_register().number()],
        };
        base.wrapping_add(instruction.memory_displacement64())
    }

    /// Operand size in bytes.
    pub fn size(instruction: &Instruction) -> usize {
        match instruction.op0_kind() {
            OpKind::Register => instruction.op0_register().size(),
            _ => instruction.memory_size().size(),
        }
    }

    /// The value of an operand.
    pub fn get(&self, instruction: &Instruction, operand: u32) -> u64 {
        let size = World::size(instruction);
        let value = match instruction.op_kind(operand) {
            OpKind::Register => self.cpu.regs.gpr[instruction.op_register(operand).full_register().number()],
            OpKind::Memory => self.load(self.address(instruction), size),
            _ => instruction.immediate(operand),
        };
        value & mask(size)
    }

    /// Writes an operand; a 32-bit register write clears the upper half.
    pub fn set(&mut self, instruction: &Instruction, operand: u32, value: u64) {
        let size = World::size(instruction);
        match instruction.op_kind(operand) {
            OpKind::Register => {
                assert!(size >= 2, "no row writes a byte of a register");
                let number = instruction.op_register(operand).full_register().number();
                // 16 bits leave the others alone, 32 bits clear them.
                let kept = if size == 2 { self.cpu.regs.gpr[number] & !mask(2) } else { 0 };
                self.cpu.regs.gpr[number] = kept | value & mask(size);
            }
            _ => self.store(self.address(instruction), size, value),
        }
    }

    pub fn flag(&self, flag: u64) -> bool {
        self.cpu.regs.rflags & flag != 0
    }

    /// Sets the flags in `which` as `value` has them.
    pub fn set_flags(&mut self, which: u64, value: u64) {
        self.cpu.regs.rflags = (self.cpu.regs.rflags & !which) | (value & which);
    }

    /// ZF, SF and PF of a result.
    pub fn result_flags(result: u64, size: usize) -> u64 {
        let result = result & mask(size);
        let negative = result & sign(size) != 0;
        let even = (result as u8).count_ones().is_multiple_of(2);
        when(ZF, result == 0) | when(SF, negative) | when(PF, even)
    }

    /// `left - right`, with every flag of SUB and CMP.
    pub fn subtract(left: u64, right: u64, size: usize) -> (u64, u64) {
        let result = left.wrapping_sub(right) & mask(size);
        let overflow = (left ^ right) & (left ^ result) & sign(size) != 0;
        let flags = World::result_flags(result, size)
            | when(CF, left < right)
            | when(AF, left & 15 < right & 15)
            | when(OF, overflow);
        (result, flags)
    }

    /// What the CPU does to deliver a vector whose handler's doorbell is at `entry` (SDM vol. 3, 6.14): the
    /// gate's stack, aligned; the frame; interrupts off; SS null if the ring changes.
    pub fn deliver(&mut self, vector: u8, entry: u64, return_to: u64) {
        let before = self.cpu.regs;
        let stack = match vector {
            vector::NMI => NMI_TOP,
            _ if before.user() => KERNEL_TOP,
            _ => self.rsp() & !15,
        };
        self.set_rsp(stack);
        for value in [before.ss.into(), before.gpr[reg::RSP], before.rflags, before.cs.into(), return_to] {
            self.push(value);
        }
        let regs = &mut self.cpu.regs;
        if before.user() {
            regs.ss = 0;
        }
        regs.cs = selector::KERNEL_CODE;
        regs.rflags &= !IF;
        regs.nmi_masked |= vector == vector::NMI;
        regs.rip = entry + 2;
        self.landing = Landing::Handler(vector);
    }

    /// IRETQ: the frame at RSP, all five words of it; NMIs are open again.
    pub fn iret(&mut self) {
        let [rip, cs, rflags, rsp, ss] = std::array::from_fn(|_| self.pop());
        // Between the frame and the interrupted stack pointer nothing lives; other stacks have lost their use.
        let regs = &mut self.cpu.regs;
        (regs.rip, regs.cs, regs.ss, regs.rflags) = (rip, cs as u16, ss as u16, rflags & !HIDDEN_FLAGS);
        regs.nmi_masked = false;
        self.set_rsp(rsp);
    }

    /// Puts a trap frame at the top of a stack, or at a task-stack address, and RSP at it.
    pub fn plant_frame(&mut self, at: u64, rip: u64, user: bool, rsp: u64, ss: u16) {
        let cs = if user { selector::USER_CODE } else { selector::KERNEL_CODE };
        let rflags = self.cpu.regs.rflags | if user { IF } else { 0 };
        for (index, value) in [rip, cs.into(), rflags, rsp, ss.into()].into_iter().enumerate() {
            self.store(at + 8 * index as u64, 8, value);
        }
        assert!(at + FRAME <= NMI_TOP);
        self.set_rsp(at);
    }

    /// Executes on the machine.
    pub fn step(&self, machine: &mut Machine, slot: usize, stimulus: Stimulus) -> World {
        machine.write_shared(&self.shared).unwrap();
        let (cpu, landing) = machine
            .step(slot, &self.cpu, stimulus)
            .unwrap_or_else(|error| panic!("{stimulus:x?} at {:#x}: {error}", self.cpu.regs.rip));
        World { cpu, shared: machine.read_shared().unwrap(), landing, undefined: 0 }
    }

    /// What differs from this expectation, if anything does.
    pub fn difference(&self, actual: &World) -> Option<String> {
        let mut wanted = self.clone();
        let mut actual = actual.clone();
        wanted.cpu.regs.rflags &= !self.undefined;
        actual.cpu.regs.rflags &= !self.undefined;
        if wanted.cpu.regs != actual.cpu.regs {
            return Some(format!("registers\n{:x?}\nwanted\n{:x?}", actual.cpu.regs, wanted.cpu.regs));
        }
        if wanted.landing != actual.landing {
            return Some(format!("landing {:?}, wanted {:?}", actual.landing, wanted.landing));
        }
        let first =
            |left: &[u8], right: &[u8]| left.iter().zip(right).position(|(left, right)| left != right);
        if let Some(at) = first(&wanted.cpu.private[..], &actual.cpu.private[..]) {
            return Some(format!("private byte {at:#x}"));
        }
        first(&wanted.shared, &actual.shared).map(|at| format!("shared byte {at:#x}"))
    }
}

/// A flag, if it is to be set.
pub fn when(flag: u64, set: bool) -> u64 {
    if set { flag } else { 0 }
}

/// The sign bit of a value of this many bytes.
pub fn sign(size: usize) -> u64 {
    1 << (8 * size - 1)
}

pub fn mask(size: usize) -> u64 {
    u64::MAX >> (64 - 8 * size)
}
