//! The instructions of a version of a site: where they begin, where control goes, and which of them can run outside
//! their kernel.

use iced_x86::{
    Code, Decoder, DecoderOptions, EncodingKind, FlowControl, Instruction, InstructionInfoFactory, Mnemonic,
    OpKind, Register,
};

use crate::nops;

/// Longest instruction, in bytes (SDM vol. 2, 2.3.11).
const LONGEST: usize = 15;

/// The control flow of an instruction: all of its behaviour that matters when it is replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Flow {
    /// Does nothing: a NOP, ENDBR64.
    Nop,
    /// Changes no register or memory: LFENCE, PAUSE, and MFENCE, which serialises under AMD's rule.
    Fence,
    /// Continues with the next instruction.
    Plain,
    /// Jumps out of the site.
    Leaves,
    /// Jumps out of the site or continues.
    Branches,
    /// Jumps forward to this byte of the site or continues.
    Inside(u8),
    /// Calls a function outside the site.
    Calls,
    /// Returns.
    Returns,
    /// Is never reached: INT3 after a jump or a return.
    Dead,
}

/// An instruction of a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Insn {
    /// Offset of its first byte in the site.
    pub at: usize,
    /// Length in bytes.
    pub len: usize,
    /// Its control flow.
    pub flow: Flow,
    /// Why it cannot run outside its kernel; `None` if it can.
    pub refused: Option<&'static str>,
}

/// Decodes a version of a site. Bytes that do not decode count as an instruction.
pub fn decode(bytes: &[u8], address: u64) -> Vec<Insn> {
    let mut decoder = Decoder::with_ip(64, bytes, address, DecoderOptions::NONE);
    let mut instructions = Vec::new();
    while decoder.can_decode() {
        let at = decoder.position();
        let instruction = decoder.decode();
        if instruction.is_invalid() {
            let _ = decoder.set_position((at + 1).min(bytes.len()));
            decoder.set_ip(address + at as u64 + 1);
        }
        instructions.push((at, instruction));
    }
    let ends = instructions.iter().skip(1).map(|(at, _)| *at).chain([bytes.len()]);
    let lengths: Vec<usize> = ends.zip(&instructions).map(|(end, (at, _))| (end - at).min(LONGEST)).collect();
    let mut insns: Vec<Insn> = Vec::new();
    let mut left = false;
    for ((at, instruction), len) in instructions.iter().zip(lengths) {
        let inside = |target: u64| {
            let byte = usize::try_from(target.wrapping_sub(address)).ok()?;
            instructions.iter().any(|(start, _)| *start == byte && byte > *at).then_some(byte as u8)
        };
        let (flow, refused) = if left && matches!(instruction.mnemonic(), Mnemonic::Int3) {
            (Flow::Dead, None)
        } else {
            let range = address..address + bytes.len() as u64;
            one(instruction, |target| range.contains(&target), inside)
        };
        left = matches!(flow, Flow::Leaves | Flow::Returns | Flow::Dead);
        insns.push(Insn { at: *at, len, flow, refused });
    }
    insns
}

fn one(
    instruction: &Instruction,
    own: impl Fn(u64) -> bool,
    inside: impl Fn(u64) -> Option<u8>,
) -> (Flow, Option<&'static str>) {
    if instruction.is_invalid() {
        return (Flow::Plain, Some("it is not an instruction"));
    }
    let near = instruction.op0_kind() == OpKind::NearBranch64;
    let target = if near { instruction.near_branch64() } else { 0 };
    let within = |otherwise: Flow| match (own(target), inside(target)) {
        (false, _) => (otherwise, None),
        (true, Some(byte)) => (Flow::Inside(byte), None),
        (true, None) => (Flow::Plain, Some("it jumps backwards or into another instruction")),
    };
    match instruction.flow_control() {
        FlowControl::Next if nops::is_nop(instruction) => (Flow::Nop, None),
        FlowControl::Next => match instruction.mnemonic() {
            Mnemonic::Endbr64 => (Flow::Nop, None),
            Mnemonic::Pause | Mnemonic::Lfence | Mnemonic::Mfence => (Flow::Fence, None),
            _ => (Flow::Plain, refusal(instruction)),
        },
        FlowControl::UnconditionalBranch if near => within(Flow::Leaves),
        FlowControl::ConditionalBranch if instruction.is_jcc_short_or_near() => within(Flow::Branches),
        FlowControl::ConditionalBranch => (Flow::Plain, Some("it branches on a register")),
        FlowControl::Call if own(target) => (Flow::Plain, Some("it calls the site itself")),
        FlowControl::Call if near => (Flow::Calls, None),
        FlowControl::Return if instruction.code() == Code::Retnq && instruction.len() == 1 => {
            (Flow::Returns, None)
        }
        FlowControl::Return => (Flow::Leaves, Some("it is a return other than RET")),
        FlowControl::IndirectBranch | FlowControl::UnconditionalBranch => {
            (Flow::Leaves, Some("its target is in a register or in memory"))
        }
        FlowControl::IndirectCall => (Flow::Calls, Some("its target is in a register or in memory")),
        // SYSCALL, VMCALL and the like count as calls.
        FlowControl::Call => (Flow::Plain, Some("it is privileged")),
        FlowControl::Interrupt => (Flow::Plain, Some("it traps")),
        FlowControl::Exception => (Flow::Plain, Some("it faults")),
        FlowControl::XbeginXabortXend => (Flow::Plain, Some("it belongs to a transaction")),
    }
}

/// Why an instruction that continues with the next one cannot run elsewhere; `None` for arithmetic on registers.
fn refusal(instruction: &Instruction) -> Option<&'static str> {
    use Mnemonic::*;
    const TAKEN: [Mnemonic; 32] = [
        Adc, Add, And, Bswap, Bt, Bts, Cdq, Cdqe, Clc, Cmc, Cmp, Cwde, Dec, Inc, Lea, Mov, Movsx, Movsxd,
        Movzx, Neg, Not, Or, Sar, Sbb, Sete, Shl, Shr, Stc, Sub, Test, Xchg, Xor,
    ];
    if instruction.is_privileged() {
        return Some("it is privileged");
    }
    let mut factory = InstructionInfoFactory::new();
    if instruction.mnemonic() != Lea && !factory.info(instruction).used_memory().is_empty() {
        return Some("it reads or writes memory");
    }
    if !TAKEN.contains(&instruction.mnemonic()) || instruction.encoding() != EncodingKind::Legacy {
        return Some("it is more than arithmetic on registers");
    }
    if instruction.has_lock_prefix() || instruction.has_rep_prefix() || instruction.has_repne_prefix() {
        return Some("its prefix makes it more than one step");
    }
    // The guest's executor uses R12 and R15 (guest/image/executor.s); segment and control registers configure the CPU.
    for index in 0..instruction.op_count() {
        if instruction.op_kind(index) != OpKind::Register {
            continue;
        }
        let register = instruction.op_register(index);
        let full = register.full_register();
        if !register.is_gpr() || [Register::RSP, Register::R12, Register::R15].contains(&full) {
            return Some("it uses a register that the executor needs");
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: u64 = 0xffff_ffff_8100_0000;

    fn flows(bytes: &[u8]) -> Vec<(usize, usize, Flow, bool)> {
        decode(bytes, AT).iter().map(|insn| (insn.at, insn.len, insn.flow, insn.refused.is_none())).collect()
    }

    #[test]
    fn control_flow_is_classified() {
        use Flow::{Branches, Calls, Dead, Inside, Leaves, Nop, Plain, Returns};
        assert_eq!(flows(&[0xe9, 0, 1, 0, 0]), [(0, 5, Leaves, true)]);
        assert_eq!(flows(&[0xe8, 0, 1, 0, 0, 0x90]), [(0, 5, Calls, true), (5, 1, Nop, true)]);
        assert_eq!(flows(&[0xff, 0xe0, 0xcc]), [(0, 2, Leaves, false), (2, 1, Dead, true)]);
        assert_eq!(flows(&[0xff, 0xd0]), [(0, 2, Calls, false)]);
        assert_eq!(flows(&[0xc3, 0xcc]), [(0, 1, Returns, true), (1, 1, Dead, true)]);
        assert_eq!(flows(&[0x74, 0x01, 0x90, 0x90])[0], (0, 2, Inside(3), true));
        assert_eq!(flows(&[0x74, 0x10])[0], (0, 2, Branches, true));
        // A loop, and a branch into an instruction.
        assert_eq!(flows(&[0x90, 0xeb, 0xfd])[1], (1, 2, Plain, false));
        assert_eq!(flows(&[0x74, 0x01, 0x66, 0x90])[0], (0, 2, Plain, false));
        assert_eq!(flows(&[0xcc]), [(0, 1, Plain, false)]);
    }

    #[test]
    fn only_arithmetic_on_registers_is_accepted() {
        for taken in
            [&[0x31, 0xc9][..], &[0x48, 0x89, 0xc8], &[0x2e, 0x2e, 0x2e, 0x31, 0xc0], &[0x48, 0x8d, 0x42, 1]]
        {
            assert!(flows(taken)[0].3, "{taken:02x?}");
        }
        for refused in [
            &[0x8b, 0x07][..],                     // mov eax, [rdi]
            &[0xf0, 0xff, 0x07],                   // lock inc [rdi]
            &[0x49, 0xbc, 0, 0, 0, 0, 0, 0, 0, 0], // mov r12, 0
            &[0x0f, 0x30],                         // wrmsr
            &[0x0f, 0x22, 0xd8],                   // mov cr3, rax
            &[0xf7, 0xf1],                         // div ecx
            &[0x50],                               // push rax
            &[0x0f, 0x01, 0xca],                   // clac
            &[0xf3, 0xa4],                         // rep movsb
            &[0x06],                               // invalid in 64-bit mode
        ] {
            assert!(!flows(refused)[0].3, "{refused:02x?}");
        }
    }

    #[test]
    fn every_byte_is_in_one_instruction() {
        for bytes in [&[0x06, 0x06, 0x90][..], &[0x48], &[0x0f, 0x1f], &[0xe8, 1]] {
            let insns = decode(bytes, AT);
            assert_eq!(insns.iter().map(|insn| insn.len).sum::<usize>(), bytes.len(), "{bytes:02x?}");
        }
    }
}
