//! The pages are true: their commands run and print what is quoted, the names, options, files and anchors that they
//! mention exist, their examples are the files beside this one, and their tables are those of the program.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod ci;
mod commands;
#[allow(dead_code, reason = "the other test binary uses all of it")]
#[path = "../kvm.rs"]
mod kvm;
mod links;
mod my_site;
mod names;
mod page;
mod quote;
mod tables;
