//! Places: a store of some length that begins at some offset of a line or a page.

use serde::{Deserialize, Serialize};

use crate::machine::free::survey::Length;

/// Bytes of a cache line.
pub const LINE: usize = 64;
/// Bytes of a page.
pub(super) const PAGE: usize = 4096;
/// Offset of the line that contains the places inside one page.
const BASE: usize = 0x400;

/// The largest power-of-two block, up to a page, whose boundary a store crosses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Crosses {
    /// Inside an aligned quadword.
    Nothing,
    /// A boundary of 8 bytes.
    Quadword,
    /// A boundary of 16 bytes.
    Bytes16,
    /// A boundary of 32 bytes.
    Bytes32,
    /// A cache line.
    Line,
    /// A page.
    Page,
}

impl Crosses {
    /// Its name in reports.
    pub fn name(self) -> &'static str {
        ["-", "8", "16", "32", "line", "page"][self as usize]
    }
}

/// The boundary that `len` bytes from `first` cross.
pub(super) fn crosses(first: usize, len: usize) -> Crosses {
    let last = first + len - 1;
    [
        (PAGE, Crosses::Page),
        (LINE, Crosses::Line),
        (32, Crosses::Bytes32),
        (16, Crosses::Bytes16),
        (8, Crosses::Quadword),
    ]
    .into_iter()
    .find(|&(block, _)| first / block != last / block)
    .map_or(Crosses::Nothing, |(_, crosses)| crosses)
}

/// Offset in the site pages of an offset in that line.
pub(super) fn in_line(offset: usize) -> usize {
    BASE + offset
}

/// A place: where a store writes, and how many bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Cell {
    /// Bytes of the store.
    pub length: Length,
    /// Offset of the first byte stored, in the two site pages.
    pub store: usize,
}

impl Cell {
    /// The place of a store that begins `offset` bytes into a line.
    pub fn in_line(length: Length, offset: usize) -> Cell {
        Cell { length, store: in_line(offset) }
    }

    /// The place of a store whose first `first` bytes lie in one page and the others in the next.
    pub fn across_pages(length: Length, first: usize) -> Cell {
        Cell { length, store: PAGE - first }
    }

    /// Offset in the line.
    pub fn offset(self) -> usize {
        self.store % LINE
    }

    /// Bytes that the store puts into the first of two pages, if it crosses into a second.
    pub fn before_page(self) -> Option<usize> {
        (self.store < PAGE && self.store + self.length.bytes() > PAGE).then(|| PAGE - self.store)
    }

    /// The largest boundary between the bytes that vary, where tears are visible.
    pub fn crosses(self) -> Crosses {
        let first = self.store + self.length.opcode().len() - self.length.before();
        crosses(first, self.length.varied())
    }

    /// Two stores meet at a boundary between blocks: which block is fetched first can be seen.
    pub fn shows_order(self) -> bool {
        self.length.halves() && self.crosses() > Crosses::Nothing
    }

    /// AMD promises that the store is seen whole: one store inside an aligned quadword (APM vol. 2, 7.6.1).
    /// Intel promises nothing without serialising (SDM vol. 3, "Handling Self- and Cross-Modifying Code").
    pub fn amd_promises_whole(self) -> bool {
        self.length.single() && crosses(self.store, self.length.bytes()) == Crosses::Nothing
    }

    /// Offset of the executed instruction.
    pub fn site(self) -> usize {
        self.store - self.length.before()
    }

    /// The site of generation 0, its RET, and filler for the rest of a 16-byte store.
    pub fn code(self) -> Vec<u8> {
        let mut code = self.instruction(&[]);
        code.push(0xc3);
        code.resize(self.length.before() + self.length.bytes().max(code.len()), 0xcc);
        code
    }

    /// The instruction whose varied bytes are these; the others are 0.
    pub fn instruction(self, varied: &[u8]) -> Vec<u8> {
        let mut bytes = self.length.opcode().to_vec();
        bytes.extend_from_slice(varied);
        bytes.resize(self.length.instruction(), 0);
        bytes
    }

    /// Offset of the first stored byte in the instruction, and how many of the stored bytes are part of it.
    pub fn stored(self) -> (usize, usize) {
        let start = self.length.before();
        (start, self.length.bytes().min(self.length.instruction() - start))
    }

    /// Every place: each length at offsets about every boundary of a line, and across pages; halves with each boundary
    /// between the two.
    pub fn all() -> Vec<Cell> {
        const ABOUT: [usize; 15] = [0, 3, 5, 7, 8, 13, 15, 24, 29, 31, 40, 57, 60, 61, 63];
        let mut cells = Vec::new();
        for length in Length::ALL.into_iter().filter(|length| !length.halves()) {
            cells.extend(ABOUT.map(|offset| Cell::in_line(length, offset)));
            let firsts = (1..=3).filter(|&first| first < length.bytes());
            cells.extend(firsts.map(|first| Cell::across_pages(length, first)));
        }
        cells.extend(Cell::few().into_iter().filter(|cell| cell.length.halves()));
        cells
    }

    /// Few places: for each length one for each boundary that its varied bytes can cross.
    pub fn few() -> Vec<Cell> {
        let mut cells = Vec::new();
        for length in Length::ALL {
            let first = length.bytes().div_ceil(2).min(3);
            let offsets = [8, 16, 32, LINE].map(|boundary| boundary - first);
            cells.push(Cell::in_line(length, 0));
            if length.bytes() > 1 {
                cells.extend(offsets.map(|offset| Cell::in_line(length, offset)));
                cells.push(Cell::across_pages(length, first));
            }
        }
        cells
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_store_crosses_follows_from_its_ends() {
        let crosses = |length, offset| Cell::in_line(length, offset).crosses();
        assert_eq!(crosses(Length::Eight, 0), Crosses::Nothing);
        assert_eq!(crosses(Length::Four, 5), Crosses::Quadword);
        assert_eq!(crosses(Length::Two, 15), Crosses::Bytes16);
        assert_eq!(crosses(Length::Five, 29), Crosses::Bytes32);
        assert_eq!(crosses(Length::Two, 63), Crosses::Line);
        assert_eq!(crosses(Length::One, 63), Crosses::Nothing);
        assert_eq!(Cell::across_pages(Length::Four, 1).crosses(), Crosses::Page);
        // The boundary lies before the first byte that varies.
        assert_eq!(crosses(Length::Five, 63), Crosses::Nothing);
        assert!(!Cell::in_line(Length::Four, 5).amd_promises_whole());
        assert!(!Cell::in_line(Length::Five, 0).amd_promises_whole());
        assert!(!Cell::in_line(Length::Sixteen, 0).amd_promises_whole());
    }

    #[test]
    fn few_places_have_every_boundary_at_every_length_but_one() {
        for length in Length::ALL.into_iter().filter(|length| length.bytes() > 1) {
            let mut seen: Vec<Crosses> =
                Cell::few().into_iter().filter(|cell| cell.length == length).map(Cell::crosses).collect();
            seen.sort_unstable();
            seen.dedup();
            assert!(
                seen.ends_with(&[Crosses::Bytes16, Crosses::Bytes32, Crosses::Line, Crosses::Page]),
                "{length:?}: {seen:?}"
            );
        }
    }

    #[test]
    fn halves_meet_at_the_boundary() {
        for cell in Cell::all().into_iter().filter(|cell| cell.length.halves()) {
            let [first, second] = [cell.store, cell.store + 2].map(|half| crosses(half, 2));
            assert_eq!((first, second), (Crosses::Nothing, Crosses::Nothing), "{cell:?}");
            let boundary = if cell.offset() == 0 { Crosses::Nothing } else { crosses(cell.store + 1, 2) };
            assert_eq!(cell.crosses(), boundary, "{cell:?}");
        }
    }

    #[test]
    fn the_site_is_what_the_writer_stores() {
        for cell in Cell::all() {
            let (code, (start, len)) = (cell.code(), cell.stored());
            assert_eq!(cell.site() + start, cell.store);
            assert!(code.len() >= start + cell.length.bytes() && len <= cell.length.bytes(), "{cell:?}");
            assert_eq!(code[cell.length.instruction()], 0xc3);
            assert!(cell.site() + code.len() <= 2 * PAGE);
        }
        assert_eq!(Cell::in_line(Length::Sixteen, 0).code()[..3], [0x48, 0xb8, 0]);
        let varied: Vec<usize> = Length::ALL.into_iter().map(Length::varied).collect();
        assert_eq!(varied, [1, 2, 4, 4, 8, 8, 4, 4, 4]);
    }
}
