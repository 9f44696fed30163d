//! Facts of the architecture.

pub mod cpu;
pub mod decode;
mod rule;

pub use rule::VendorRule;
