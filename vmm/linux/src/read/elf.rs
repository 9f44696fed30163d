//! Reads the parts of ELF that kernels and modules use, with every bound checked.
//!
//! Only 64-bit little-endian x86-64 is supported (System V ABI, chapters 4 and 5; AMD64 supplement, 4.4). Names are cut
//! at [`limits::NAME`] bytes, so that no file makes the reader scan its string table repeatedly.

use std::ops::Range;

use crate::error::ImageError;
use crate::limits;
use crate::symbols;

/// `sh_type` of a symbol table.
const SYMTAB: u32 = 2;
/// `sh_type` of relocations with addends, the only ones that x86-64 uses.
const RELA: u32 = 4;
/// `sh_type` of a section without bytes in the file.
const NOBITS: u32 = 8;
const FLAG_ALLOC: u64 = 2;
const FLAG_EXECUTABLE: u64 = 4;
const LOAD: u32 = 1;

/// The type of a file (`e_type`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    /// Relocatable: a module.
    Relocatable,
    /// At its link addresses: a vmlinux.
    Linked,
}

/// A section header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    /// Its name.
    pub name: String,
    kind: u32,
    flags: u64,
    /// Link address; 0 in modules.
    pub address: u64,
    /// Position of its bytes in the file; empty if it has none.
    pub data: Range<usize>,
    /// Size in memory, in bytes.
    pub size: u64,
    /// `sh_link`: for symbols, the section with their names.
    link: usize,
    /// `sh_info`: for relocations, the section to which they apply.
    pub info: usize,
    /// Required alignment in bytes, at least 1.
    pub align: u64,
}

impl Section {
    /// True if it is in memory when the kernel runs.
    pub fn allocated(&self) -> bool {
        self.flags & FLAG_ALLOC != 0
    }

    /// True if it contains instructions.
    pub fn executable(&self) -> bool {
        self.flags & FLAG_EXECUTABLE != 0
    }

    /// True if it contains relocations.
    pub fn relocates(&self) -> bool {
        self.kind == RELA
    }
}

/// A symbol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Symbol {
    /// Its name.
    pub name: String,
    /// The section that defines it.
    pub section: SectionIndex,
    /// Address; in modules, the offset in its section.
    pub value: u64,
    /// Size in bytes, 0 if unknown.
    pub size: u64,
    /// True if it is not visible outside its file.
    pub local: bool,
    /// `st_info & 15`: 1 object, 2 function, 3 section, 4 file.
    pub kind: u8,
}

impl Symbol {
    /// The symbol as the name of an address. Sections (3), files (4) and absolute values name none.
    pub fn named(self) -> Option<symbols::Symbol> {
        let named = !matches!(self.kind, 3 | 4) && matches!(self.section, SectionIndex::Defined(_));
        named.then(|| symbols::Symbol::new(self.name, self.value, self.size, self.local))
    }
}

/// The section that defines a symbol (`st_shndx`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SectionIndex {
    /// Another file defines the symbol.
    Undefined,
    /// The value is not an address.
    Absolute,
    /// A section of this file.
    Defined(usize),
}

/// A relocation with an addend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Relocation {
    /// Offset in the section to which it applies.
    pub offset: u64,
    /// Type: `R_X86_64_...`.
    pub kind: u32,
    /// Index of the symbol.
    pub symbol: usize,
    /// The addend.
    pub addend: i64,
}

/// A parsed file.
#[derive(Debug)]
pub struct Elf<'a> {
    bytes: &'a [u8],
    /// Its type.
    pub kind: FileKind,
    /// Its sections.
    pub sections: Vec<Section>,
    /// Loadable segments, for files without sections: address, position in the file, executable.
    pub segments: Vec<(u64, Range<usize>, bool)>,
}

fn int<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.first_chunk::<N>().copied()
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    int(bytes, at).map(u16::from_le_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    int(bytes, at).map(u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    int(bytes, at).map(u64::from_le_bytes)
}

/// A range of the file; `None` if it exceeds the file.
fn range(bytes: &[u8], offset: u64, size: u64) -> Option<Range<usize>> {
    let start = usize::try_from(offset).ok()?;
    let end = start.checked_add(usize::try_from(size).ok()?)?;
    (end <= bytes.len()).then_some(start..end)
}

/// A string of a string table.
fn string(table: &[u8], at: usize) -> String {
    let rest = table.get(at..).unwrap_or_default();
    let rest = &rest[..rest.len().min(limits::NAME)];
    let end = rest.iter().position(|byte| *byte == 0).unwrap_or(rest.len());
    String::from_utf8_lossy(&rest[..end]).into_owned()
}

impl<'a> Elf<'a> {
    /// Reads the headers.
    ///
    /// # Errors
    ///
    /// If the file is not ELF for x86-64, or a header points outside it.
    pub fn parse(bytes: &'a [u8]) -> Result<Elf<'a>, ImageError> {
        let wrong = |reason: String| {
            Err(ImageError::new("ELF header", reason, "pass a vmlinux, a bzImage or a module for x86-64"))
        };
        if !bytes.starts_with(b"\x7fELF") {
            return wrong("it is not an ELF file".into());
        }
        let header = bytes.get(..64).ok_or_else(|| {
            ImageError::damaged("ELF header", format!("the file ends at byte {}", bytes.len()))
        })?;
        if header[4..6] != [2, 1] {
            return wrong("it is not 64-bit and little-endian".into());
        }
        let field = |at: usize| u16_at(header, at).unwrap_or_default();
        if field(18) != 62 {
            return wrong(format!("it is for machine {} instead of 62, x86-64", field(18)));
        }
        let kind = match field(16) {
            1 => FileKind::Relocatable,
            2 | 3 => FileKind::Linked,
            other => return wrong(format!("its type {other} is neither relocatable nor executable")),
        };
        let mut elf = Elf { bytes, kind, sections: Vec::new(), segments: Vec::new() };
        elf.read_sections(u64_at(header, 0x28).unwrap_or_default(), field(0x3a), field(0x3c), field(0x3e))?;
        elf.read_segments(u64_at(header, 0x20).unwrap_or_default(), field(0x36), field(0x38));
        Ok(elf)
    }

    fn read_sections(&mut self, offset: u64, size: u16, count: u16, names: u16) -> Result<(), ImageError> {
        let place = "section headers";
        if offset == 0 {
            return Ok(());
        }
        if size != 64 {
            return Err(ImageError::damaged(place, format!("an entry has {size} bytes instead of 64")));
        }
        let at = |index: usize| usize::try_from(offset).ok()?.checked_add(index * 64);
        // The first header holds the number of sections if it exceeds 0xff00 (System V ABI, chapter 4).
        let first = at(0);
        let (count, names) = if count == 0 {
            let word = |field| first.and_then(|at| u64_at(self.bytes, at + field));
            (
                word(32).unwrap_or_default(),
                first.and_then(|at| u32_at(self.bytes, at + 40)).unwrap_or_default(),
            )
        } else {
            (u64::from(count), u32::from(names))
        };
        if count as usize > limits::SECTIONS {
            return Err(ImageError::damaged(place, format!("it has {count} sections, more than any kernel")));
        }
        let headers =
            range(self.bytes, offset, count * 64).map(|range| &self.bytes[range]).ok_or_else(|| {
                ImageError::damaged(
                    place,
                    format!("{count} headers at byte {offset} exceed the file's {} bytes", self.bytes.len()),
                )
            })?;
        let mut name_offsets = Vec::new();
        for (index, header) in headers.chunks_exact(64).enumerate() {
            let (word, long) =
                (|at| u32_at(header, at).unwrap_or_default(), |at| u64_at(header, at).unwrap_or_default());
            let (kind, offset, size) = (word(4), long(24), long(32));
            let data = if kind == NOBITS || index == 0 {
                0..0
            } else {
                range(self.bytes, offset, size).ok_or_else(|| {
                    ImageError::damaged(
                        format!("section {index}"),
                        format!("its {size} bytes at byte {offset} exceed the file's {}", self.bytes.len()),
                    )
                })?
            };
            name_offsets.push(word(0) as usize);
            self.sections.push(Section {
                name: String::new(),
                kind,
                flags: long(8),
                address: long(16),
                data,
                size,
                link: word(40) as usize,
                info: word(44) as usize,
                align: long(48).max(1),
            });
        }
        let Some(table) = self.sections.get(names as usize).map(|section| section.data.clone()) else {
            return Err(ImageError::damaged(
                place,
                format!("their names are in section {names}, which does not exist"),
            ));
        };
        for (section, at) in self.sections.iter_mut().zip(name_offsets) {
            section.name = string(&self.bytes[table.clone()], at);
        }
        Ok(())
    }

    /// Segments are only used if there are no sections, so a malformed one is skipped.
    fn read_segments(&mut self, offset: u64, size: u16, count: u16) {
        let length = u64::from(size) * u64::from(count);
        let Some(headers) = range(self.bytes, offset, length).filter(|_| size >= 56) else { return };
        for header in self.bytes[headers].chunks_exact(usize::from(size)) {
            let long = |at| u64_at(header, at).unwrap_or_default();
            if u32_at(header, 0) == Some(LOAD)
                && let Some(data) = range(self.bytes, long(8), long(32))
            {
                self.segments.push((long(16), data, u32_at(header, 4).unwrap_or_default() & 1 != 0));
            }
        }
    }

    /// The bytes of a section.
    pub fn data(&self, section: &Section) -> &'a [u8] {
        self.bytes.get(section.data.clone()).unwrap_or_default()
    }

    /// The symbol table; empty if the file is stripped.
    ///
    /// # Errors
    ///
    /// If it is malformed or exceeds [`limits::SYMBOLS`].
    pub fn symbols(&self) -> Result<Vec<Symbol>, ImageError> {
        let Some(table) = self.sections.iter().find(|section| section.kind == SYMTAB) else {
            return Ok(Vec::new());
        };
        let place = format!("section {}", table.name);
        let names = self.sections.get(table.link).map(|section| self.data(section)).ok_or_else(|| {
            ImageError::damaged(
                &place,
                format!("its names are in section {}, which does not exist", table.link),
            )
        })?;
        let data = self.data(table);
        if data.len() / 24 > limits::SYMBOLS {
            return Err(ImageError::damaged(
                place,
                format!("it has {} symbols, more than any kernel", data.len() / 24),
            ));
        }
        Ok(data
            .chunks_exact(24)
            .map(|entry| {
                let info = entry[4];
                let index = u16_at(entry, 6).unwrap_or_default();
                Symbol {
                    name: string(names, u32_at(entry, 0).unwrap_or_default() as usize),
                    section: match index {
                        0 => SectionIndex::Undefined,
                        0xff00.. => SectionIndex::Absolute,
                        index => SectionIndex::Defined(usize::from(index)),
                    },
                    value: u64_at(entry, 8).unwrap_or_default(),
                    size: u64_at(entry, 16).unwrap_or_default(),
                    local: info >> 4 == 0,
                    kind: info & 15,
                }
            })
            .collect())
    }

    /// The relocations in a section.
    pub fn relocations(&self, section: &Section) -> impl Iterator<Item = Relocation> + use<'a> {
        self.data(section).chunks_exact(24).map(|entry| {
            let info = u64_at(entry, 8).unwrap_or_default();
            Relocation {
                offset: u64_at(entry, 0).unwrap_or_default(),
                kind: info as u32,
                symbol: (info >> 32) as usize,
                addend: u64_at(entry, 16).unwrap_or_default() as i64,
            }
        })
    }
}
