//! `crossmod replay`.

use std::path::PathBuf;

use clap::Args;
use crossmod::machine::{MachineError, catch_signals, stop_requested};
use crossmod::{CheckError, Checker, Trace};

use super::{Failure, HARNESS, HELD, print, width};

#[derive(Args)]
pub struct Arguments {
    /// Trace files written by `crossmod check --traces DIR`.
    #[arg(required = true)]
    traces: Vec<PathBuf>,
    /// Replay each this many times.
    #[arg(long, default_value_t = 1, value_name = "N")]
    times: u32,
    /// Print no schedule.
    #[arg(short, long)]
    quiet: bool,
}

pub fn run(arguments: &Arguments) -> Result<u8, Failure> {
    let mut traces = Vec::new();
    for path in &arguments.traces {
        let trace = Trace::load(path).map_err(|error| Failure::of(error.into()))?;
        // A trace that does not belong here is refused before KVM is opened.
        trace
            .plan()
            .and_then(|_| trace.schedule())
            .map_err(|error| Failure::unusable(format!("error: {}: {error}", path.display())))?;
        traces.push((path, trace));
    }
    let fail = |error| Failure::of(CheckError::Machine(error));
    catch_signals().map_err(fail)?;
    let mut checker = Checker::new().map_err(fail)?;
    for (path, trace) in traces {
        let mut steps = 0;
        for time in 0..arguments.times.max(1) {
            if stop_requested() {
                print(&format!(
                    "{}: interrupted after {time} of {} replays",
                    path.display(),
                    arguments.times
                ));
                return Err(fail(MachineError::Interrupted));
            }
            let report = checker.replay(&trace, width()).map_err(Failure::of)?;
            steps += report.steps;
            if time == 0 && !arguments.quiet {
                print(&format!("{}: {}\n\n{}", trace.scenario, trace.violation.property, report.rendering));
            }
            if let Some(difference) = report.difference {
                return Err(Failure {
                    status: HARNESS,
                    message: format!(
                        "{}: not reproduced (replay {}): {difference}",
                        path.display(),
                        time + 1
                    ),
                });
            }
        }
        print(&format!(
            "{}: `{}` reproduced {} of {}; {} moves, every state equal; {steps} steps on KVM",
            path.display(),
            trace.violation.property,
            arguments.times.max(1),
            arguments.times.max(1),
            trace.moves.len()
        ));
    }
    Ok(HELD)
}
