//! Applies an alternative to its site: `apply_alternatives()` of arch/x86/kernel/alternative.c.
//!
//! | entries | since | changes to the replacement |
//! |---|---|---|
//! | 12 or 13 bytes | before 6.3 | a replacement that is a call of 5 bytes, or a jump at its beginning, keeps its target; a jump may become a short one; NOPs of one byte are merged |
//! | 14 bytes | 6.7 (`apply_relocation()`, 17bce3b2ae2d) | every branch and RIP-relative operand that leaves the replacement keeps its target; a long jump may become a short one and INT3s; all NOPs are merged |
//!
//! Entries of 6.3 to 6.6 have 14 bytes as well; the rules of 6.7 apply to them here. Linux does this once: at boot, before
//! other CPUs run, or when a module is loaded, before its code runs.

use iced_x86::{Decoder, DecoderOptions, OpKind};

use super::branch;
use crate::nops::{self, INT3, Style};
use crate::read::Binary;

/// `ALT_FLAG_DIRECT_CALL` (6.8, in the upper half of a feature): an indirect call becomes a direct call of the pointer's
/// target at boot.
const DIRECT_CALL: u32 = 1 << 17;
const CALL: u8 = 0xe8;
const JMP32: u8 = 0xe9;
const JMP8: u8 = 0xeb;

/// An alternative with the bytes that it concerns.
#[derive(Debug, Clone, Copy)]
pub struct Alternative<'a> {
    /// Address of the site.
    pub code: u64,
    /// Bytes of the site on disk.
    pub bytes: &'a [u8],
    /// Address of the replacement.
    pub replacement: u64,
    /// The replacement, at most as long as the site.
    pub with: &'a [u8],
    /// Feature in the lower half, flags in the upper half.
    pub feature: u32,
    /// True if its entry has 14 bytes.
    pub newer: bool,
}

/// The functions that calls through pointers treat specially.
#[derive(Debug, Clone, Copy, Default)]
pub struct Special {
    /// `BUG_func`, called instead of NULL.
    bug: Option<u64>,
    /// `nop_func`, whose calls are removed.
    nothing: Option<u64>,
}

impl Special {
    /// The special functions of an image.
    pub fn of(binary: &Binary) -> Special {
        let named = |name| binary.symbols.address(name);
        Special { bug: named("BUG_func"), nothing: named("nop_func") }
    }
}

/// The site with the alternative applied; `None` if the image does not contain the target, or a displacement does not
/// reach it.
pub fn apply(binary: &Binary, special: Special, alternative: &Alternative<'_>) -> Option<Vec<u8>> {
    let Alternative { code, bytes, replacement, with, newer, .. } = *alternative;
    let mut buffer = if newer && alternative.feature & DIRECT_CALL != 0 {
        direct_call(binary, special, code, bytes)?
    } else if newer {
        relocated(code, replacement, with)?
    } else {
        moved(code, replacement, with)?
    };
    buffer.resize(bytes.len(), 0x90);
    nops::optimise(&mut buffer, if newer { Style::One } else { Style::Several });
    Some(buffer)
}

/// `alt_replace_call()`: a direct call of the target of `call *pointer(%rip)`; empty for `nop_func`.
fn direct_call(binary: &Binary, special: Special, code: u64, bytes: &[u8]) -> Option<Vec<u8>> {
    let [0xff, 0x15, rest @ ..] = bytes else { return None };
    let displacement = i32::from_le_bytes(*rest.first_chunk()?);
    let pointer = code.wrapping_add(6).wrapping_add_signed(displacement.into());
    match binary.memory.u64(pointer)? {
        0 => branch(&[CALL], code, special.bug?),
        function if Some(function) == special.nothing => Some(Vec::new()),
        function => branch(&[CALL], code, function),
    }
}

/// Before 6.3: `recompute_jump()`, and the offset of a call.
fn moved(code: u64, replacement: u64, with: &[u8]) -> Option<Vec<u8>> {
    let [opcode @ (CALL | JMP32), a, b, c, d] = *with else { return Some(with.to_vec()) };
    let displacement = i32::from_le_bytes([a, b, c, d]);
    let target = replacement.wrapping_add(5).wrapping_add_signed(displacement.into());
    let distance = target.wrapping_sub(code) as i64;
    if opcode == JMP32 && (0..=129).contains(&distance) {
        let mut jump = vec![JMP8, (distance - 2) as u8, 0, 0, 0];
        nops::fill(&mut jump[2..], Style::Several);
        return Some(jump);
    }
    branch(&[opcode], code, target)
}

/// Since 6.7: `apply_relocation()` except for NOPs.
fn relocated(code: u64, replacement: u64, with: &[u8]) -> Option<Vec<u8>> {
    let mut buffer = with.to_vec();
    let inside = replacement..=replacement + with.len() as u64;
    let moved = replacement.wrapping_sub(code) as i64;
    let mut decoder = Decoder::with_ip(64, with, replacement, DecoderOptions::NONE);
    while decoder.can_decode() {
        let at = decoder.position();
        let instruction = decoder.decode();
        if instruction.is_invalid() {
            break;
        }
        let offsets = decoder.get_constant_offsets(&instruction);
        let near = instruction.op0_kind() == OpKind::NearBranch64;
        if near && !inside.contains(&instruction.near_branch_target()) {
            let (place, size) = (at + offsets.immediate_offset(), offsets.immediate_size());
            shift(buffer.get_mut(place..place + size)?, moved)?;
        }
        if with[at] == JMP32 && near {
            let from = code.wrapping_add(at as u64 + 2);
            let distance = instruction.near_branch_target().wrapping_sub(from) as i64;
            if let Ok(short) = i8::try_from(distance) {
                let jump = &mut buffer[at..at + instruction.len()];
                jump.fill(INT3);
                jump[..2].copy_from_slice(&[JMP8, short as u8]);
            }
        }
        if instruction.is_ip_rel_memory_operand() && !inside.contains(&instruction.ip_rel_memory_address()) {
            let (place, size) = (at + offsets.displacement_offset(), offsets.displacement_size());
            shift(buffer.get_mut(place..place + size)?, moved)?;
        }
    }
    Some(buffer)
}

/// Adds `by` to a little-endian number of 1 or 4 bytes; `None` if the sum does not fit.
fn shift(bytes: &mut [u8], by: i64) -> Option<()> {
    match bytes {
        [byte] => *byte = i8::try_from(i64::from(*byte as i8).checked_add(by)?).ok()? as u8,
        [a, b, c, d] => {
            let value = i64::from(i32::from_le_bytes([*a, *b, *c, *d])).checked_add(by)?;
            bytes.copy_from_slice(&i32::try_from(value).ok()?.to_le_bytes());
        }
        _ => return None,
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const CODE: u64 = 0xffff_ffff_8100_0000;
    const WITH: u64 = 0xffff_ffff_8280_0000;

    fn apply_to(with: &[u8], length: usize, newer: bool) -> Option<Vec<u8>> {
        let disk = vec![0x90; length];
        let alternative =
            Alternative { code: CODE, bytes: &disk, replacement: WITH, with, feature: 7, newer };
        apply(&Binary::default(), Special::default(), &alternative)
    }

    fn rel32(opcode: u8, from: u64, to: u64) -> Vec<u8> {
        branch(&[opcode], from, to).expect("in reach")
    }

    #[test]
    fn a_call_or_jump_keeps_its_target() {
        for opcode in [CALL, JMP32] {
            let expected = rel32(opcode, CODE, CODE + 0x1000);
            for newer in [false, true] {
                assert_eq!(
                    apply_to(&rel32(opcode, WITH, CODE + 0x1000), 5, newer),
                    Some(expected.clone()),
                    "{opcode:x}"
                );
            }
        }
        // Only newer kernels relocate more than the first instruction.
        let with = [&[0x31, 0xc0][..], &rel32(CALL, WITH + 2, CODE + 0x1000)].concat();
        let expected = [&[0x31, 0xc0][..], &rel32(CALL, CODE + 2, CODE + 0x1000)].concat();
        assert_eq!(apply_to(&with, 7, true), Some(expected));
        assert_eq!(apply_to(&with, 7, false), Some(with));
    }

    #[test]
    fn a_jump_to_a_near_target_becomes_short() {
        let jump = rel32(JMP32, WITH, CODE + 0x20);
        assert_eq!(apply_to(&jump, 5, false), Some(vec![JMP8, 0x1e, 0x0f, 0x1f, 0x00]));
        assert_eq!(apply_to(&jump, 5, true), Some(vec![JMP8, 0x1e, INT3, INT3, INT3]));
        // Older kernels do not shorten backward jumps.
        let back = rel32(JMP32, WITH, CODE - 0x20);
        assert_eq!(apply_to(&back, 5, false), Some(rel32(JMP32, CODE, CODE - 0x20)));
        assert_eq!(apply_to(&back, 5, true), Some(vec![JMP8, 0xde, INT3, INT3, INT3]));
    }

    #[test]
    fn padding_becomes_as_few_nops_as_possible() {
        assert_eq!(apply_to(&[], 5, false), Some(vec![0x0f, 0x1f, 0x44, 0, 0]));
        assert_eq!(apply_to(&[0x0f, 0xae, 0xf0], 5, true), Some(vec![0x0f, 0xae, 0xf0, 0x66, 0x90]));
        assert_eq!(apply_to(&[], 10, false), Some(vec![0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0, 0x66, 0x90]));
    }

    #[test]
    fn a_hypercall_is_copied_unchanged() {
        assert_eq!(apply_to(&[0x0f, 0x01, 0xd9], 5, true), Some(vec![0x0f, 0x01, 0xd9, 0x66, 0x90]));
    }

    #[test]
    fn rip_relative_operands_keep_their_address() {
        // mov eax, [rip + 0x100] at the replacement.
        let with = [0x8b, 0x05, 0x00, 0x01, 0x00, 0x00];
        let moved = (0x100 + WITH - CODE) as u32;
        let expected = [&[0x8b, 0x05][..], &moved.to_le_bytes()].concat();
        assert_eq!(apply_to(&with, 6, true), Some(expected));
        // jne over a NOP, inside the replacement.
        let inside = [0x75, 0x01, 0x90, 0xc3];
        assert_eq!(apply_to(&inside, 4, true), Some(inside.to_vec()));
    }

    #[test]
    fn a_displacement_that_does_not_fit_gives_none() {
        // The site is so far above its target that the displacement would need 33 bits.
        let far = rel32(CALL, WITH, WITH - 0x7000_0000);
        let disk = [0x90; 5];
        let alternative = |newer| Alternative {
            code: WITH + 0x7000_0000,
            bytes: &disk,
            replacement: WITH,
            with: &far,
            feature: 7,
            newer,
        };
        for newer in [false, true] {
            let special = Special::default();
            assert_eq!(apply(&Binary::default(), special, &alternative(newer)), None, "{newer}");
        }
        assert_eq!(apply_to(&[0x75, 0x40], 2, true), None);
    }
}
