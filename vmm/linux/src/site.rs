//! A place that the kernel rewrites, as data.

use std::fmt;

/// Why a place is rewritten: the table that it stands in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A static key's branch: a NOP or a jump.
    JumpLabel,
    /// A call, jump or conditional jump whose target is exchanged.
    StaticCall,
    /// The call at a function's entry that ftrace makes a NOP and back.
    Mcount,
    /// Code that is exchanged at boot, by CPU feature.
    Alternative,
    /// A call into `pv_ops` that is exchanged at boot; in kernels before 6.8.
    Paravirt,
    /// A call or jump to an indirect thunk.
    Retpoline,
    /// A jump to the return thunk.
    Return,
    /// A call that may get call depth tracking; since 6.2.
    CallThunk,
    /// An ENDBR64 that nobody needs and that is sealed at boot.
    Endbr,
    /// A LOCK prefix that is exchanged when only one CPU runs.
    Lock,
}

impl Kind {
    /// All, in the order of reports.
    pub const ALL: [Kind; 10] = [
        Kind::JumpLabel,
        Kind::StaticCall,
        Kind::Mcount,
        Kind::Alternative,
        Kind::Paravirt,
        Kind::Retpoline,
        Kind::Return,
        Kind::CallThunk,
        Kind::Endbr,
        Kind::Lock,
    ];

    /// Its name, in reports and filters.
    pub fn name(self) -> &'static str {
        match self {
            Kind::JumpLabel => "jump-label",
            Kind::StaticCall => "static-call",
            Kind::Mcount => "mcount",
            Kind::Alternative => "alternative",
            Kind::Paravirt => "paravirt",
            Kind::Retpoline => "retpoline",
            Kind::Return => "return",
            Kind::CallThunk => "call-thunk",
            Kind::Endbr => "endbr",
            Kind::Lock => "lock",
        }
    }

    /// The kind with a name.
    pub fn of(name: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.name())
    }
}

/// What stands at a site: the sort of its first instruction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// A NOP, in any of its forms.
    Nop,
    /// A direct jump.
    Jmp,
    /// A conditional jump.
    Jcc,
    /// A direct call.
    Call,
    /// A jump or call through a register or memory.
    Indirect,
    /// A return.
    Ret,
    /// `xor eax, eax` behind prefixes, what stands for a function that returns 0.
    Zero,
    /// ENDBR64.
    Endbr,
    /// A LOCK prefix.
    Lock,
    /// Anything else.
    Code,
}

impl State {
    /// All, in the order of reports.
    pub const ALL: [State; 10] = [
        State::Nop,
        State::Jmp,
        State::Jcc,
        State::Call,
        State::Indirect,
        State::Ret,
        State::Zero,
        State::Endbr,
        State::Lock,
        State::Code,
    ];

    /// The state that these bytes are.
    pub fn of(bytes: &[u8]) -> State {
        // -mindirect-branch-cs-prefix puts a CS prefix before what may later need six bytes.
        let plain = match bytes {
            [0x2e, rest @ ..] if rest.first() != Some(&0x2e) => rest,
            _ => bytes,
        };
        match plain {
            [0x90, ..] | [0x66, 0x90, ..] | [0x0f, 0x1f, ..] | [0x66, 0x0f, 0x1f, ..] => State::Nop,
            [0x66, 0x66, 0x66, 0x66, 0x90] | [0x3e, 0x8d, 0x74, 0x26, 0x00] => State::Nop,
            [0xe9 | 0xeb, ..] => State::Jmp,
            [0x70..=0x7f, ..] | [0x0f, 0x80..=0x8f, ..] => State::Jcc,
            [0xe8, ..] => State::Call,
            // A REX prefix names one of the newer registers.
            [0xff, modrm, ..] | [0x40..=0x4f, 0xff, modrm, ..] if matches!(modrm >> 3 & 7, 2 | 4) => {
                State::Indirect
            }
            [0xc3, ..] => State::Ret,
            [0x2e, 0x2e, 0x2e, 0x31, 0xc0] => State::Zero,
            [0xf3, 0x0f, 0x1e, 0xfa, ..] => State::Endbr,
            [0xf0] => State::Lock,
            _ => State::Code,
        }
    }

    /// Its name, in reports and filters.
    pub fn name(self) -> &'static str {
        match self {
            State::Nop => "nop",
            State::Jmp => "jmp",
            State::Jcc => "jcc",
            State::Call => "call",
            State::Indirect => "indirect",
            State::Ret => "ret",
            State::Zero => "xor",
            State::Endbr => "endbr",
            State::Lock => "lock",
            State::Code => "code",
        }
    }
}

/// The blocks whose boundaries a site may cross, in bytes: what one store writes at once (8), fetch blocks of
/// various CPUs (16, 32), the cache line and the page.
pub const BOUNDARIES: [u64; 5] = [8, 16, 32, 64, 4096];

/// A patch site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site {
    /// Why it is patched.
    pub kind: Kind,
    /// Link address, or address after the layout of a module.
    pub address: u64,
    /// What is in the file. Its length is that of what the kernel rewrites: the instruction, except for alternatives
    /// (all that may be replaced) and lock prefixes (one byte).
    pub bytes: Vec<u8>,
    /// The other version, where the image tells it, as long as `bytes`: the other state of a jump label; what
    /// `static_call_init()` makes of a static call at boot; the NOP that ftrace makes of a call; the replacement of an
    /// alternative, as `apply_alternatives()` puts it there; what the kernel's patching code makes of the other kinds.
    pub other: Option<Vec<u8>>,
    /// Where its branch goes, in one version or the other.
    pub target: Option<u64>,
    /// Its static key or static call key.
    pub key: Option<u64>,
    /// A static call in tail position.
    pub tail: bool,
    /// For alternatives: the CPU feature (word × 32 + bit) in the low half, flags above.
    pub feature: Option<u32>,
}

impl Site {
    /// Bytes that are rewritten.
    pub fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// Never: a site has at least a byte.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The first address behind it.
    pub fn end(&self) -> u64 {
        self.address.saturating_add(self.len())
    }

    /// True if it lies on both sides of a multiple of `boundary`, in bytes.
    pub fn crosses(&self, boundary: u64) -> bool {
        self.address / boundary != (self.end() - 1) / boundary
    }

    /// The largest of [`BOUNDARIES`] that it crosses.
    pub fn crossing(&self) -> Option<u64> {
        BOUNDARIES.into_iter().rev().find(|boundary| self.crosses(*boundary))
    }

    /// How many of its bytes lie before the boundary that [`crossing`](Site::crossing) names.
    pub fn split(&self) -> Option<u64> {
        self.crossing().map(|boundary| boundary - self.address % boundary)
    }

    /// What stands there in the file.
    pub fn state(&self) -> State {
        State::of(&self.bytes)
    }
}

/// An instruction that may fault, and where the kernel goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Exception {
    /// The instruction.
    pub address: u64,
    /// Where to.
    pub fixup: u64,
}
