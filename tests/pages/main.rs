//! The pages are true: their commands run and print what is quoted, the names, options, files and anchors that they
//! mention exist, their examples are the files beside this one, and their tables are those of the program.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[macro_use]
extern crate crossmod_test;

mod ci;
mod commands;
#[allow(dead_code, unused_imports, reason = "the other tests use all of it")]
#[path = "../harness/mod.rs"]
mod harness;
mod links;
mod my_site;
mod names;
mod page;
mod quote;
#[allow(unused_macro_rules, reason = "the other tests use all of it")]
#[path = "../registry.rs"]
mod registry;
mod tables;

use std::process::ExitCode;

use harness::kvm;

fn main() -> ExitCode {
    harness::run(registry::tests())
}
