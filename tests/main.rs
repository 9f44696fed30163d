//! The integration tests: one binary, one module a topic.
//!
//! `#[test]` adds a test to the [`registry`]. A test that needs KVM calls [`kvm::required`] first: without
//! `/dev/kvm` it is reported as ignored, or as failed where `CROSSMOD_REQUIRE_KVM=1` is set, as in CI.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[macro_use]
extern crate crossmod_test;

mod bench;
mod bugs;
mod capabilities;
mod checker;
mod cli;
mod counts;
mod determinism;
mod faults;
mod fetch;
mod freerun;
mod golden;
mod harness;
mod headlines;
mod journal;
mod language;
mod linux;
mod patcher;
mod properties;
mod random;
mod reduction;
mod reference;
mod registry;
mod schedule;
mod search;
mod semantics;
mod shipped;
mod stepping;
mod store_buffers;
mod stress;
mod vacuous;

use std::process::ExitCode;

use harness::kvm;

fn main() -> ExitCode {
    harness::run(registry::tests())
}
