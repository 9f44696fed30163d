//! The NOPs that x86-64 kernels use as padding.

use iced_x86::{Decoder, DecoderOptions, Instruction, Mnemonic};

/// NOPs by length in bytes, from 1: `x86_nops[]` of arch/x86/kernel/alternative.c with the bytes of
/// arch/x86/include/asm/nops.h. Kernels use more than 8 bytes since 6.4 (df25edbac3a5).
const NOPS: [&[u8]; 11] = [
    &[0x90],
    &[0x66, 0x90],
    &[0x0f, 0x1f, 0x00],
    &[0x0f, 0x1f, 0x40, 0x00],
    &[0x0f, 0x1f, 0x44, 0x00, 0x00],
    &[0x66, 0x0f, 0x1f, 0x44, 0x00, 0x00],
    &[0x0f, 0x1f, 0x80, 0, 0, 0, 0],
    &[0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0],
    &[0x66, 0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0],
    &[0x66, 0x2e, 0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0],
    &[0x66, 0x66, 0x2e, 0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0],
];
/// Length of the longest NOP before 6.4, in bytes.
const OLDER: usize = 8;
/// `INT3_INSN_OPCODE`.
pub const INT3: u8 = 0xcc;
/// `JMP8_INSN_OPCODE`.
const JMP8: u8 = 0xeb;

/// How a kernel writes a run of NOPs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// `add_nops()` before 6.4: NOPs of up to 8 bytes, one after the other.
    Several,
    /// `add_nop()` since 6.4 (6c480f222128): one NOP of up to 11 bytes, or a jump over INT3s.
    One,
}

/// Fills `bytes` with NOPs. `Style::One` supports runs of less than 128 bytes, longer than the padding of any site.
pub fn fill(bytes: &mut [u8], style: Style) {
    match style {
        Style::Several => bytes.chunks_mut(OLDER).for_each(|run| run.copy_from_slice(NOPS[run.len() - 1])),
        Style::One if bytes.is_empty() => {}
        Style::One => match NOPS.get(bytes.len() - 1) {
            Some(nop) => bytes.copy_from_slice(nop),
            None => {
                let behind = bytes.len() - 2;
                bytes.fill(INT3);
                bytes[0] = JMP8;
                bytes[1] = behind as u8;
            }
        },
    }
}

/// True for every form of NOP, but not for PAUSE.
pub fn is_nop(instruction: &Instruction) -> bool {
    instruction.mnemonic() == Mnemonic::Nop
}

/// Merges runs of NOPs as `optimize_nops()` does. Older kernels only merge NOPs of one byte.
pub fn optimise(bytes: &mut [u8], style: Style) {
    let merges = |nop: &Instruction| is_nop(nop) && (style == Style::One || nop.len() == 1);
    let mut at = 0;
    while at < bytes.len() {
        let mut decoder = Decoder::new(64, &bytes[at..], DecoderOptions::NONE);
        let first = decoder.decode();
        if first.is_invalid() {
            return;
        }
        let more =
            if merges(&first) { decoder.iter().take_while(merges).map(|nop| nop.len()).sum() } else { 0 };
        let end = at + first.len() + more;
        if more > 0 {
            fill(&mut bytes[at..end], style);
        }
        at = end;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_nop_is_one_instruction_of_its_length() {
        for (index, nop) in NOPS.iter().enumerate() {
            let instruction = Decoder::new(64, nop, DecoderOptions::NONE).decode();
            assert!(is_nop(&instruction), "{nop:02x?}");
            assert_eq!((instruction.len(), nop.len()), (index + 1, index + 1));
        }
    }

    #[test]
    fn runs_are_merged_as_the_kernel_does() {
        let mut code = [0x31, 0xc0, 0x90, 0x90, 0x90, 0x0f, 0x1f, 0x00, 0x90];
        let mut newer = code;
        optimise(&mut code, Style::Several);
        assert_eq!(code, [0x31, 0xc0, 0x0f, 0x1f, 0x00, 0x0f, 0x1f, 0x00, 0x90]);
        optimise(&mut newer, Style::One);
        assert_eq!(newer, [0x31, 0xc0, 0x0f, 0x1f, 0x80, 0, 0, 0, 0]);
        let mut long = [0x90; 12];
        optimise(&mut long, Style::Several);
        assert_eq!(long, [0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0, 0x0f, 0x1f, 0x40, 0x00]);
        let mut long = [0x90; 12];
        optimise(&mut long, Style::One);
        assert_eq!(long, [0xeb, 10, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc]);
    }
}
