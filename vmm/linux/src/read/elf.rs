//! Reads the parts of ELF that kernels and modules use, with every bound checked.
//!
//! Only 64-bit little-endian x86-64 is supported (System V ABI, chapters 4 and 5; AMD64 supplement, 4.4). Names are cut
//! at [`limits::NAME`] bytes, so that no file makes the reader scan its string table repeatedly.

use std::ops::Range;

use object::LittleEndian as LE;
use object::elf::{self, FileHeader64, ProgramHeader64, Rela64, SectionHeader64, Sym64};
use object::pod::{self, Pod};

use crate::error::ImageError;
use crate::limits;
use crate::memory::Region;
use crate::symbols;

/// A section.
#[derive(Debug, Clone)]
pub struct Section<'a> {
    /// Its name.
    pub name: String,
    /// Its header.
    pub header: &'a SectionHeader64<LE>,
    /// Position of its bytes in the file; empty if it has none.
    pub data: Range<usize>,
}

impl Section<'_> {
    /// True if it is in memory when the kernel runs.
    pub fn allocated(&self) -> bool {
        self.header.sh_flags.get(LE).contains(elf::SHF_ALLOC)
    }

    /// True if it contains instructions.
    pub fn executable(&self) -> bool {
        self.header.sh_flags.get(LE).contains(elf::SHF_EXECINSTR)
    }
}

/// A symbol with its name.
#[derive(Debug, Clone)]
pub struct Symbol<'a> {
    /// Its name.
    pub name: String,
    /// The rest; in modules, the value is an offset in the section.
    pub entry: &'a Sym64<LE>,
}

impl Symbol<'_> {
    /// The symbol as the name of an address. Sections and files name none.
    pub fn naming(self, address: u64) -> Option<symbols::Symbol> {
        let (size, local) = (self.entry.st_size.get(LE), self.entry.st_bind() == elf::STB_LOCAL);
        let names = !matches!(self.entry.st_type(), elf::STT_SECTION | elf::STT_FILE);
        names.then(|| symbols::Symbol::new(self.name, address, size, local))
    }
}

/// A parsed file.
#[derive(Debug)]
pub struct Elf<'a> {
    bytes: &'a [u8],
    /// True for a module, false for a vmlinux, which is at its link addresses.
    pub relocatable: bool,
    /// Its sections.
    pub sections: Vec<Section<'a>>,
    /// Loadable segments, for files without sections.
    pub segments: Vec<Region>,
}

/// A range of the file; `None` if it exceeds the file.
fn range(bytes: &[u8], offset: u64, size: u64) -> Option<Range<usize>> {
    let start = usize::try_from(offset).ok()?;
    let end = start.checked_add(usize::try_from(size).ok()?)?;
    (end <= bytes.len()).then_some(start..end)
}

/// The entries of a table, as many as are whole.
fn entries<T: Pod>(table: &[u8]) -> &[T] {
    pod::slice_from_bytes(table, table.len() / size_of::<T>()).map_or(&[], |(entries, _)| entries)
}

/// A string of a string table.
fn string(table: &[u8], at: u32) -> String {
    let rest = table.get(at as usize..).unwrap_or_default();
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
        if !bytes.starts_with(&elf::ELFMAG) {
            return wrong("it is not an ELF file".into());
        }
        let (header, _) = pod::from_bytes::<FileHeader64<LE>>(bytes).map_err(|()| {
            ImageError::damaged("ELF header", format!("the file ends at byte {}", bytes.len()))
        })?;
        if (header.e_ident.class, header.e_ident.data) != (elf::ELFCLASS64, elf::ELFDATA2LSB) {
            return wrong("it is not 64-bit and little-endian".into());
        }
        let machine = header.e_machine.get(LE);
        if machine != elf::EM_X86_64 {
            return wrong(format!("it is for machine {} instead of 62, x86-64", machine.0));
        }
        let relocatable = match header.e_type.get(LE) {
            elf::ET_REL => true,
            elf::ET_EXEC | elf::ET_DYN => false,
            other => return wrong(format!("its type {} is neither relocatable nor executable", other.0)),
        };
        let (sections, segments) = (sections(bytes, header)?, segments(bytes, header));
        Ok(Elf { bytes, relocatable, sections, segments })
    }

    /// The bytes of a section.
    pub fn data(&self, section: &Section<'_>) -> &'a [u8] {
        self.bytes.get(section.data.clone()).unwrap_or_default()
    }

    /// The symbol table; empty if the file is stripped.
    ///
    /// # Errors
    ///
    /// If it is malformed or exceeds [`limits::SYMBOLS`].
    pub fn symbols(&self) -> Result<Vec<Symbol<'a>>, ImageError> {
        let is_table = |section: &&Section<'_>| section.header.sh_type.get(LE) == elf::SHT_SYMTAB;
        let Some(table) = self.sections.iter().find(is_table) else { return Ok(Vec::new()) };
        let wrong = |reason| ImageError::damaged(format!("section {}", table.name), reason);
        let link = table.header.sh_link.get(LE);
        let names = self.sections.get(link as usize).map(|section| self.data(section));
        let names =
            names.ok_or_else(|| wrong(format!("its names are in section {link}, which does not exist")))?;
        let symbols: &[Sym64<LE>] = entries(self.data(table));
        if symbols.len() > limits::SYMBOLS {
            return Err(wrong(format!("it has {} symbols, more than any kernel", symbols.len())));
        }
        let named = symbols.iter().map(|entry| Symbol { name: string(names, entry.st_name.get(LE)), entry });
        Ok(named.collect())
    }

    /// The relocations in a section, with addends: x86-64 uses no others.
    pub fn relocations(&self, section: &Section<'_>) -> Option<&'a [Rela64<LE>]> {
        (section.header.sh_type.get(LE) == elf::SHT_RELA).then(|| entries(self.data(section)))
    }
}

fn sections<'a>(bytes: &'a [u8], header: &FileHeader64<LE>) -> Result<Vec<Section<'a>>, ImageError> {
    let wrong = |reason| ImageError::damaged("section headers", reason);
    let (offset, size) = (header.e_shoff.get(LE), header.e_shentsize.get(LE));
    if offset == 0 {
        return Ok(Vec::new());
    }
    if size != 64 {
        return Err(wrong(format!("an entry has {size} bytes instead of 64")));
    }
    let headers =
        |count: u64| Some(entries::<SectionHeader64<LE>>(&bytes[range(bytes, offset, count * 64)?]));
    // The first header holds the number of sections if it exceeds 0xff00 (System V ABI, chapter 4).
    let (count, names) = match header.e_shnum.get(LE) {
        0 => headers(1).map_or((0, 0), |first| (first[0].sh_size.get(LE), first[0].sh_link.get(LE))),
        count => (count.into(), header.e_shstrndx.get(LE).0.into()),
    };
    if count as usize > limits::SECTIONS {
        return Err(wrong(format!("it has {count} sections, more than any kernel")));
    }
    let headers = headers(count).ok_or_else(|| {
        wrong(format!("{count} headers at byte {offset} exceed the file's {} bytes", bytes.len()))
    })?;
    let mut sections = Vec::with_capacity(headers.len());
    for (index, header) in headers.iter().enumerate() {
        let (offset, size) = (header.sh_offset.get(LE), header.sh_size.get(LE));
        let empty = index == 0 || header.sh_type.get(LE) == elf::SHT_NOBITS;
        let data = if empty { Some(0..0) } else { range(bytes, offset, size) };
        let data = data.ok_or_else(|| {
            ImageError::damaged(
                format!("section {index}"),
                format!("its {size} bytes at byte {offset} exceed the file's {}", bytes.len()),
            )
        })?;
        sections.push(Section { name: String::new(), header, data });
    }
    let table = sections.get(names as usize).map(|section| &bytes[section.data.clone()]);
    let table =
        table.ok_or_else(|| wrong(format!("their names are in section {names}, which does not exist")))?;
    for section in &mut sections {
        section.name = string(table, section.header.sh_name.get(LE));
    }
    Ok(sections)
}

/// Segments are only used if there are no sections, so a malformed one is skipped.
fn segments(bytes: &[u8], header: &FileHeader64<LE>) -> Vec<Region> {
    let (size, count) = (header.e_phentsize.get(LE), header.e_phnum.get(LE));
    let all = range(bytes, header.e_phoff.get(LE), u64::from(size) * u64::from(count));
    let all = all.filter(|_| size >= 56).map_or(&[][..], |all| &bytes[all]);
    let segment = |raw| {
        let (segment, _) = pod::from_bytes::<ProgramHeader64<LE>>(raw).ok()?;
        let data = range(bytes, segment.p_offset.get(LE), segment.p_filesz.get(LE))?;
        let executable = segment.p_flags.get(LE).contains(elf::PF_X);
        let region = Region { name: "segment".into(), address: segment.p_vaddr.get(LE), data, executable };
        (segment.p_type.get(LE) == elf::PT_LOAD).then_some(region)
    };
    all.chunks_exact(usize::from(size).max(1)).filter_map(segment).collect()
}
