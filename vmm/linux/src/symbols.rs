//! Names of addresses.

use crate::read::elf;

/// A symbol with a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Symbol {
    /// Its address.
    pub address: u64,
    /// Bytes, 0 if unknown: kallsyms does not tell.
    pub size: u64,
    /// Order among symbols of one address: what names the code or the object comes first.
    rank: (bool, bool, usize),
    /// Its name.
    pub name: String,
}

/// All symbols of an image.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Symbols {
    ordered: Vec<Symbol>,
}

/// Symbols of linker scripts that share an address with a function or an object (include/asm-generic/vmlinux.lds.h).
const MARKERS: [&str; 16] = [
    "_text",
    "_stext",
    "_etext",
    "_sinittext",
    "_einittext",
    "_sdata",
    "_edata",
    "__irqentry_text_start",
    "__softirqentry_text_start",
    "__entry_text_start",
    "__noinstr_text_start",
    "__sched_text_start",
    "__cpuidle_text_start",
    "__lock_text_start",
    "__kprobes_text_start",
    "__static_call_text_start",
];

fn rank(name: &str, local: bool) -> (bool, bool, usize) {
    let marker = ["__start_", "__stop_", "__pfx_"].iter().any(|prefix| name.starts_with(prefix));
    (marker || MARKERS.contains(&name), local, name.len())
}

/// The lowest address of x86-64 kernel text and modules (Documentation/arch/x86/x86_64/mm.rst).
const LOWEST: u64 = 0xffff_ffff_8000_0000;

impl Symbols {
    fn new(mut ordered: Vec<Symbol>) -> Symbols {
        ordered.retain(|symbol| symbol.address >= LOWEST && !symbol.name.is_empty());
        ordered.sort_by(|a, b| (a.address, a.rank, &a.name).cmp(&(b.address, b.rank, &b.name)));
        Symbols { ordered }
    }

    /// From kallsyms: address, kind as in nm(1), name. Absolute values are no places.
    pub fn of_kallsyms(entries: Vec<(u64, char, String)>) -> Symbols {
        let symbol = |(address, kind, name): (u64, char, String)| {
            let rank = rank(&name, kind.is_ascii_lowercase());
            (!matches!(kind, 'a' | 'A')).then_some(Symbol { address, size: 0, rank, name })
        };
        Symbols::new(entries.into_iter().filter_map(symbol).collect())
    }

    /// From a symbol table whose values are addresses.
    pub fn of_elf(symbols: Vec<elf::Symbol>) -> Symbols {
        let symbol = |symbol: elf::Symbol| {
            // Sections (3) and files (4) name no places.
            let named = !matches!(symbol.kind, 3 | 4) && matches!(symbol.section, elf::Place::Section(_));
            let rank = rank(&symbol.name, symbol.local);
            named.then_some(Symbol { address: symbol.value, size: symbol.size, rank, name: symbol.name })
        };
        Symbols::new(symbols.into_iter().filter_map(symbol).collect())
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.ordered.is_empty()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.ordered.len()
    }

    /// The address of a name.
    pub fn address(&self, name: &str) -> Option<u64> {
        self.ordered.iter().find(|symbol| symbol.name == name).map(|symbol| symbol.address)
    }

    /// The symbol that an address belongs to: the best of those at the nearest address that is not above it.
    pub fn containing(&self, address: u64) -> Option<&Symbol> {
        let above = self.ordered.partition_point(|symbol| symbol.address <= address);
        let nearest = self.ordered[..above].last()?.address;
        self.ordered.get(self.ordered.partition_point(|symbol| symbol.address < nearest))
    }

    /// All names of an address.
    pub fn names(&self, address: u64) -> impl Iterator<Item = &str> {
        let first = self.ordered.partition_point(|symbol| symbol.address < address);
        let here = self.ordered[first..].iter().take_while(move |symbol| symbol.address == address);
        here.map(|symbol| symbol.name.as_str())
    }

    /// The next address above that has a symbol.
    pub fn next(&self, address: u64) -> Option<u64> {
        let above = self.ordered.partition_point(|symbol| symbol.address <= address);
        self.ordered.get(above).map(|symbol| symbol.address)
    }

    /// `name+0x12`.
    pub fn label(&self, address: u64) -> String {
        match self.containing(address) {
            Some(symbol) => format!("{}+{:#x}", symbol.name, address - symbol.address),
            None => format!("{address:#x}"),
        }
    }

    /// The addresses of all symbols from one address to another, each once, in order.
    pub fn starts(&self, from: u64, to: u64) -> impl Iterator<Item = u64> + '_ {
        let low = self.ordered.partition_point(|symbol| symbol.address < from);
        let mut last = None;
        self.ordered[low..]
            .iter()
            .map(|symbol| symbol.address)
            .take_while(move |address| *address < to)
            .filter(move |address| last.replace(*address) != Some(*address))
    }

    /// Where names that a pattern matches begin: a whole name, or with `*` at either end a part of one.
    pub fn matching<'a>(&'a self, pattern: &'a str) -> impl Iterator<Item = &'a Symbol> + 'a {
        self.ordered.iter().filter(move |symbol| matches(pattern, &symbol.name))
    }
}

/// A name against a pattern: `kfree`, `kfree*`, `*sched*`.
pub fn matches(pattern: &str, name: &str) -> bool {
    match (pattern.strip_prefix('*'), pattern.strip_suffix('*')) {
        (None, None) => name == pattern,
        (Some(end), None) => name.ends_with(end),
        (None, Some(start)) => name.starts_with(start),
        (Some(_), Some(_)) => name.contains(pattern.trim_matches('*')),
    }
}
