//! What an instruction is about to do: where it may go on, which memory it touches, whether it serialises.
//! Pure functions of bytes and registers. KVM decides what an instruction *does*.

use std::cell::RefCell;

use iced_x86::{
    Code, Decoder, DecoderOptions, FlowControl, Formatter, Instruction, InstructionInfoFactory,
    IntelFormatter, Mnemonic, OpAccess, Register, UsedMemory,
};

use crate::x86::VendorRule;
use crate::x86::cpu::{Cpu, Regs};

/// Longest x86 instruction, in bytes: a fetch looks at no more.
pub const FETCH_WINDOW: usize = 15;

/// The opcode of INT3.
pub const INT3: u8 = 0xcc;

/// A data access of an instruction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Access {
    /// Virtual address of the first byte.
    pub address: u64,
    /// Bytes.
    pub size: usize,
    /// Reads.
    pub reads: bool,
    /// Writes.
    pub writes: bool,
}

impl Access {
    /// True if any byte lies in `start..end`.
    pub fn touches(&self, start: u64, end: u64) -> bool {
        self.address < end && self.address + self.size as u64 > start
    }
}

/// A decoded instruction; invalid ones decode to `None`.
pub fn decode(bytes: &[u8], rip: u64) -> Option<Instruction> {
    let window = &bytes[..bytes.len().min(FETCH_WINDOW)];
    let mut decoder = Decoder::with_ip(64, window, rip, DecoderOptions::NONE);
    let instruction = decoder.decode();
    (!instruction.is_invalid()).then_some(instruction)
}

/// Intel syntax.
pub fn format(instruction: &Instruction) -> String {
    let mut formatter = IntelFormatter::new();
    let options = formatter.options_mut();
    options.set_hex_prefix("0x");
    options.set_hex_suffix("");
    options.set_uppercase_hex(false);
    options.set_branch_leading_zeros(false);
    options.set_space_after_operand_separator(true);
    let mut text = String::new();
    formatter.format(instruction, &mut text);
    text
}

/// The instruction's disassembly, or its first byte where it is not valid.
pub fn disassemble(bytes: &[u8], rip: u64) -> String {
    match decode(bytes, rip) {
        Some(instruction) => format(&instruction),
        None => bytes.first().map_or("(nothing)".into(), |byte| format!("(invalid: {byte:02x} …)")),
    }
}

/// True for instructions after which single-stepping stops late on some backend: IRETQ everywhere; the
/// others on one or another. They are executed up to a doorbell planted at their successor.
pub fn needs_planted_stop(instruction: &Instruction) -> bool {
    matches!(
        instruction.mnemonic(),
        Mnemonic::Iretq
            | Mnemonic::Iret
            | Mnemonic::Iretd
            | Mnemonic::Serialize
            | Mnemonic::Lfence
            | Mnemonic::Mfence
            | Mnemonic::Sfence
            | Mnemonic::Swapgs
            | Mnemonic::Endbr64
            | Mnemonic::Pause
    )
}

/// Whether an instruction serialises the CPU that executes it: SDM vol. 3, 9.3; APM vol. 2, 7.6.4.
/// Interrupt delivery does not, SYSRET does not, MFENCE does under the AMD rule only.
pub fn serialises(instruction: &Instruction, rule: VendorRule) -> bool {
    match instruction.mnemonic() {
        Mnemonic::Cpuid
        | Mnemonic::Iret
        | Mnemonic::Iretd
        | Mnemonic::Iretq
        | Mnemonic::Rsm
        | Mnemonic::Serialize
        | Mnemonic::Invd
        | Mnemonic::Wbinvd
        | Mnemonic::Invlpg
        | Mnemonic::Lgdt
        | Mnemonic::Lidt
        | Mnemonic::Lldt
        | Mnemonic::Ltr
        | Mnemonic::Wrmsr => true,
        Mnemonic::Mfence => rule == VendorRule::Amd,
        Mnemonic::Mov => {
            let target = instruction.op0_register();
            (target.is_cr() && target != Register::CR8) || target.is_dr()
        }
        _ => false,
    }
}

/// Whether an instruction waits until the stores before it are in memory: SDM vol. 3, "Store Buffer" in the chapter on
/// memory cache control; APM vol. 2, "Write Buffering" in the chapter on the memory system. Both vendors list the same:
/// locked instructions, XCHG with memory, fences for stores, serialising instructions, I/O, and exceptions, of which INT3
/// is one. LFENCE, branches and SYSCALL are in neither list.
pub fn drains(instruction: &Instruction, rule: VendorRule) -> bool {
    let memory = || instruction.op_kinds().any(|kind| kind == iced_x86::OpKind::Memory);
    match instruction.mnemonic() {
        Mnemonic::Mfence | Mnemonic::Sfence | Mnemonic::Int3 => true,
        Mnemonic::In | Mnemonic::Out => true,
        Mnemonic::Xchg => memory(),
        _ => instruction.has_lock_prefix() || serialises(instruction, rule),
    }
}

/// Why an instruction may not be explored, if so: its result or its timing is not a function of the state.
pub fn refused(instruction: &Instruction) -> Option<&'static str> {
    match instruction.mnemonic() {
        Mnemonic::Rdtsc | Mnemonic::Rdtscp | Mnemonic::Rdpmc => Some("reads a cycle counter"),
        Mnemonic::Rdrand | Mnemonic::Rdseed => Some("reads a random number"),
        Mnemonic::Cpuid | Mnemonic::Rdpid => Some("its result depends on the host's CPU"),
        Mnemonic::Sti => Some("opens an interrupt shadow that cannot be stepped into"),
        Mnemonic::In | Mnemonic::Insb | Mnemonic::Insd | Mnemonic::Insw => Some("reads a port"),
        Mnemonic::Out | Mnemonic::Outsb | Mnemonic::Outsd | Mnemonic::Outsw => {
            Some("writes a port: ports are the doorbells between guest and host")
        }
        Mnemonic::Hlt | Mnemonic::Mwait | Mnemonic::Monitor => Some("waits for an interrupt"),
        Mnemonic::Int | Mnemonic::Into | Mnemonic::Int1 => {
            Some("raises a software interrupt other than int3")
        }
        Mnemonic::Pushfq | Mnemonic::Pushf | Mnemonic::Pushfd => {
            Some("makes the stepper's trap flag visible")
        }
        Mnemonic::Syscall | Mnemonic::Sysenter | Mnemonic::Sysret | Mnemonic::Sysexit | Mnemonic::Rsm => {
            Some("changes the privilege level outside the guest's gates")
        }
        _ if instruction.op0_register() == Register::SS => Some("opens an interrupt shadow"),
        _ if instruction.has_rep_prefix() || instruction.has_repne_prefix() => {
            Some("single-steps stop after each iteration of a repeated instruction")
        }
        _ if uses_vector_state(instruction) => Some("uses FPU or vector state, which is not part of a state"),
        _ => None,
    }
}

fn uses_vector_state(instruction: &Instruction) -> bool {
    instruction.is_save_restore_instruction()
        || matches!(
            instruction.mnemonic(),
            Mnemonic::Emms | Mnemonic::Ldmxcsr | Mnemonic::Stmxcsr | Mnemonic::Wait
        )
        || instruction
            .op_kinds()
            .enumerate()
            .filter(|(_, kind)| *kind == iced_x86::OpKind::Register)
            .map(|(index, _)| instruction.op_register(index as u32))
            .any(|register| register.is_vector_register() || register.is_st() || register.is_mm())
}

/// The data accesses of an instruction, stack included, code fetch excluded.
pub fn accesses(instruction: &Instruction, regs: &Regs) -> Vec<Access> {
    thread_local! {
        /// Its buffers are used again.
        static FACTORY: RefCell<InstructionInfoFactory> = RefCell::new(InstructionInfoFactory::new());
    }
    let access = |memory: &UsedMemory| {
        let (reads, writes) = match memory.access() {
            OpAccess::Read | OpAccess::CondRead => (true, false),
            OpAccess::Write | OpAccess::CondWrite => (false, true),
            OpAccess::ReadWrite | OpAccess::ReadCondWrite => (true, true),
            OpAccess::None | OpAccess::NoMemAccess => return None,
        };
        let address = memory.virtual_address(0, |register, _, _| Some(register_value(register, regs)))?;
        Some(Access { address, size: memory.memory_size().size(), reads, writes })
    };
    FACTORY.with_borrow_mut(|factory| {
        factory.info(instruction).used_memory().iter().filter_map(access).collect()
    })
}

fn register_value(register: Register, regs: &Regs) -> u64 {
    if register.is_segment_register() {
        return 0;
    }
    let full = register.full_register();
    if full == Register::RIP {
        return regs.rip;
    }
    let value = if full.is_gpr64() { regs.gpr[full.number()] } else { 0 };
    match register.size() {
        4 => value & 0xffff_ffff,
        2 => value & 0xffff,
        _ => value,
    }
}

/// Where the vCPU may be after the instruction, faults aside. `load` reads 8 bytes of guest data.
pub fn successors(instruction: &Instruction, cpu: &Cpu, load: impl Fn(u64) -> Option<u64>) -> Vec<u64> {
    let next = instruction.next_ip();
    let regs = &cpu.regs;
    match instruction.flow_control() {
        FlowControl::Next => vec![next],
        FlowControl::UnconditionalBranch | FlowControl::Call => vec![instruction.near_branch_target()],
        FlowControl::ConditionalBranch => vec![next, instruction.near_branch_target()],
        FlowControl::IndirectBranch | FlowControl::IndirectCall => {
            let target = if instruction.op0_kind() == iced_x86::OpKind::Register {
                Some(register_value(instruction.op0_register(), regs))
            } else {
                accesses(instruction, regs).iter().find(|a| a.reads).and_then(|access| load(access.address))
            };
            target.into_iter().collect()
        }
        FlowControl::Return => cpu.read(regs.gpr[crate::x86::cpu::reg::RSP], 8).into_iter().collect(),
        _ => Vec::new(),
    }
}

/// True for the one-byte breakpoint instruction.
pub fn is_int3(instruction: &Instruction) -> bool {
    instruction.code() == Code::Int3
}

/// True for the instruction that waits for an interrupt.
pub fn is_halt(instruction: &Instruction) -> bool {
    instruction.code() == Code::Hlt
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(bytes: &[u8]) -> Instruction {
        decode(bytes, 0x1000).expect("valid")
    }

    #[test]
    fn stack_instructions_touch_what_they_touch() {
        let mut cpu = Cpu::at(0x1000, 0, 1, false);
        cpu.regs.gpr[4] = 0x20_0100;
        let of = |bytes: &[u8]| accesses(&one(bytes), &cpu.regs);
        assert_eq!(of(&[0x50]), [Access { address: 0x20_00f8, size: 8, reads: false, writes: true }]);
        assert_eq!(of(&[0x58]), [Access { address: 0x20_0100, size: 8, reads: true, writes: false }]);
        let iret: usize = of(&[0x48, 0xcf]).iter().map(|access| access.size).sum();
        assert_eq!(iret, 40);
    }

    #[test]
    fn rip_relative_and_absolute_operands_have_addresses() {
        let cpu = Cpu::at(0x1000, 0, 1, false);
        let load = one(&[0x48, 0x8b, 0x05, 0x10, 0, 0, 0]);
        assert_eq!(accesses(&load, &cpu.regs)[0].address, 0x1017);
        let cmp = one(&[0x83, 0x3c, 0x25, 0, 0x10, 0x20, 0, 0]);
        assert_eq!(
            accesses(&cmp, &cpu.regs),
            [Access { address: 0x20_1000, size: 4, reads: true, writes: false }]
        );
    }

    #[test]
    fn serialising_follows_the_rule() {
        let mfence = one(&[0x0f, 0xae, 0xf0]);
        assert!(serialises(&mfence, VendorRule::Amd));
        assert!(!serialises(&mfence, VendorRule::Intel));
        assert!(serialises(&one(&[0x48, 0xcf]), VendorRule::Intel));
        assert!(serialises(&one(&[0x0f, 0x22, 0xd0]), VendorRule::Intel));
        assert!(!serialises(&one(&[0x44, 0x0f, 0x22, 0xc0]), VendorRule::Intel), "CR8");
        assert!(!serialises(&one(&[0x90]), VendorRule::Intel));
    }

    #[test]
    fn what_empties_the_store_buffer() {
        let drains = |bytes: &[u8]| drains(&one(bytes), VendorRule::Intel);
        let lock_inc = [0xf0, 0xff, 0x04, 0x25, 0, 0x10, 0x20, 0];
        let xchg_memory = [0x87, 0x04, 0x25, 0, 0x10, 0x20, 0];
        for bytes in
            [&[0x0f, 0xae, 0xf0][..], &[0x0f, 0xae, 0xf8], &[0xcc], &[0x48, 0xcf], &lock_inc, &xchg_memory]
        {
            assert!(drains(bytes), "{bytes:02x?}");
        }
        let inc = &lock_inc[1..];
        for bytes in [inc, &[0x87, 0xc1], &[0x0f, 0xae, 0xe8], &[0x0f, 0x05], &[0xc3], &[0xe9, 0, 0, 0, 0]] {
            assert!(!drains(bytes), "{bytes:02x?}");
        }
    }

    #[test]
    fn what_cannot_be_explored_is_refused() {
        for bytes in [&[0x0f, 0x31][..], &[0x0f, 0xa2], &[0xfb], &[0xf3, 0xa4], &[0x0f, 0x57, 0xc0], &[0x9c]]
        {
            assert!(refused(&one(bytes)).is_some(), "{bytes:02x?}");
        }
        for bytes in [&[0x90][..], &[0xcc], &[0x0f, 0x1f, 0x44, 0, 0], &[0xe9, 0, 0, 0, 0], &[0x55]] {
            assert_eq!(refused(&one(bytes)), None, "{bytes:02x?}");
        }
    }
}
