//! Writes the trace of a finding and replays it: `cargo run --release --example replay [FILE.trace.json]`.

#![allow(clippy::print_stdout, reason = "an example prints its result")]

use std::error::Error;

use crossmod::{CheckOptions, Checker, Trace, scenario};

fn main() -> Result<(), Box<dyn Error>> {
    let mut checker = Checker::new()?;
    let trace = match std::env::args_os().nth(1) {
        Some(path) => Trace::load(path.as_ref())?,
        None => {
            let library = scenario::library();
            let naive = library.iter().find(|one| one.name == "seed/naive-store").ok_or("it is shipped")?;
            let report = checker.check(naive, &CheckOptions::default(), |_| {})?;
            report.findings.into_iter().find_map(|finding| finding.trace).ok_or("it has a finding")?
        }
    };
    // Every step runs on KVM again, with one vCPU for each executor; every state must be as recorded.
    let replayed = checker.replay(&trace, 120)?;
    println!("{}", replayed.rendering);
    match replayed.difference {
        None => println!("{} steps, reproduced: {}", replayed.steps, trace.violation.detail),
        Some(difference) => return Err(difference.into()),
    }
    Ok(())
}
