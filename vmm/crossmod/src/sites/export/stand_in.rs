//! Stand-ins: instructions that can run outside their kernel, instead of those that cannot.
//!
//! Whether bytes can be replaced under a running CPU depends on where instructions begin, which bytes differ and where
//! control goes, not on what the instructions compute. A stand-in has the length of the real instruction; it continues,
//! leaves the site or calls as that does; and its bytes differ from the other version's where the real ones do. Its
//! effect is its own, so old and new still have different outcomes.

use crossmod_linux::code::{Flow, Insn};

use super::Candidate;

/// The bytes of a form of instruction; `None` for any value.
type Form = Vec<Option<u8>>;

/// A stand-in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StandIn {
    /// The version: 0 is the old one, 1 the new one.
    pub version: usize,
    /// Offset of its first byte in the site.
    pub at: usize,
    /// The bytes of the real instruction.
    pub real: Vec<u8>,
    /// The bytes of the stand-in.
    pub bytes: Vec<u8>,
    /// Why it is needed.
    pub why: &'static str,
}

/// Number of combinations of forms to try: the choice for one version restricts the other.
const TURNS: usize = 64;
/// Number of the best combinations to return.
const BEST: usize = 4;
/// Number of displacements to try, so that targets do not overlap.
const PLACES: usize = 16;

/// Both versions with stand-ins, in several variants, those with the fewest misses first. Replaces the instructions that
/// cannot run outside their kernel, or `all` except NOPs and dead code.
pub fn stand_ins(real: [&[u8]; 2], insns: [&[Insn]; 2], all: bool) -> impl Iterator<Item = Candidate> {
    let mut turns: Vec<usize> = (0..TURNS).collect();
    turns.sort_by_cached_key(|&turn| stand_in(real, insns, all, (turn, 0)).misses);
    let seeds = turns.into_iter().take(BEST).flat_map(|turn| (0..PLACES).map(move |place| (turn, place)));
    seeds.map(move |seed| stand_in(real, insns, all, seed))
}

/// Both versions with stand-ins. The seed, a turn and a place, chooses among equally good forms and displacements.
fn stand_in(real: [&[u8]; 2], insns: [&[Insn]; 2], all: bool, seed: (usize, usize)) -> Candidate {
    let replaced =
        |insn: &Insn| insn.refused.is_some() || (all && !matches!(insn.flow, Flow::Nop | Flow::Dead));
    let mut bytes = real.map(<[u8]>::to_vec);
    // Bytes of the other version that are not decided yet do not restrict the choice.
    let mut decided = [0, 1].map(|version| {
        let mut decided = vec![true; real[version].len()];
        for insn in insns[version].iter().filter(|insn| replaced(insn)) {
            decided[insn.at..insn.at + insn.len].fill(false);
        }
        decided
    });
    // In the second round, all bytes of the other version are decided.
    for version in [0, 1, 0, 1] {
        for insn in insns[version].iter().filter(|insn| replaced(insn)) {
            let range = insn.at..insn.at + insn.len;
            let wanted: Vec<Option<(u8, bool)>> = range
                .clone()
                .map(|at| {
                    decided[1 - version][at].then(|| (bytes[1 - version][at], real[0][at] == real[1][at]))
                })
                .collect();
            bytes[version][range].copy_from_slice(&best(insn, &wanted, seed));
        }
        decided[version].fill(true);
    }
    let misses = (0..real[0].len())
        .filter(|&at| (real[0][at] == real[1][at]) != (bytes[0][at] == bytes[1][at]))
        .count();
    let mut stand_ins = Vec::new();
    for version in [0, 1] {
        for insn in insns[version].iter().filter(|insn| replaced(insn)) {
            let range = insn.at..insn.at + insn.len;
            stand_ins.push(StandIn {
                version,
                at: insn.at,
                real: real[version][range.clone()].to_vec(),
                bytes: bytes[version][range].to_vec(),
                why: insn.refused.unwrap_or("its target is too near to another for landing pads"),
            });
        }
    }
    Candidate { bytes, adapted: true, stand_ins, misses }
}

/// The bytes of the form that matches best. `wanted` has, for each byte that matters, that of the other version and
/// whether this one must be equal.
fn best(insn: &Insn, wanted: &[Option<(u8, bool)>], (turn, place): (usize, usize)) -> Vec<u8> {
    let forms = forms(insn);
    let misses = |form: &Form| {
        let miss = |(byte, wanted): (&Option<u8>, &Option<(u8, bool)>)| match (byte, wanted) {
            (Some(byte), Some((other, equal))) => (byte == other) != *equal,
            _ => false,
        };
        form.iter().zip(wanted).filter(|(byte, wanted)| miss((byte, wanted))).count()
    };
    let least = forms.iter().map(misses).min().unwrap_or_default();
    let closest: Vec<&Form> = forms.iter().filter(|form| misses(form) == least).collect();
    let Some(form) = closest.get(turn % closest.len().max(1)) else { return vec![0x90; insn.len] };
    let first_free = form.iter().position(Option::is_none);
    let choose = |at: usize| {
        // The first byte of an operand is the lowest one of a displacement, which determines the landing pad.
        let chosen = if Some(at) == first_free { 0x10 + 6 * place as u8 } else { 0x21 + at as u8 };
        match wanted[at] {
            Some((other, true)) => other,
            Some((other, false)) if other == chosen => chosen ^ 0x40,
            _ => chosen,
        }
    };
    form.iter().enumerate().map(|(at, byte)| byte.unwrap_or_else(|| choose(at))).collect()
}

/// Forms with the length and control flow of an instruction. Prefixes without effect in 64-bit mode (SDM vol. 2, 2.1.1)
/// fill the length.
fn forms(insn: &Insn) -> Vec<Form> {
    let own: &[(usize, &str)] = match insn.flow {
        Flow::Leaves if insn.len == 1 => &[(0, "c3")],
        Flow::Leaves => &[(1, "eb"), (4, "e9")],
        Flow::Branches | Flow::Inside(_) if insn.len > 1 => &[(1, "74"), (4, "0f84")],
        // Direct calls have at least 5 bytes.
        Flow::Calls if insn.len >= 5 => &[(4, "e8")],
        Flow::Returns => &[(0, "c3")],
        _ => PLAIN,
    };
    let mut forms = Vec::new();
    let own = own.iter().flat_map(|&(operand, all)| all.split(' ').map(move |opcode| (operand, opcode)));
    for (operand, opcode) in own {
        let bytes = (0..opcode.len()).step_by(2).map(|at| u8::from_str_radix(&opcode[at..at + 2], 16).ok());
        let Some(prefixes) = insn.len.checked_sub(opcode.len() / 2 + operand) else { continue };
        let tail = bytes.chain(std::iter::repeat_n(None, operand));
        let variants = |several: bool| &PREFIXES[..if several { PREFIXES.len() } else { 1 }];
        for &first in variants(prefixes > 0) {
            for &second in variants(prefixes > 1) {
                let mut form: Form = vec![Some(second); prefixes];
                if let Some(byte) = form.first_mut() {
                    *byte = Some(first);
                }
                form.extend(tail.clone());
                forms.push(form);
            }
        }
    }
    // Fewest prefixes first: they leave the most bytes free.
    forms.sort_by_key(|form| form.iter().filter(|byte| byte.is_some()).count());
    forms
}

/// Segment overrides.
const PREFIXES: [u8; 4] = [0x2e, 0x3e, 0x26, 0x36];

/// Instructions without memory operands, by the length of their operand in bytes: CMC, STC and exchanges; moves and
/// additions of constants; SETE and BTS, which share their first byte with NOPs. Each is an opcode in hex.
const PLAIN: &[(usize, &str)] = &[
    (0, "f5 f9 91 92 96 97 0f94c1 0f94c2"),
    (1, "b1 b2 b3 b5 b6 b7 41b0 41b1 41b2 41b3 83c1 4883c1 4983c0 0fbae9 0fbaea"),
    (2, "66b9 66ba 66be"),
    (4, "b9 ba be bf 81c1 81c2 41b8 41b9 41ba 48c7c1 48c7c2 49c7c0 49c7c1"),
    (8, "48b9 48ba 48be 48bf 49b8 49b9"),
];

#[cfg(test)]
mod tests {
    use iced_x86::{Decoder, DecoderOptions, FlowControl};

    use super::*;
    use crossmod_linux::code::decode;

    const AT: u64 = 0x40_0010_0100;

    #[test]
    fn every_form_is_one_instruction_with_the_right_control_flow() {
        for len in 1..=15 {
            for flow in [Flow::Plain, Flow::Leaves, Flow::Calls, Flow::Branches] {
                let insn = Insn { at: 0, len, flow, refused: Some("") };
                let forms = forms(&insn);
                assert!(!forms.is_empty(), "{flow:?} of {len} bytes");
                for form in forms {
                    let bytes: Vec<u8> = form.iter().map(|byte| byte.unwrap_or(0x30)).collect();
                    let instruction = Decoder::with_ip(64, &bytes, AT, DecoderOptions::NONE).decode();
                    assert_eq!((instruction.is_invalid(), instruction.len()), (false, len), "{bytes:02x?}");
                    let goes = instruction.flow_control();
                    match flow {
                        Flow::Leaves => {
                            let leaves = [FlowControl::UnconditionalBranch, FlowControl::Return];
                            assert!(leaves.contains(&goes), "{bytes:02x?}");
                        }
                        Flow::Branches if len > 1 => assert_eq!(goes, FlowControl::ConditionalBranch),
                        Flow::Calls if len >= 5 => assert_eq!(goes, FlowControl::Call),
                        _ => {
                            assert_eq!(goes, FlowControl::Next, "{bytes:02x?}");
                            assert_eq!(decode(&bytes, AT)[0].refused, None, "{bytes:02x?}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn bytes_differ_where_the_real_ones_do() {
        // call rax and a NOP; a call of a thunk. clac; NOP. lock inc, ds inc.
        // rdtsc and NOPs; rdtscp and NOPs: other lengths, with a common byte.
        let pairs: [[&[u8]; 2]; 5] = [
            [&[0x0f, 0x31, 0x90, 0x90, 0x90], &[0x0f, 0x01, 0xf9, 0x66, 0x90]],
            [&[0xff, 0xd0, 0x0f, 0x1f, 0x00], &[0xe8, 0x33, 0x12, 0, 0]],
            [&[0x0f, 0x01, 0xca], &[0x0f, 0x1f, 0x00]],
            [&[0xf0, 0xff, 0x07], &[0x3e, 0xff, 0x07]],
            [&[0x48, 0x8b, 0x07, 0x90, 0x90], &[0x48, 0x8b, 0x0f, 0x66, 0x90]],
        ];
        for real in pairs {
            let insns = real.map(|bytes| decode(bytes, AT));
            for substituted in stand_ins(real, [&insns[0], &insns[1]], false) {
                assert_eq!(substituted.misses, 0, "{real:02x?} {substituted:02x?}");
                assert!(!substituted.stand_ins.is_empty());
                for (version, insns) in insns.iter().enumerate() {
                    let starts = |insns: &[Insn]| insns.iter().map(|insn| insn.at).collect::<Vec<_>>();
                    let again = crossmod_linux::code::decode(&substituted.bytes[version], AT);
                    assert_eq!(starts(&again), starts(insns), "{substituted:02x?}");
                    assert!(again.iter().all(|insn| insn.refused.is_none()), "{substituted:02x?}");
                }
            }
        }
    }
}
