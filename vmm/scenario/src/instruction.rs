//! Instructions of a patch site: their names in scenario files, and which ones can be explored.

use iced_x86::{
    Code, CpuidFeature, EncodingKind, FlowControl, Instruction, InstructionInfoFactory, Mnemonic,
};
use iced_x86::{OpAccess, Register};

/// Longest instruction, in bytes (SDM vol. 2, 2.3.11).
pub(super) const LONGEST: usize = 15;

/// An instruction that a site may have by name.
#[derive(Debug, Clone, Copy)]
pub(super) struct Named {
    pub name: &'static str,
    /// Its bytes, up to the displacement.
    pub opcode: &'static [u8],
    /// How many bytes of a displacement follow: 0, 1 or 4.
    pub displacement: usize,
    /// What it is, for people.
    pub meaning: &'static str,
}

const fn plain(name: &'static str, opcode: &'static [u8], meaning: &'static str) -> Named {
    Named { name, opcode, displacement: 0, meaning }
}

/// The names. The NOPs are the recommended forms (SDM vol. 2, NOP; APM vol. 3, NOP).
pub(super) static NAMES: [Named; 24] = [
    plain("nop1", &[0x90], "NOP of 1 byte"),
    plain("nop2", &[0x66, 0x90], "NOP of 2 bytes"),
    plain("nop3", &[0x0f, 0x1f, 0x00], "NOP of 3 bytes"),
    plain("nop4", &[0x0f, 0x1f, 0x40, 0x00], "NOP of 4 bytes"),
    plain("nop5", &[0x0f, 0x1f, 0x44, 0x00, 0x00], "NOP of 5 bytes"),
    plain("nop6", &[0x66, 0x0f, 0x1f, 0x44, 0x00, 0x00], "NOP of 6 bytes"),
    plain("nop7", &[0x0f, 0x1f, 0x80, 0, 0, 0, 0], "NOP of 7 bytes"),
    plain("nop8", &[0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0], "NOP of 8 bytes"),
    plain("nop9", &[0x66, 0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0], "NOP of 9 bytes"),
    Named { displacement: 1, ..plain("jmp8", &[0xeb], "jump with a displacement of 8 bits") },
    Named { displacement: 4, ..plain("jmp32", &[0xe9], "jump with a displacement of 32 bits") },
    Named { displacement: 4, ..plain("call", &[0xe8], "near call with a displacement of 32 bits") },
    plain("ret", &[0xc3], "near return to the caller"),
    plain("int3", &[0xcc], "breakpoint: it raises #BP"),
    plain("self-loop", &[0xeb, 0xfe], "jump to itself: it spins until it is patched"),
    plain("endbr64", &[0xf3, 0x0f, 0x1e, 0xfa], "target of an indirect branch; otherwise a NOP"),
    plain("push-rbp", &[0x55], "push RBP onto the stack"),
    plain("pop-rbp", &[0x5d], "pop RBP from the stack"),
    plain("mov-rbp-rsp", &[0x48, 0x89, 0xe5], "MOV RBP, RSP"),
    plain("xor-eax-eax", &[0x31, 0xc0], "XOR EAX, EAX: makes EAX 0 and changes flags"),
    plain("xor-ecx-ecx", &[0x31, 0xc9], "XOR ECX, ECX: makes ECX 0 and changes flags"),
    plain("xor-edx-edx", &[0x31, 0xd2], "XOR EDX, EDX: makes EDX 0 and changes flags"),
    plain("lfence", &[0x0f, 0xae, 0xe8], "LFENCE: it orders loads, and does not serialise under either rule"),
    plain("mfence", &[0x0f, 0xae, 0xf0], "MFENCE: it serialises under AMD's rule only"),
];

impl Named {
    /// The instruction with a name.
    pub fn find(name: &str) -> Option<&'static Named> {
        NAMES.iter().find(|known| known.name == name)
    }
}

/// Why an instruction cannot stand in an explored site, if it cannot.
pub(super) fn refusal(instruction: &Instruction) -> Option<&'static str> {
    use Mnemonic as M;
    match instruction.mnemonic() {
        M::Rdtsc | M::Rdtscp | M::Rdpmc | M::Rdpid | M::Rdrand | M::Rdseed => {
            return Some("its result differs from run to run");
        }
        M::Cpuid | M::Xgetbv => return Some("its result differs from host to host"),
        M::Hlt => return Some("it stops the executor for good"),
        M::Sti => return Some("its interrupt shadow cannot be stepped through on every host"),
        M::Cli | M::Popf | M::Popfd | M::Popfq => {
            return Some("it changes flags that the explorer steps with");
        }
        M::Int | M::Int1 | M::Into => {
            return Some("it raises an interrupt that the guest has no handler for");
        }
        M::In | M::Insb | M::Insw | M::Insd | M::Out | M::Outsb | M::Outsw | M::Outsd => {
            return Some("ports belong to the machine");
        }
        M::Syscall | M::Sysenter | M::Sysret | M::Sysretq | M::Sysexit | M::Sysexitq => {
            return Some("the guest has no system calls");
        }
        M::Rsm | M::Iret | M::Iretd | M::Iretq | M::Retf => {
            return Some("it returns to where no executor came from");
        }
        M::Ldmxcsr | M::Stmxcsr | M::Wait => {
            return Some("it uses FPU or vector state, which is not explored");
        }
        M::Leave | M::Enter => return Some("it moves the stack pointer to an unknown place"),
        _ => {}
    }
    match instruction.flow_control() {
        FlowControl::IndirectBranch | FlowControl::IndirectCall => {
            return Some("the target of an indirect branch is not known in advance");
        }
        FlowControl::Exception => return Some("it always faults"),
        FlowControl::XbeginXabortXend => return Some("a transaction cannot be stepped through"),
        FlowControl::Return if instruction.code() != Code::Retnq => {
            return Some("it is not a plain near return");
        }
        _ => {}
    }
    if instruction.encoding() != EncodingKind::Legacy {
        return Some("vector and VEX-encoded instructions use state outside of what is explored");
    }
    if instruction.is_string_instruction() {
        return Some("a string instruction reads memory, and with a REP prefix is more than one step");
    }
    if instruction.is_privileged() {
        return Some("it is privileged, and would change the machine under the explorer");
    }
    if !instruction.cpuid_features().iter().all(|feature| basic(*feature)) {
        return Some("it belongs to an extension (FPU, vector, system) outside of what is explored");
    }
    if !matches!(instruction.mnemonic(), M::Endbr64) && instruction.is_stack_instruction() {
        let plain = [M::Push, M::Pop, M::Call, M::Ret].contains(&instruction.mnemonic());
        if !plain || instruction.stack_pointer_increment().abs() != 8 {
            return Some("only plain 8-byte PUSH, POP, CALL and RET may move the stack pointer");
        }
    }
    registers_and_memory(instruction)
}

/// Instruction set groups that every host has and whose state is explored.
fn basic(feature: CpuidFeature) -> bool {
    use CpuidFeature as F;
    let integer = [F::INTEL8086, F::INTEL186, F::INTEL286, F::INTEL386, F::INTEL486, F::X64, F::CMOV, F::CX8];
    // The SSE groups are here for the fences only: register operands are looked at elsewhere.
    let harmless = [F::MULTIBYTENOP, F::CET_IBT, F::PAUSE, F::POPCNT, F::SSE, F::SSE2, F::SERIALIZE];
    integer.contains(&feature) || harmless.contains(&feature)
}

fn registers_and_memory(instruction: &Instruction) -> Option<&'static str> {
    let mut factory = InstructionInfoFactory::new();
    let info = factory.info(instruction);
    let writes = |access: OpAccess| {
        matches!(
            access,
            OpAccess::Write | OpAccess::CondWrite | OpAccess::ReadWrite | OpAccess::ReadCondWrite
        )
    };
    for used in info.used_registers() {
        let (register, full) = (used.register(), used.register().full_register());
        if register.is_segment_register() && writes(used.access()) {
            return Some("it loads a segment register");
        }
        if register.is_vector_register() || register.is_mm() || register.is_st() || register.is_k() {
            return Some("FPU and vector registers are outside of what is explored");
        }
        if writes(used.access()) && (full == Register::R12 || full == Register::R15) {
            return Some("the executor's loop keeps the site's address in R12 and its passes in R15");
        }
        if writes(used.access()) && full == Register::RSP && !instruction.is_stack_instruction() {
            return Some("it moves the stack pointer to an unknown place");
        }
    }
    let elsewhere = info.used_memory().iter().any(|memory| {
        memory.access() != OpAccess::NoMemAccess && memory.base().full_register() != Register::RSP
    });
    elsewhere.then_some("it reads or writes memory, and an executor's registers hold no addresses")
}

#[cfg(test)]
mod tests {
    use crossmod_abi::va;
    use iced_x86::{Decoder, DecoderOptions};

    use super::*;

    fn decode(bytes: &[u8]) -> Instruction {
        Decoder::with_ip(64, bytes, va::SITE, DecoderOptions::NONE).decode()
    }

    #[test]
    fn every_name_is_one_explorable_instruction_of_its_length() {
        for Named { name, opcode, displacement, .. } in NAMES {
            let mut bytes = opcode.to_vec();
            bytes.extend(&[0x10, 0, 0, 0][..displacement]);
            let instruction = decode(&bytes);
            assert_eq!(instruction.len(), bytes.len(), "{name}");
            assert_eq!(refusal(&instruction), None, "{name}");
            assert!(!name.starts_with("nop") || name[3..] == bytes.len().to_string(), "{name}");
        }
    }

    #[test]
    fn what_cannot_be_explored_is_refused() {
        let refused: [(&str, &[u8]); 26] = [
            ("rdtsc", &[0x0f, 0x31]),
            ("rdtscp", &[0x0f, 0x01, 0xf9]),
            ("rdrand eax", &[0x0f, 0xc7, 0xf0]),
            ("cpuid", &[0x0f, 0xa2]),
            ("fld1", &[0xd9, 0xe8]),
            ("addps xmm0, xmm0", &[0x0f, 0x58, 0xc0]),
            ("vzeroupper", &[0xc5, 0xf8, 0x77]),
            ("emms", &[0x0f, 0x77]),
            ("hlt", &[0xf4]),
            ("sti", &[0xfb]),
            ("cli", &[0xfa]),
            ("mov ss, eax", &[0x8e, 0xd0]),
            ("syscall", &[0x0f, 0x05]),
            ("int 0x80", &[0xcd, 0x80]),
            ("in al, dx", &[0xec]),
            ("out dx, al", &[0xee]),
            ("rsm", &[0x0f, 0xaa]),
            ("rep movsb", &[0xf3, 0xa4]),
            ("lodsb", &[0xac]),
            ("jmp rax", &[0xff, 0xe0]),
            ("ud2", &[0x0f, 0x0b]),
            ("iretq", &[0x48, 0xcf]),
            ("mov rsp, rax", &[0x48, 0x89, 0xc4]),
            ("mov r12, rax", &[0x49, 0x89, 0xc4]),
            ("mov eax, [rdi]", &[0x8b, 0x07]),
            ("popfq", &[0x9d]),
        ];
        for (name, bytes) in refused {
            assert!(refusal(&decode(bytes)).is_some(), "{name}");
        }
    }
}
