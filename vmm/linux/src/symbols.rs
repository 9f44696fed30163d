//! Symbols: names of addresses.

use std::collections::HashSet;
use std::sync::LazyLock;

/// A symbol with an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Symbol {
    /// Its address.
    pub address: u64,
    /// Size in bytes, 0 if unknown, as for kallsyms.
    pub size: u64,
    /// Order among symbols of one address: the name of the function or object comes first.
    rank: (bool, bool, usize),
    /// Its name.
    pub name: String,
}

/// All symbols of an image.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Symbols {
    ordered: Vec<Symbol>,
}

/// Symbols of linker scripts, which share their address with a function or object (include/asm-generic/vmlinux.lds.h).
static MARKERS: LazyLock<HashSet<&str>> = LazyLock::new(|| {
    let names = "_text _stext _etext _sinittext _einittext _sdata _edata __irqentry_text_start \
                 __softirqentry_text_start __entry_text_start __noinstr_text_start __sched_text_start \
                 __cpuidle_text_start __lock_text_start __kprobes_text_start __static_call_text_start";
    names.split(' ').collect()
});

fn rank(name: &str, local: bool) -> (bool, bool, usize) {
    let marker = ["__start_", "__stop_", "__pfx_"].iter().any(|prefix| name.starts_with(prefix));
    (marker || MARKERS.contains(name), local, name.len())
}

/// The lowest address of x86-64 kernel text and modules (Documentation/arch/x86/x86_64/mm.rst).
const LOWEST: u64 = 0xffff_ffff_8000_0000;

impl Symbol {
    /// A symbol; `local` if it is not visible outside its file.
    pub fn new(name: String, address: u64, size: u64, local: bool) -> Symbol {
        Symbol { address, size, rank: rank(&name, local), name }
    }
}

impl FromIterator<Symbol> for Symbols {
    /// Keeps the symbols that have a name and a kernel address.
    fn from_iter<I: IntoIterator<Item = Symbol>>(symbols: I) -> Symbols {
        let kept = |symbol: &Symbol| symbol.address >= LOWEST && !symbol.name.is_empty();
        let mut ordered: Vec<Symbol> = symbols.into_iter().filter(kept).collect();
        ordered.sort_by(|a, b| (a.address, a.rank, &a.name).cmp(&(b.address, b.rank, &b.name)));
        Symbols { ordered }
    }
}

impl Symbols {
    /// True if there are no symbols.
    pub fn is_empty(&self) -> bool {
        self.ordered.is_empty()
    }

    /// Number of symbols.
    pub fn len(&self) -> usize {
        self.ordered.len()
    }

    /// The address of a name.
    pub fn address(&self, name: &str) -> Option<u64> {
        self.ordered.iter().find(|symbol| symbol.name == name).map(|symbol| symbol.address)
    }

    /// The symbol that contains an address: the best name at the nearest address at or below it.
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

    /// The next higher address that has a symbol.
    pub fn next(&self, address: u64) -> Option<u64> {
        let above = self.ordered.partition_point(|symbol| symbol.address <= address);
        self.ordered.get(above).map(|symbol| symbol.address)
    }

    /// Symbol and offset, as in `name+0x12`.
    pub fn label(&self, address: u64) -> String {
        match self.containing(address) {
            Some(symbol) => format!("{}+{:#x}", symbol.name, address - symbol.address),
            None => format!("{address:#x}"),
        }
    }

    /// The distinct addresses of the symbols in a range, in order.
    pub fn starts(&self, from: u64, to: u64) -> impl Iterator<Item = u64> + '_ {
        let low = self.ordered.partition_point(|symbol| symbol.address < from);
        let mut last = None;
        self.ordered[low..]
            .iter()
            .map(|symbol| symbol.address)
            .take_while(move |address| *address < to)
            .filter(move |address| last.replace(*address) != Some(*address))
    }

    /// The symbols whose name matches a pattern.
    pub fn matching<'a>(&'a self, pattern: &'a str) -> impl Iterator<Item = &'a Symbol> + 'a {
        self.ordered.iter().filter(move |symbol| matches(pattern, &symbol.name))
    }
}

/// True if a name matches a pattern: a whole name, or with `*` at either end a part of one, as in `kfree*`.
pub fn matches(pattern: &str, name: &str) -> bool {
    match (pattern.strip_prefix('*'), pattern.strip_suffix('*')) {
        (None, None) => name == pattern,
        (Some(end), None) => name.ends_with(end),
        (None, Some(start)) => name.starts_with(start),
        (Some(_), Some(_)) => name.contains(pattern.trim_matches('*')),
    }
}
