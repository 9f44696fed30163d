//! Lengths of stores, and what takes more than one.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The bytes of a store, and the instruction that it rewrites.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Length {
    /// One byte of an immediate.
    One,
    /// Two bytes of an immediate.
    Two,
    /// All of `mov eax, imm32` but its opcode.
    Four,
    /// All of `mov eax, imm32`, by REP MOVSB: no instruction stores five bytes.
    Five,
    /// The immediate of `mov rax, imm64`.
    Eight,
    /// `mov rax, imm64`, RET and filler, by MOVUPS.
    Sixteen,
    /// The immediate of `mov eax, imm32` by two stores: its second half, then its first. At no moment is the first half
    /// the newer one.
    Halves,
    /// The same with MFENCE between the two.
    HalvesFence,
    /// The same with twenty PAUSE between the two.
    HalvesPause,
}

impl Length {
    /// All, ascending, then those of two halves.
    pub const ALL: [Length; 9] = [
        Length::One,
        Length::Two,
        Length::Four,
        Length::Five,
        Length::Eight,
        Length::Sixteen,
        Length::Halves,
        Length::HalvesFence,
        Length::HalvesPause,
    ];

    /// Bytes stored.
    pub fn bytes(self) -> usize {
        [1, 2, 4, 5, 8, 16, 4, 4, 4][self as usize]
    }

    /// One instruction stores all of it.
    pub fn single(self) -> bool {
        self != Length::Five && !self.halves()
    }

    /// Two instructions store a half each, the second half first.
    pub fn halves(self) -> bool {
        matches!(self, Length::Halves | Length::HalvesFence | Length::HalvesPause)
    }

    /// Its name in reports.
    pub fn name(self) -> &'static str {
        ["1", "2", "4", "5 (rep movsb)", "8", "16 (movups)", "2+2", "2+2 (mfence)", "2+2 (pause)"]
            [self as usize]
    }

    /// Opcode bytes of the executed instruction.
    pub fn opcode(self) -> &'static [u8] {
        match self {
            Length::Eight | Length::Sixteen => &[0x48, 0xb8], // mov rax, imm64
            _ => &[0xb8],                                     // mov eax, imm32
        }
    }

    /// Bytes of the instruction before the first one stored.
    pub fn before(self) -> usize {
        match self {
            Length::Five | Length::Sixteen => 0,
            _ => self.opcode().len(),
        }
    }

    /// Bytes of the immediate that carry the generation.
    pub fn varied(self) -> usize {
        self.bytes().min(self.immediate())
    }

    /// Length of the immediate.
    pub fn immediate(self) -> usize {
        if self.opcode().len() == 1 { 4 } else { 8 }
    }

    /// Length of the executed instruction.
    pub fn instruction(self) -> usize {
        self.opcode().len() + self.immediate()
    }
}

impl Serialize for Length {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for Length {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Length, D::Error> {
        let name = String::deserialize(deserializer)?;
        let found = Length::ALL.into_iter().find(|length| length.name() == name);
        found.ok_or_else(|| serde::de::Error::custom(format!("unknown length of a store `{name}`")))
    }
}
