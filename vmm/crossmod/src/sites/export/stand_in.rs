//! Stand-ins: instructions that the explorer takes, in the place of those that it does not.
//!
//! Whether bytes can be exchanged under a running CPU is decided by where instructions begin, which bytes differ, and
//! where control goes, not by what is computed. A stand-in has the length of what it stands for, goes on behind itself,
//! leaves the site or calls as that does, and its bytes differ from the other version's where the real ones do. It
//! does something of its own, so that old and new still have different outcomes.

use crate::linux::code::{Flow, Piece};

/// A byte of an instruction's form: fixed, or any.
type Form = Vec<Option<u8>>;

/// How much is replaced, from what must be to everything but NOPs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// What the explorer does not take.
    Refused,
    /// Everything that does something.
    All,
}

/// An instruction and what stands for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StandIn {
    /// 0: of old, 1: of new.
    pub version: usize,
    /// Its first byte in the site.
    pub at: usize,
    /// What is in the kernel.
    pub real: Vec<u8>,
    /// What stands for it.
    pub bytes: Vec<u8>,
    /// Why.
    pub why: &'static str,
}

/// Two versions with stand-ins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stood {
    /// Old and new.
    pub bytes: [Vec<u8>; 2],
    /// What is not as it is in the kernel.
    pub stand_ins: Vec<StandIn>,
    /// Bytes that differ where the real ones are equal, or the other way round. None, nearly always.
    pub misses: usize,
}

/// Choices of forms that are worth trying: which one of the first is taken decides what the second can be.
const TURNS: usize = 64;
/// As many of the best are given out.
const BEST: usize = 4;
/// Bytes to choose a displacement from, so that targets come to lie apart.
const PLACES: usize = 16;

/// Both versions with stand-ins, in several ways, those with the fewest misses first.
pub fn stand_ins(real: [&[u8]; 2], pieces: [&[Piece]; 2], level: Level) -> impl Iterator<Item = Stood> {
    let mut turns: Vec<(usize, usize)> =
        (0..TURNS).map(|turn| (stand_in(real, pieces, level, (turn, 0)).misses, turn)).collect();
    turns.sort_unstable();
    let seeds =
        turns.into_iter().take(BEST).flat_map(|(_, turn)| (0..PLACES).map(move |place| (turn, place)));
    seeds.map(move |seed| stand_in(real, pieces, level, seed))
}

/// Both versions with stand-ins; the seed, a turn and a place, chooses among equally good ones.
fn stand_in(real: [&[u8]; 2], pieces: [&[Piece]; 2], level: Level, seed: (usize, usize)) -> Stood {
    let replaced = |piece: &Piece| match level {
        Level::Refused => piece.refused.is_some(),
        Level::All => !matches!(piece.flow, Flow::Nop | Flow::Dead) || piece.refused.is_some(),
    };
    let mut bytes = real.map(<[u8]>::to_vec);
    // Bytes of the other version that are not decided yet have no say.
    let mut decided = [0, 1].map(|version| {
        let mut decided = vec![true; real[version].len()];
        for piece in pieces[version].iter().filter(|piece| replaced(piece)) {
            decided[piece.at..piece.at + piece.len].fill(false);
        }
        decided
    });
    // The second round knows what the first has made of the other version.
    for version in [0, 1, 0, 1] {
        for piece in pieces[version].iter().filter(|piece| replaced(piece)) {
            let range = piece.at..piece.at + piece.len;
            let wanted: Vec<Option<(u8, bool)>> = range
                .clone()
                .map(|at| {
                    decided[1 - version][at].then(|| (bytes[1 - version][at], real[0][at] == real[1][at]))
                })
                .collect();
            bytes[version][range].copy_from_slice(&best(piece, &wanted, seed));
        }
        decided[version].fill(true);
    }
    let misses = (0..real[0].len())
        .filter(|&at| (real[0][at] == real[1][at]) != (bytes[0][at] == bytes[1][at]))
        .count();
    let stand_ins = [0, 1].into_iter().flat_map(|version| {
        pieces[version].iter().filter(|piece| replaced(piece)).map(move |piece| (version, piece))
    });
    let stand_ins = stand_ins
        .map(|(version, piece)| {
            let range = piece.at..piece.at + piece.len;
            StandIn {
                version,
                at: piece.at,
                real: real[version][range.clone()].to_vec(),
                bytes: bytes[version][range].to_vec(),
                why: piece.refused.unwrap_or("its target is too near to another for landing pads"),
            }
        })
        .collect();
    Stood { bytes, stand_ins, misses }
}

/// The form that comes closest to what is wanted, filled in. Wanted is for each byte, where it matters: the other
/// version's, and whether this one is to be equal.
fn best(piece: &Piece, wanted: &[Option<(u8, bool)>], (turn, place): (usize, usize)) -> Vec<u8> {
    let forms = forms(piece);
    let misses = |form: &Form| {
        let miss = |(byte, wanted): (&Option<u8>, &Option<(u8, bool)>)| match (byte, wanted) {
            (Some(byte), Some((other, equal))) => (byte == other) != *equal,
            _ => false,
        };
        form.iter().zip(wanted).filter(|(byte, wanted)| miss((byte, wanted))).count()
    };
    let least = forms.iter().map(misses).min().unwrap_or_default();
    let closest: Vec<&Form> = forms.iter().filter(|form| misses(form) == least).collect();
    let Some(form) = closest.get(turn % closest.len().max(1)) else { return vec![0x90; piece.len] };
    let first_free = form.iter().position(Option::is_none);
    let choose = |at: usize| {
        // The first byte of an operand is the lowest of a displacement: it decides where a pad is.
        let chosen = if Some(at) == first_free { 0x10 + 6 * place as u8 } else { 0x21 + at as u8 };
        match wanted[at] {
            Some((other, true)) => other,
            Some((other, false)) if other == chosen => chosen ^ 0x40,
            _ => chosen,
        }
    };
    form.iter().enumerate().map(|(at, byte)| byte.unwrap_or_else(|| choose(at))).collect()
}

/// Forms of a length that do what a piece does. Prefixes that do nothing in 64-bit mode (SDM vol. 2, 2.1.1) make up
/// for what is missing.
fn forms(piece: &Piece) -> Vec<Form> {
    let own: &[&[u8]] = match piece.flow {
        Flow::Leaves if piece.len == 1 => &[&[0xc3]],
        Flow::Leaves => &[&[0xeb], &[0xe9]],
        Flow::Branches | Flow::Inside(_) if piece.len > 1 => &[&[0x74], &[0x0f, 0x84]],
        // There is no call of less than 5 bytes whose target is known.
        Flow::Calls if piece.len >= 5 => &[&[0xe8]],
        Flow::Returns => &[&[0xc3]],
        _ => PLAIN,
    };
    let mut forms = Vec::new();
    for opcode in own {
        let Some(operand) = operand(opcode) else { continue };
        let Some(prefixes) = piece.len.checked_sub(opcode.len() + operand) else { continue };
        let tail = opcode.iter().map(|byte| Some(*byte)).chain(std::iter::repeat_n(None, operand));
        for first in PREFIXES.iter().take(if prefixes > 0 { PREFIXES.len() } else { 1 }) {
            let last = PREFIXES.iter().take(if prefixes > 1 { PREFIXES.len() } else { 1 });
            for second in last {
                let mut form: Form = vec![Some(*second); prefixes];
                if let Some(byte) = form.first_mut() {
                    *byte = Some(*first);
                }
                form.extend(tail.clone());
                forms.push(form);
            }
        }
    }
    // Fewest prefixes first: seldom is more than the operand needed.
    forms.sort_by_key(|form| form.iter().filter(|byte| byte.is_some()).count());
    forms
}

/// Segment overrides.
const PREFIXES: [u8; 4] = [0x2e, 0x3e, 0x26, 0x36];

/// Instructions without memory: CMC, STC, and exchanges; moves and additions of a constant, of 1, 2, 4 or 8 bytes; and,
/// for what shares an opcode's first byte with NOPs, SETE and BTS.
const PLAIN: &[&[u8]] = &[
    &[0xf5],
    &[0xf9],
    &[0x91],
    &[0x92],
    &[0x96],
    &[0x97],
    &[0xb1],
    &[0xb2],
    &[0xb3],
    &[0xb5],
    &[0xb6],
    &[0xb7],
    &[0x41, 0xb0],
    &[0x41, 0xb1],
    &[0x41, 0xb2],
    &[0x41, 0xb3],
    &[0x83, 0xc1],
    &[0x66, 0xb9],
    &[0x66, 0xba],
    &[0x66, 0xbe],
    &[0x48, 0x83, 0xc1],
    &[0x49, 0x83, 0xc0],
    &[0xb9],
    &[0xba],
    &[0xbe],
    &[0xbf],
    &[0x81, 0xc1],
    &[0x81, 0xc2],
    &[0x41, 0xb8],
    &[0x41, 0xb9],
    &[0x41, 0xba],
    &[0x48, 0xc7, 0xc1],
    &[0x48, 0xc7, 0xc2],
    &[0x49, 0xc7, 0xc0],
    &[0x49, 0xc7, 0xc1],
    &[0x0f, 0x94, 0xc1],
    &[0x0f, 0x94, 0xc2],
    &[0x0f, 0xba, 0xe9],
    &[0x0f, 0xba, 0xea],
    &[0x48, 0xb9],
    &[0x48, 0xba],
    &[0x48, 0xbe],
    &[0x48, 0xbf],
    &[0x49, 0xb8],
    &[0x49, 0xb9],
];

/// Bytes of the operand behind the opcodes above.
fn operand(opcode: &[u8]) -> Option<usize> {
    Some(match opcode {
        [0xf5 | 0xf9 | 0xc3 | 0x91..=0x97] | [0x0f, 0x94, _] => 0,
        [0xeb | 0x74 | 0xb0..=0xb7] | [0x41, 0xb0..=0xb7] | [0x83, _] | [_, 0x83, _] | [0x0f, 0xba, _] => 1,
        [0x66, _] => 2,
        [0xe8 | 0xe9 | 0xb8..=0xbf] | [0x0f | 0x81 | 0x41, _] | [_, 0xc7, _] => 4,
        [0x48 | 0x49, 0xb8..=0xbf] => 8,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use iced_x86::{Decoder, DecoderOptions, FlowControl};

    use super::*;
    use crate::linux::code::pieces;

    const AT: u64 = 0x40_0010_0100;

    #[test]
    fn every_form_is_one_instruction_that_does_what_is_asked() {
        for len in 1..=15 {
            for flow in [Flow::Plain, Flow::Leaves, Flow::Calls, Flow::Branches] {
                let piece = Piece { at: 0, len, flow, refused: Some("") };
                let forms = forms(&piece);
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
                            assert_eq!(pieces(&bytes, AT)[0].refused, None, "{bytes:02x?}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn bytes_differ_where_the_real_ones_do() {
        // call rax and a NOP; a call of a thunk. clac; NOP. lock inc, ds inc.
        // rdtsc and NOPs; rdtscp and NOPs: of other lengths, with a byte in common.
        let pairs: [[&[u8]; 2]; 5] = [
            [&[0x0f, 0x31, 0x90, 0x90, 0x90], &[0x0f, 0x01, 0xf9, 0x66, 0x90]],
            [&[0xff, 0xd0, 0x0f, 0x1f, 0x00], &[0xe8, 0x33, 0x12, 0, 0]],
            [&[0x0f, 0x01, 0xca], &[0x0f, 0x1f, 0x00]],
            [&[0xf0, 0xff, 0x07], &[0x3e, 0xff, 0x07]],
            [&[0x48, 0x8b, 0x07, 0x90, 0x90], &[0x48, 0x8b, 0x0f, 0x66, 0x90]],
        ];
        for real in pairs {
            let pieces = real.map(|bytes| pieces(bytes, AT));
            for stood in stand_ins(real, [&pieces[0], &pieces[1]], Level::Refused) {
                assert_eq!(stood.misses, 0, "{real:02x?} {stood:02x?}");
                assert!(!stood.stand_ins.is_empty());
                for (version, pieces) in pieces.iter().enumerate() {
                    let starts = |pieces: &[Piece]| pieces.iter().map(|piece| piece.at).collect::<Vec<_>>();
                    let again = crate::linux::code::pieces(&stood.bytes[version], AT);
                    assert_eq!(starts(&again), starts(pieces), "{stood:02x?}");
                    assert!(again.iter().all(|piece| piece.refused.is_none()), "{stood:02x?}");
                }
            }
        }
    }
}
