//! Patch sites of kernel images as scenarios: exported, judged by class, and rendered as tables.
//!
//! [`crossmod_linux`] reads the images and knows nothing of scenarios.

pub mod export;
pub mod judge;
mod shape;
pub mod sheet;

pub use shape::Shape;
