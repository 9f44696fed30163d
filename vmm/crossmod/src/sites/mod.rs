//! Patch sites of kernel images as scenarios: exported, judged by class, and rendered as tables.
//!
//! [`crossmod_linux`] reads the images; it does not know scenarios.
//!
//! # What the verdict of a class claims
//!
//! A [`Class`](crossmod_linux::Class) contains sites that no protocol and no fetch model can tell apart. [`judge`] explores
//! each class once, in both directions, by a representative; the verdict holds for all members. The effect of a torn
//! instruction depends on its displacement, which members do not share, so `wrong-resume` is not reported for a class that
//! is `torn`. Each site is judged alone: the verdict does not cover two sites that are patched at the same time.
//!
//! Where a static call becomes `xor %eax,%eax`, the kernel's trap handler emulates a call of `__static_call_return0`, which
//! has the same result as continuing after the XOR. That is what a trap does in the scenario: see [`export`], which also
//! describes what happens where scenarios cannot express what the kernel does.
//!
//! Linux patches some kinds of sites while other CPUs are stopped. Their verdict says what would happen if it did not.
//! They are judged as they are on disk. At boot, Linux also merges NOPs of alternatives that it does not apply, so an old
//! version full of one-byte NOPs has more instruction boundaries here than in a running kernel.

pub mod export;
pub mod judge;
mod origin;
mod shape;
pub mod tables;
mod windows;

pub use origin::{ImageRecord, Origin};
pub use shape::Shape;
pub use windows::{Exploration, Explored, Shapes, explore, shapes};
