//! Kernels and modules made up for tests: ELF files with the tables, the kallsyms and the packing of real ones.

use std::collections::BTreeMap;

/// Where code begins.
pub const TEXT: u64 = 0xffff_ffff_8100_0000;
const RODATA: u64 = 0xffff_ffff_8300_0000;
const NAMED: u64 = 0xffff_ffff_8400_0000;
const DATA: u64 = 0xffff_ffff_8500_0000;

/// A kernel to be.
#[derive(Clone, Default)]
pub struct Kernel {
    /// Tables and kallsyms as 6.12 has them, not as 6.1.
    pub newer: bool,
    /// With a symbol table.
    pub unstripped: bool,
    pub text: Vec<u8>,
    pub symbols: Vec<(u64, char, String)>,
    /// Code, target, key.
    pub labels: Vec<(u64, u64, u64)>,
    /// Code, key, tail.
    pub calls: Vec<(u64, u64, bool)>,
    pub mcount: Vec<u64>,
    /// Code, replacement, feature, bytes, bytes of the replacement.
    pub alternatives: Vec<(u64, u64, u16, u8, u8)>,
    /// The alternatives replace calls through pointers.
    pub direct_calls: bool,
    /// Code, bytes.
    pub paravirt: Vec<(u64, u8)>,
    /// By section: what each entry points to.
    pub pointers: BTreeMap<&'static str, Vec<u64>>,
    /// Instruction, fixup.
    pub exceptions: Vec<(u64, u64)>,
    /// Words in data: what keys begin with.
    pub words: Vec<(u64, u64)>,
}

impl Kernel {
    /// One alternative of 43 bytes: a jump over NOPs becomes moves of five bytes, the last of which that ends within the
    /// 32 bytes of a scenario's site ends at 30.
    pub fn long() -> Kernel {
        let mut kernel = Kernel::default();
        kernel.symbol(TEXT, 'T', "function");
        kernel.code(TEXT + 0x100, &[&[0xeb, 41][..], &[0x90; 41]].concat());
        kernel.code(TEXT + 0x900, &[0xb9, 1, 2, 3, 4].repeat(8));
        kernel.code(TEXT + 0x940, &[0xc3]);
        kernel.alternatives.push((TEXT + 0x100, TEXT + 0x900, 1, 43, 40));
        kernel
    }

    /// Puts code at an address; what is in between becomes NOPs.
    pub fn code(&mut self, address: u64, bytes: &[u8]) {
        let at = (address - TEXT) as usize;
        if self.text.len() < at + bytes.len() {
            self.text.resize(at + bytes.len(), 0x90);
        }
        self.text[at..at + bytes.len()].copy_from_slice(bytes);
    }

    pub fn symbol(&mut self, address: u64, kind: char, name: &str) {
        self.symbols.push((address, kind, name.to_owned()));
    }

    /// An address for a key; what it begins with is a function, or 0.
    pub fn key(&mut self, name: &str, function: u64) -> u64 {
        let address = DATA + 32 * self.words.len() as u64;
        self.words.push((address, function));
        self.symbol(address, 'D', name);
        address
    }

    /// The ELF file.
    pub fn elf(&self) -> Vec<u8> {
        let mut symbols = self.symbols.clone();
        let mut rodata = Vec::new();
        let mut sections: Vec<(&str, u64, u64, Vec<u8>)> = Vec::new();
        let banner = RODATA;
        rodata.extend(b"Linux version 6.0.0-synthetic (nobody@nowhere) #1 SMP\n\0");
        symbols.push((banner, 'D', "linux_banner".into()));
        let mut merged = |rodata: &mut Vec<u8>, start: &str, stop: &str, bytes: &dyn Fn(u64) -> Vec<u8>| {
            pad(rodata, 16);
            let address = RODATA + rodata.len() as u64;
            rodata.extend(bytes(address));
            symbols.push((address, 'D', start.into()));
            symbols.push((RODATA + rodata.len() as u64, 'D', stop.into()));
        };
        merged(&mut rodata, "__start___jump_table", "__stop___jump_table", &|at| self.jump_table(at));
        merged(&mut rodata, "__start_static_call_sites", "__stop_static_call_sites", &|at| {
            self.call_table(at)
        });
        merged(&mut rodata, "__start_mcount_loc", "__stop_mcount_loc", &|_| {
            let zeros = if self.newer { vec![0; 24] } else { Vec::new() };
            [zeros, self.mcount.iter().flat_map(|at| at.to_le_bytes()).collect()].concat()
        });
        symbols.sort();
        pad(&mut rodata, 8);
        rodata.extend(kallsyms(&symbols, self.newer));
        let mut next = NAMED;
        let mut named = |sections: &mut Vec<_>, name, bytes: &dyn Fn(u64) -> Vec<u8>| {
            let bytes = bytes(next);
            if !bytes.is_empty() {
                sections.push((name, next, 2, bytes));
            }
            next += 0x1_0000;
        };
        sections.push((".text", TEXT, 6, self.text.clone()));
        sections.push((".rodata", RODATA, 2, rodata));
        named(&mut sections, ".altinstructions", &|at| self.alternative_table(at));
        named(&mut sections, ".parainstructions", &|_| {
            let entry = |(code, length): &(u64, u8)| {
                [&code.to_le_bytes()[..], &[0, *length, 0, 0, 0, 0, 0, 0]].concat()
            };
            self.paravirt.iter().flat_map(entry).collect()
        });
        for (section, addresses) in &self.pointers {
            named(&mut sections, section, &|at| {
                let entry = |(index, to): (usize, &u64)| rel32(*to, at + 4 * index as u64);
                addresses.iter().enumerate().flat_map(entry).chain([0; 4]).collect()
            });
        }
        named(&mut sections, "__ex_table", &|at| {
            let entry = |(index, (code, fixup)): (usize, &(u64, u64))| {
                let at = at + 12 * index as u64;
                [rel32(*code, at), rel32(*fixup, at + 4), [1, 0, 0, 0]].concat()
            };
            self.exceptions.iter().enumerate().flat_map(entry).collect()
        });
        let words =
            self.words.iter().flat_map(|(_, word)| [word.to_le_bytes(), [0; 8], [0; 8], [0; 8]].concat());
        sections.push((".data", DATA, 3, words.collect()));
        elf(&sections, self.unstripped.then_some(&symbols[..]))
    }

    fn jump_table(&self, at: u64) -> Vec<u8> {
        let entry = |(index, (code, target, key)): (usize, &(u64, u64, u64))| {
            let at = at + 16 * index as u64;
            let key = key.wrapping_sub(at + 8).to_le_bytes();
            [&rel32(*code, at)[..], &rel32(*target, at + 4), &key].concat()
        };
        self.labels.iter().enumerate().flat_map(entry).collect()
    }

    fn call_table(&self, at: u64) -> Vec<u8> {
        let entry = |(index, (code, key, tail)): (usize, &(u64, u64, bool))| {
            let at = at + 8 * index as u64;
            [rel32(*code, at), rel32(key + u64::from(*tail), at + 4)].concat()
        };
        self.calls.iter().enumerate().flat_map(entry).collect()
    }

    fn alternative_table(&self, at: u64) -> Vec<u8> {
        let size = if self.newer { 14 } else { 12 };
        let entry = |(index, (code, to, feature, length, short)): (usize, &(u64, u64, u16, u8, u8))| {
            let at = at + size * index as u64;
            let flags: &[u8] = if self.newer { &[u8::from(self.direct_calls) << 1, 0] } else { &[] };
            [&rel32(*code, at)[..], &rel32(*to, at + 4), &feature.to_le_bytes(), flags, &[*length, *short]]
                .concat()
        };
        self.alternatives.iter().enumerate().flat_map(entry).collect()
    }
}

fn rel32(to: u64, at: u64) -> [u8; 4] {
    (to.wrapping_sub(at) as i32).to_le_bytes()
}

fn pad(bytes: &mut Vec<u8>, to: usize) {
    bytes.resize(bytes.len().next_multiple_of(to), 0);
}

/// `opcode` with a displacement to `to`, at `at`.
pub fn branch(opcode: u8, at: u64, to: u64) -> Vec<u8> {
    [&[opcode][..], &rel32(to, at + 5)].concat()
}

fn kallsyms(symbols: &[(u64, char, String)], newer: bool) -> Vec<u8> {
    let tokens: Vec<String> = (0..=255u8)
        .map(|n| if n.is_ascii_graphic() { char::from(n).to_string() } else { format!("~{n}") })
        .collect();
    let (mut names, mut markers) = (Vec::new(), Vec::new());
    for (index, (_, kind, name)) in symbols.iter().enumerate() {
        if index % 256 == 0 {
            markers.extend((names.len() as u32).to_le_bytes());
        }
        let length = name.len() + 1;
        if length < 128 {
            names.push(length as u8);
        } else {
            names.extend([length as u8 | 0x80, (length >> 7) as u8]);
        }
        names.push(*kind as u8);
        names.extend(name.bytes());
    }
    let (mut table, mut index) = (Vec::new(), Vec::new());
    for token in &tokens {
        index.extend((table.len() as u16).to_le_bytes());
        table.extend(token.bytes().chain([0]));
    }
    // The base, less 1, plus what is negative.
    let base = TEXT;
    let offsets: Vec<u8> = symbols
        .iter()
        .flat_map(|(address, ..)| (base.wrapping_sub(1).wrapping_sub(*address) as i32).to_le_bytes())
        .collect();
    let number = (symbols.len() as u64).to_le_bytes().to_vec();
    let base = base.to_le_bytes().to_vec();
    let parts = if newer {
        [number, names, markers, table, index, offsets, base]
    } else {
        [offsets, base, number, names, markers, table, index]
    };
    let mut bytes = Vec::new();
    for part in parts {
        pad(&mut bytes, 8);
        bytes.extend(part);
    }
    bytes
}

/// Name, address, flags, contents.
type Section<'a> = (&'a str, u64, u64, Vec<u8>);

fn elf(sections: &[Section<'_>], symbols: Option<&[(u64, char, String)]>) -> Vec<u8> {
    let mut all: Vec<Header> = sections
        .iter()
        .map(|(name, address, flags, bytes)| ((*name).into(), 1, *flags, *address, bytes.clone(), 0, 0))
        .collect();
    if let Some(symbols) = symbols {
        let (mut table, mut strings) = (vec![0; 24], vec![0]);
        for (address, kind, name) in symbols {
            let info = (u8::from(kind.is_ascii_uppercase()) << 4)
                | if kind.eq_ignore_ascii_case(&'t') { 2 } else { 1 };
            let home = sections
                .iter()
                .position(|(_, start, _, bytes)| (*start..=start + bytes.len() as u64).contains(address));
            let home = home.map_or(0xfff1, |index| index as u16 + 1);
            table.extend((strings.len() as u32).to_le_bytes());
            table.extend([info, 0]);
            table.extend(home.to_le_bytes());
            table.extend(address.to_le_bytes());
            table.extend(0u64.to_le_bytes());
            strings.extend(name.bytes().chain([0]));
        }
        let link = all.len() as u32 + 2;
        all.push((".symtab".into(), 2, 0, 0, table, link, 0));
        all.push((".strtab".into(), 3, 0, 0, strings, 0, 0));
    }
    write_elf(2, &all)
}

/// Name, type, flags, address, contents, link, info.
type Header = (String, u32, u64, u64, Vec<u8>, u32, u32);

fn write_elf(kind: u16, sections: &[Header]) -> Vec<u8> {
    let mut strings = vec![0];
    let mut bytes = vec![0; 64];
    let mut headers = vec![0; 64];
    let mut all = sections.to_vec();
    all.push((".shstrtab".into(), 3, 0, 0, Vec::new(), 0, 0));
    let last = all.len();
    for (index, (name, kind, flags, address, contents, link, info)) in all.iter().enumerate() {
        let at = strings.len() as u32;
        strings.extend(name.bytes().chain([0]));
        let contents = if index + 1 == last { &strings } else { contents };
        pad(&mut bytes, 16);
        let offset = bytes.len() as u64;
        bytes.extend(contents);
        headers.extend(at.to_le_bytes());
        headers.extend(kind.to_le_bytes());
        for word in [*flags, *address, offset, contents.len() as u64] {
            headers.extend(word.to_le_bytes());
        }
        headers.extend(link.to_le_bytes());
        headers.extend(info.to_le_bytes());
        let align: u64 = if flags & 4 != 0 { 64 } else { 16 };
        headers.extend(align.to_le_bytes());
        headers.extend(24u64.to_le_bytes());
    }
    pad(&mut bytes, 16);
    let offset = bytes.len() as u64;
    bytes.extend(headers);
    bytes[..8].copy_from_slice(b"\x7fELF\x02\x01\x01\0");
    for (at, value) in
        [(16, kind), (18, 62), (0x34, 64), (0x3a, 64), (0x3c, last as u16 + 1), (0x3e, last as u16)]
    {
        bytes[at..at + 2].copy_from_slice(&value.to_le_bytes());
    }
    bytes[20] = 1;
    bytes[0x28..0x30].copy_from_slice(&offset.to_le_bytes());
    bytes
}

/// A kernel with at least one site of each kind, and a function around each.
pub fn sample(newer: bool) -> Kernel {
    let mut kernel = Kernel { newer, ..Kernel::default() };
    let at = |offset: u64| TEXT + offset;
    kernel.symbol(at(0), 'T', "_text");
    kernel.symbol(at(0), 'T', "first_function");
    kernel.code(at(0), &branch(0xe8, at(0), at(0x800)));
    kernel.mcount.push(at(0));
    // A jump label across a cache line, its target further down in the same function.
    kernel.code(at(0x3e), &[0x0f, 0x1f, 0x44, 0x00, 0x00]);
    let key = kernel.key("first_key", 0);
    kernel.labels.push((at(0x3e), at(0x80), key));
    // A short one, jumping.
    kernel.code(at(0x50), &[0xeb, 0x1e]);
    kernel.labels.push((at(0x50), at(0x70), key));
    kernel.code(at(0x90), &[0xe9]);
    kernel.code(at(0x90), &branch(0xe9, at(0x90), at(0x840)));
    kernel.symbol(at(0x100), 't', "second_function");
    // A static call across a quadword, and one in tail position.
    kernel.code(at(0x106), &branch(0xe8, at(0x106), at(0x820)));
    let key = kernel.key("__SCK__call", at(0x200));
    kernel.calls.push((at(0x106), key, false));
    kernel.code(at(0x110), &branch(0xe9, at(0x110), at(0x820)));
    let nothing = kernel.key("__SCK__nothing", 0);
    kernel.calls.push((at(0x110), nothing, true));
    kernel.code(at(0x11b), &branch(0xe8, at(0x11b), at(0x820)));
    let zero = kernel.key("__SCK__zero", at(0x860));
    kernel.calls.push((at(0x11b), zero, false));
    kernel.symbol(at(0x200), 'T', "third_function");
    // An alternative over several instructions, with a branch into it and a fault inside.
    kernel.code(at(0x200), &[0x48, 0x89, 0xc8, 0x48, 0x8b, 0x07, 0x90, 0x90]);
    kernel.alternatives.push((at(0x200), at(0x900), 0x127, 8, 3));
    kernel.code(at(0x20a), &[0xeb, 0xf7]);
    kernel.exceptions.push((at(0x203), at(0x230)));
    kernel.code(at(0x240), &[0xff, 0x15, 0x00, 0x10, 0x00, 0x00]);
    if newer {
        // What calls are counted with has ten bytes.
        let template = kernel.key("skl_call_thunk_template", 0);
        kernel.symbol(template + 10, 'D', "skl_call_thunk_tail");
    } else {
        kernel.key("pv_ops", at(0x840));
        kernel.paravirt.push((at(0x240), 6));
    }
    kernel.code(at(0x250), &branch(0xe8, at(0x250), at(0x880)));
    kernel.pointers.entry(".retpoline_sites").or_default().push(at(0x250));
    kernel.code(at(0x25d), &branch(0xe9, at(0x25d), at(0x8a0)));
    kernel.pointers.entry(".return_sites").or_default().push(at(0x25d));
    kernel.code(at(0x270), &[0xf0, 0xff, 0x07]);
    kernel.pointers.entry(".smp_locks").or_default().push(at(0x270));
    if newer {
        kernel.pointers.entry(".call_sites").or_default().push(at(0x250));
        kernel.code(at(0x280), &[0xf3, 0x0f, 0x1e, 0xfa]);
        kernel.pointers.entry(".ibt_endbr_seal").or_default().push(at(0x280));
    }
    for (offset, name) in [
        (0x300, "padding_follows"),
        (0x800, "__fentry__"),
        (0x820, "__SCT__call"),
        (0x840, "elsewhere"),
        (0x860, "__static_call_return0"),
        (0x880, "__x86_indirect_thunk_rax"),
        (0x8a0, "__x86_return_thunk"),
        (0x900, "replacement"),
    ] {
        kernel.symbol(at(offset), 'T', name);
    }
    kernel.code(at(0x900), &[0x31, 0xc0, 0x90]);
    kernel.code(at(0x940), &[0xc3]);
    kernel
}

/// A module with a jump label in a text section that does not begin on a page, and a key elsewhere.
pub fn module() -> Vec<u8> {
    let text = vec![0x90; 0x50];
    let mut hot = vec![0x90; 0x100];
    hot[0x2f..0x34].copy_from_slice(&[0x0f, 0x1f, 0x44, 0x00, 0x00]);
    let rela = |offset: u64, kind: u64, symbol: u64, addend: i64| {
        [offset.to_le_bytes(), (symbol << 32 | kind).to_le_bytes(), addend.to_le_bytes()].concat()
    };
    // Symbols: 1 the second text section, 2 a function in it, 3 a key that the kernel has.
    let relocations = [rela(0, 2, 1, 0x2f), rela(4, 2, 1, 0x80), rela(8, 24, 3, 0)].concat();
    let mut symbols = vec![0; 24];
    for (name, info, section, value) in [(0u32, 3u8, 2u16, 0u64), (1, 0x12, 2, 0x20), (10, 0x10, 0, 0)] {
        symbols.extend(name.to_le_bytes());
        symbols.extend([info, 0]);
        symbols.extend(section.to_le_bytes());
        symbols.extend(value.to_le_bytes());
        symbols.extend(0u64.to_le_bytes());
    }
    let strings = b"\0function\0some_key\0".to_vec();
    let info = b"license=GPL\0vermagic=6.0.0-synthetic SMP \0".to_vec();
    let section = |name: &str, kind, flags, bytes: Vec<u8>, link, info| {
        (name.to_owned(), kind, flags, 0, bytes, link, info)
    };
    write_elf(
        1,
        &[
            section(".text", 1, 6, text, 0, 0),
            section(".text.unlikely", 1, 6, hot, 0, 0),
            section("__jump_table", 1, 3, vec![0; 16], 0, 0),
            section(".rela__jump_table", 4, 0, relocations, 6, 3),
            section(".modinfo", 1, 2, info, 0, 0),
            section(".symtab", 2, 0, symbols, 7, 2),
            section(".strtab", 3, 0, strings, 0, 0),
        ],
    )
}

/// How a payload is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    Gzip,
    Bzip2,
    Lzma,
    Xz,
    Lz4,
    Zstd,
}

impl Packing {
    pub const ALL: [Packing; 6] =
        [Packing::Gzip, Packing::Bzip2, Packing::Lzma, Packing::Xz, Packing::Lz4, Packing::Zstd];

    pub fn pack(self, bytes: &[u8]) -> Vec<u8> {
        use std::io::Write;
        match self {
            Packing::Gzip => {
                let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                writer.write_all(bytes).expect("in memory");
                writer.finish().expect("in memory")
            }
            Packing::Bzip2 => {
                let mut writer = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
                writer.write_all(bytes).expect("in memory");
                writer.finish().expect("in memory")
            }
            Packing::Lzma => {
                // As `lzma -9` does it: no length, an end mark.
                let options = lzma_rust2::LzmaOptions::with_preset(1);
                let mut writer =
                    lzma_rust2::LzmaWriter::new_use_header(Vec::new(), &options, None).expect("in memory");
                writer.write_all(bytes).expect("in memory");
                writer.finish().expect("in memory")
            }
            Packing::Xz => {
                let mut options = lzma_rust2::XzOptions::with_preset(1);
                options.prepend_pre_filter(lzma_rust2::filter::FilterType::BcjX86, 0);
                let mut writer = lzma_rust2::XzWriter::new(Vec::new(), options).expect("in memory");
                writer.write_all(bytes).expect("in memory");
                writer.finish().expect("in memory")
            }
            Packing::Lz4 => {
                let mut packed = vec![0x02, 0x21, 0x4c, 0x18];
                for block in bytes.chunks(8 << 20) {
                    let block = lz4_flex::block::compress(block);
                    packed.extend((block.len() as u32).to_le_bytes());
                    packed.extend(block);
                }
                packed
            }
            Packing::Zstd => {
                ruzstd::encoding::compress_to_vec(bytes, ruzstd::encoding::CompressionLevel::Fastest)
            }
        }
    }
}

/// A bzImage around a kernel.
pub fn bzimage(kernel: &[u8], packing: Packing) -> Vec<u8> {
    let mut payload = packing.pack(kernel);
    if packing != Packing::Gzip {
        payload.extend((kernel.len() as u32).to_le_bytes());
    }
    let mut image = vec![0; 0x400];
    image[0x1f1] = 1;
    image[0x202..0x206].copy_from_slice(b"HdrS");
    image[0x206..0x208].copy_from_slice(&0x20fu16.to_le_bytes());
    let offset = 0x40u32;
    image[0x248..0x24c].copy_from_slice(&offset.to_le_bytes());
    image[0x24c..0x250].copy_from_slice(&(payload.len() as u32).to_le_bytes());
    image.resize(0x400 + offset as usize, 0xcc);
    image.extend(payload);
    image.extend([0xcc; 64]);
    image
}
