//! `crossmod replay`.

use std::path::PathBuf;

use clap::Args;
use crossmod::machine::{catch_signals, stop_requested};
use crossmod::property::{Property, Violation};
use crossmod::{CheckError, Checker, Trace};

use super::{Exit, Failure, print, width};

#[derive(Args)]
pub struct Arguments {
    /// Trace files written by `crossmod check --traces DIR`.
    #[arg(required = true)]
    traces: Vec<PathBuf>,
    /// Replay each trace this many times.
    #[arg(long, default_value_t = 1, value_name = "N")]
    times: u32,
    /// Do not print the schedule.
    #[arg(short, long)]
    quiet: bool,
}

pub fn run(arguments: &Arguments) -> Result<Exit, Failure> {
    let mut traces = Vec::new();
    for path in &arguments.traces {
        let trace = Trace::load(path).map_err(CheckError::from)?;
        // A trace of another program is rejected before KVM is opened.
        trace.plan().and_then(|_| trace.schedule()).map_err(|error| Failure::file(path, error))?;
        traces.push((path, trace));
    }
    catch_signals()?;
    let mut checker = Checker::new()?;
    for (path, trace) in traces {
        let (path, mut steps, times) = (path.display(), 0, arguments.times.max(1));
        for time in 0..times {
            if stop_requested() {
                print(&format!("{path}: interrupted after {time} of {times} replays"));
                return Err(Failure::Interrupted);
            }
            let report = checker.replay(&trace, width())?;
            steps += report.steps;
            if time == 0 && !arguments.quiet {
                let Violation { property, detail } = &trace.violation;
                print(&format!("{}: {property}: {detail}\n\n{}\n", trace.scenario, report.rendering));
            }
            if let Some(difference) = report.difference {
                let number = time + 1;
                let message = format!("{path}: not reproduced (replay {number}): {difference}");
                return Err(Failure::NotReproduced(message));
            }
        }
        let (property, moves) = (trace.violation.property, trace.moves.len());
        // A schedule can only reach the state; that no schedule completes from there is a fact about the whole graph.
        let progress = matches!(property, Property::Deadlock | Property::Livelock);
        let done = if progress { "reached" } else { "reproduced" };
        print(&format!(
            "{path}: `{property}` {done} {times} of {times}; {moves} moves, every state equal; {steps} steps on KVM"
        ));
    }
    Ok(Exit::Held)
}
