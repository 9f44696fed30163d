//! Finds kallsyms, the kernel's own symbol table, in its read-only data.
//!
//! `write_src()` of scripts/kallsyms.c writes it. A name is a sequence of token numbers; each token is a string in
//! `kallsyms_token_table`, at the offset in `kallsyms_token_index` (256 × u16). The length of a name precedes it: one
//! byte, or since 6.1 up to two bytes of ULEB128. `kallsyms_markers` (u32) has the offset of every 256th name. All tables
//! are 8-byte aligned. Their order has changed and is recognised by what fits:
//!
//! | since | order |
//! |---|---|
//! | 4.6 | offsets (s32), relative base (u64), number (u32), names, markers, token table, token index |
//! | 6.4 | number, names, markers, token table, token index, offsets, relative base |
//!
//! If any offset is negative, negative offsets count up from the base and the others are per-CPU or absolute values
//! (`CONFIG_KALLSYMS_ABSOLUTE_PERCPU`, kernel/kallsyms.c, `kallsyms_sym_address()`); otherwise all count from the base.

use memchr::memmem;

use crate::limits;
use crate::symbols::Symbol;

/// Maximum number of candidates for the token table.
const TABLES: usize = 4096;
/// Maximum length of a token in bytes.
const TOKEN: usize = 128;
/// Maximum distance in bytes from the number of symbols to the token table: a name takes about 12 bytes.
const REACH: usize = 48 << 20;
/// Number of the token '0': its character code.
const DIGIT: usize = b'0' as usize;
/// Number of names between two markers.
const MARKED: usize = 256;
/// Minimum number of symbols in a table.
const FEWEST: u64 = 4;

struct Tokens<'a> {
    strings: Vec<&'a [u8]>,
    start: usize,
    index_end: usize,
}

fn align(at: usize) -> usize {
    at.next_multiple_of(8)
}

fn word(data: &[u8], at: usize) -> Option<u64> {
    data.get(at..)?.first_chunk().map(|raw| u64::from_le_bytes(*raw))
}

fn kernel_address(address: u64) -> bool {
    address >> 31 == 0x1_ffff_ffff
}

/// The symbols that name addresses, if the data contains kallsyms. Absolute values are dropped.
pub fn find(data: &[u8]) -> Option<Vec<Symbol>> {
    // Every digit is a token of its own, so every token table contains this.
    const NEEDLE: &[u8] = b"0\x001\x002\x003\x004\x005\x006\x007\x008\x009\x00";
    let mut budget = [limits::KALLSYMS_LOOKS, limits::KALLSYMS_TRIES];
    let mut from = 0;
    for _ in 0..TABLES {
        let at = from + memmem::find(data.get(from..)?, NEEDLE)?;
        from = at + 1;
        if let Some(tokens) = tokens(data, at)
            && let Some(symbols) = symbols(data, &tokens, &mut budget)
        {
            return Some(symbols);
        }
    }
    None
}

/// The token table around the digits at `at`, if the token index after it agrees.
fn tokens(data: &[u8], at: usize) -> Option<Tokens<'_>> {
    let mut start = at;
    for _ in 0..DIGIT {
        let end = start.checked_sub(1)?;
        let low = end.saturating_sub(TOKEN);
        start = low + data[low..end].iter().rposition(|byte| *byte == 0)? + 1;
    }
    // Padding before the table looks like empty strings, but the table is aligned.
    let start = align(start);
    let (mut strings, mut starts, mut next) = (Vec::with_capacity(256), Vec::with_capacity(256), start);
    for _ in 0..256 {
        let rest = data.get(next..)?;
        let length = rest.iter().take(TOKEN).position(|byte| *byte == 0)?;
        starts.push(u16::try_from(next - start).ok()?);
        strings.push(&rest[..length]);
        next += length + 1;
    }
    let index = data.get(align(next)..align(next) + 512)?;
    let agrees = index.chunks_exact(2).zip(&starts).all(|(raw, start)| raw == start.to_le_bytes());
    agrees.then_some(Tokens { strings, start, index_end: align(next) + 512 })
}

fn symbols(data: &[u8], tokens: &Tokens<'_>, [looks, tries]: &mut [usize; 2]) -> Option<Vec<Symbol>> {
    let lowest = align(tokens.start.saturating_sub(REACH));
    // Search backwards from the token table: the number of symbols, the names, the markers and the table are adjacent.
    for number_at in (lowest..tokens.start.saturating_sub(15)).step_by(8).rev() {
        *looks = looks.checked_sub(1)?;
        let Some(count) = word(data, number_at) else { continue };
        if !(FEWEST..=limits::SYMBOLS as u64).contains(&count) {
            continue;
        }
        let count = count as usize;
        let places = [before(data, number_at, count), since(data, tokens.index_end, count)];
        if places == [None; 2] {
            continue;
        }
        let Some(names) = names(data, tokens, number_at + 8, count, tries) else {
            if *tries == 0 {
                return None;
            }
            continue;
        };
        // In the newer order, the data before the number may look like a base by chance. Symbols are sorted, which
        // other data is not.
        let found = places.into_iter().flatten().find_map(|(offsets_at, base)| {
            addresses(data.get(offsets_at..offsets_at.checked_add(4 * count)?)?, base)
        });
        if let Some(addresses) = found {
            let named = addresses.into_iter().zip(names).filter(|(_, (kind, _))| !matches!(kind, 'a' | 'A'));
            let symbol = |(address, (kind, name)): (u64, (char, String))| {
                Symbol::new(name, address, 0, kind.is_ascii_lowercase())
            };
            return Some(named.map(symbol).collect());
        }
    }
    None
}

/// The addresses of offsets, if they are sorted.
fn addresses(offsets: &[u8], base: u64) -> Option<Vec<u64>> {
    let offsets: Vec<i32> = offsets
        .chunks_exact(4)
        .map(|raw| raw.first_chunk().map_or(0, |raw| i32::from_le_bytes(*raw)))
        .collect();
    let percpu = offsets.iter().any(|offset| *offset < 0);
    let address = |offset: &i32| match (percpu, *offset) {
        (true, ..0) => base.wrapping_sub(1).wrapping_add(offset.unsigned_abs().into()),
        (true, _) => *offset as u64,
        (false, _) => base.wrapping_add(u64::from(*offset as u32)),
    };
    let addresses: Vec<u64> = offsets.iter().map(address).collect();
    addresses.is_sorted().then_some(addresses)
}

/// Position of the offsets, and base, in the order before 6.4: right before the number.
fn before(data: &[u8], number_at: usize, count: usize) -> Option<(usize, u64)> {
    let base = word(data, number_at.checked_sub(8)?).filter(|base| kernel_address(*base))?;
    // The offsets are padded to 8 bytes before the base.
    let offsets_at = (number_at - 8).checked_sub(align(4 * count))?;
    Some((offsets_at, base))
}

/// Position of the offsets, and base, in the order since 6.4: after the token index.
fn since(data: &[u8], index_end: usize, count: usize) -> Option<(usize, u64)> {
    let offsets_at = align(index_end);
    let base = word(data, align(offsets_at + 4 * count)).filter(|base| kernel_address(*base))?;
    Some((offsets_at, base))
}

/// Decodes `count` names, each with its kind as in nm(1), if there are as many and the markers after them agree.
fn names(
    data: &[u8],
    tokens: &Tokens<'_>,
    first: usize,
    count: usize,
    tries: &mut usize,
) -> Option<Vec<(char, String)>> {
    let (mut at, mut starts, mut markers) = (first, Vec::new(), Vec::new());
    for index in 0..count {
        *tries = tries.checked_sub(1)?;
        if index % MARKED == 0 {
            markers.push(u32::try_from(at - first).ok()?);
        }
        let mut length = usize::from(*data.get(at)?);
        at += 1;
        if length & 0x80 != 0 {
            length = length & 0x7f | usize::from(*data.get(at)?) << 7;
            at += 1;
        }
        if length == 0 || at + length > tokens.start {
            return None;
        }
        starts.push((at, length));
        at += length;
    }
    let table = data.get(align(at)..align(at) + 4 * markers.len())?;
    if !table.chunks_exact(4).zip(&markers).all(|(raw, marker)| raw == marker.to_le_bytes()) {
        return None;
    }
    let name = |(at, length): (usize, usize)| {
        let mut text = Vec::new();
        for token in data.get(at..at + length)? {
            text.extend_from_slice(tokens.strings[usize::from(*token)]);
            if text.len() > limits::NAME {
                return None;
            }
        }
        let text = String::from_utf8_lossy(&text);
        let mut characters = text.chars();
        Some((characters.next()?, characters.as_str().to_owned()))
    };
    starts.into_iter().map(name).collect()
}
