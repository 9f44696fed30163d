//! Crossmod.

pub mod cpu;
pub mod decode;
pub mod explore;
pub mod machine;
pub mod plan;
pub mod property;
pub mod scenario;
