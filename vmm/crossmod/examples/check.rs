//! Checks a scenario and prints what was found: `cargo run --release --example check [FILE.toml]`.

#![allow(clippy::print_stdout, reason = "an example prints its result")]

use std::error::Error;

use crossmod::{CheckOptions, Scenario, report, scenario};

/// A five-byte NOP becomes a jump by a store that crosses a cache line: a CPU can fetch half of it.
const TORN: &str = r#"
title = "a plain store across two cache lines"
protocol = "plain_store"
expect = ["torn", "unserialised"]

[site]
old = "nop5"
new = "jmp32"
offset = 0x13e
"#;

fn main() -> Result<(), Box<dyn Error>> {
    let scenario = match std::env::args_os().nth(1) {
        Some(path) => scenario::load(path.as_ref())?,
        None => Scenario { name: "example".into(), text: TORN.into(), path: "example.toml".into() },
    };
    let report = crossmod::check(&scenario, &CheckOptions::default())?;
    println!("{}", report::detail(&report));
    if report.holds() { Ok(()) } else { Err("not what the scenario expects".into()) }
}
