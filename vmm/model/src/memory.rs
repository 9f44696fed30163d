//! The memory model: when others see what a vCPU's program stores.
//!
//! Under x86-TSO (Owens, Sarkar, Sewell, *A better x86 memory model: x86-TSO*, TPHOLs 2009; Sewell et al., *x86-TSO*,
//! CACM 2010) every vCPU has a FIFO of stores. It finds its own stores at once; others find them once they have left
//! the FIFO. Loads therefore pass older stores, and nothing else is out of order.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// When the stores of programs reach memory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MemoryModel {
    /// In the order of each program, through a store buffer.
    #[default]
    Tso,
    /// At once: sequential consistency. No x86 CPU is like that; it is there for comparison.
    Sc,
}

impl MemoryModel {
    /// All.
    pub const ALL: [MemoryModel; 2] = [MemoryModel::Tso, MemoryModel::Sc];

    /// Its name in scenarios, options and reports.
    pub fn name(self) -> &'static str {
        match self {
            MemoryModel::Tso => "tso",
            MemoryModel::Sc => "sc",
        }
    }

    /// True for the model that plans had before there was a choice: it leaves their digest as it was.
    pub fn is_sc(&self) -> bool {
        *self == MemoryModel::Sc
    }
}

impl fmt::Display for MemoryModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for MemoryModel {
    type Err = String;

    fn from_str(text: &str) -> Result<MemoryModel, String> {
        let model = MemoryModel::ALL.into_iter().find(|model| model.name() == text);
        model.ok_or_else(|| "memory models are tso and sc".into())
    }
}
