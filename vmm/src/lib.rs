//! Crossmod.

pub mod plan;
pub mod property;
pub mod scenario;
