//! The integration tests: one binary, one module a topic.
//!
//! Whatever executes on KVM asks [`kvm::required`] first: without `/dev/kvm` it says so and passes, unless
//! `CROSSMOD_REQUIRE_KVM=1` is set, as in CI; then it fails.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod bench;
mod capabilities;
mod checker;
mod cli;
mod determinism;
mod faults;
mod fetch;
mod freerun;
mod golden;
mod headlines;
mod journal;
mod kvm;
mod language;
mod linux;
mod model;
mod museum;
mod properties;
mod random;
mod reduction;
mod reference;
mod schedule;
mod search;
mod semantics;
mod shipped;
mod stepping;
mod stress;
