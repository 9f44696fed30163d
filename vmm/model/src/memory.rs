//! The memory model: when others see what a vCPU's program stores.
//!
//! Under x86-TSO (Owens, Sarkar, Sewell, *A better x86 memory model: x86-TSO*, TPHOLs 2009; Sewell et al., *x86-TSO*,
//! CACM 2010) every vCPU has a FIFO of stores. It finds its own stores at once; others find them once they have left
//! the FIFO. Loads therefore pass older stores, and nothing else is out of order.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use strum::{Display, EnumString};

/// A memory model.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Display, EnumString,
)]
#[serde(rename_all = "kebab-case")]
#[schemars(rename = "Memory")]
#[strum(serialize_all = "kebab-case")]
pub enum MemoryModel {
    /// x86-TSO: a store waits in a store buffer, and the loads and fetches behind it may come first.
    #[default]
    Tso,
    /// Sequential consistency, for comparison: at once. No x86 CPU keeps it.
    Sc,
}

impl MemoryModel {
    /// True for the model that plans had before there was a choice: it leaves their digest as it was.
    pub fn is_sc(&self) -> bool {
        *self == MemoryModel::Sc
    }
}
