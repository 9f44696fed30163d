//! Patch sites as data.

use strum::{Display, IntoStaticStr, VariantArray};

/// The kind of a site: the table that lists it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Display, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "kebab-case")]
pub enum Kind {
    /// A static key's branch: a NOP or a jump.
    JumpLabel,
    /// A call, jump or conditional jump whose target can be changed.
    StaticCall,
    /// The call at a function's entry that ftrace turns into a NOP and back.
    Mcount,
    /// Code that is replaced at boot, depending on a CPU feature.
    Alternative,
    /// A call through `pv_ops` that is replaced at boot; in kernels before 6.8.
    Paravirt,
    /// A call or jump to an indirect thunk.
    Retpoline,
    /// A jump to the return thunk.
    Return,
    /// A call to which call depth tracking may be added; since 6.2.
    CallThunk,
    /// An unused ENDBR64 that is overwritten at boot.
    Endbr,
    /// A LOCK prefix that is overwritten while only one CPU runs.
    Lock,
}

impl Kind {
    /// All kinds, in the order of reports.
    pub const ALL: &[Kind] = Kind::VARIANTS;

    /// Its name, in reports and filters.
    pub fn name(self) -> &'static str {
        self.into()
    }
}

/// The state of a version of a site: the type of its first instruction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "lowercase")]
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
    /// `xor eax, eax` with prefixes, which replaces a call of a function that returns 0.
    #[strum(serialize = "xor")]
    Zero,
    /// ENDBR64.
    Endbr,
    /// A LOCK prefix.
    Lock,
    /// Anything else.
    Code,
}

impl State {
    /// All states, in the order of reports.
    pub const ALL: &[State] = State::VARIANTS;

    /// The state of these bytes.
    pub fn of(bytes: &[u8]) -> State {
        // -mindirect-branch-cs-prefix adds a CS prefix where patching may need six bytes.
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
            // A REX prefix selects R8 to R15.
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
        self.into()
    }
}

/// The block sizes whose boundaries a site may cross, in bytes: an atomic store (8), the fetch blocks of various CPUs
/// (16, 32), a cache line (64) and a page (4096).
pub const BOUNDARIES: [u64; 5] = [8, 16, 32, 64, 4096];

/// A patch site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site {
    /// The table that lists the site.
    pub kind: Kind,
    /// Link address; for a module, the address after its layout.
    pub address: u64,
    /// The bytes in the file that the kernel patches: one instruction, except for alternatives (all bytes that may be
    /// replaced) and lock prefixes (one byte).
    pub bytes: Vec<u8>,
    /// The other version, of the same length, if the image defines it: the other state of a jump label; what
    /// `static_call_init()` makes of a static call at boot; the NOP that ftrace makes of a call; the replacement of an
    /// alternative after `apply_alternatives()`; for other kinds, what the kernel's patching code writes.
    pub other: Option<Vec<u8>>,
    /// Target of the branch, in either version.
    pub target: Option<u64>,
    /// Address of the static key or static call key.
    pub key: Option<u64>,
    /// True for a static call in tail position.
    pub tail: bool,
    /// For alternatives: the CPU feature (word × 32 + bit) in the low half, flags above.
    pub feature: Option<u32>,
}

impl Site {
    /// Number of bytes that are patched.
    pub fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// Always false: a site has at least one byte.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The address after its last byte.
    pub fn end(&self) -> u64 {
        self.address.saturating_add(self.len())
    }

    /// True if the site crosses an address that is a multiple of `boundary` bytes.
    pub fn crosses(&self, boundary: u64) -> bool {
        self.address / boundary != (self.end() - 1) / boundary
    }

    /// The largest of [`BOUNDARIES`] that the site crosses.
    pub fn crossing(&self) -> Option<u64> {
        BOUNDARIES.into_iter().rev().find(|boundary| self.crosses(*boundary))
    }

    /// Number of bytes before the boundary that [`crossing`](Site::crossing) returns.
    pub fn split(&self) -> Option<u64> {
        self.crossing().map(|boundary| boundary - self.address % boundary)
    }

    /// The state of the site in the file.
    pub fn state(&self) -> State {
        State::of(&self.bytes)
    }
}

/// An instruction that may fault, and where the kernel continues after the fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Exception {
    /// Address of the instruction.
    pub address: u64,
    /// Address where the kernel continues.
    pub fixup: u64,
}
