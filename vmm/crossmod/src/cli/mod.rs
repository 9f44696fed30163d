//! The command line.

mod bench;
mod check;
mod choose;
mod completions;
mod explain;
mod free;
mod list;
mod man;
mod matrix;
mod merge;
mod probe;
mod progress;
mod replay;
mod report;
mod sites;
mod stress;
mod survey;
mod tell;

use std::io::{ErrorKind, Write};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The expectation held.
pub const HELD: u8 = 0;
/// It did not.
pub const NOT_HELD: u8 = 1;
/// The input cannot be used.
pub const UNUSABLE: u8 = 2;
/// Nothing could be run here.
pub const SKIPPED: u8 = 4;
/// Crossmod or the host failed.
pub const HARNESS: u8 = 70;
/// How messages of such failures begin.
pub const HARNESS_ERROR: &str = "harness error: ";
/// SIGINT or SIGTERM ended it (128 + SIGINT, as shells say it).
pub const INTERRUPTED: u8 = 130;

/// Test bench for cross-modifying code on x86-64.
#[derive(Parser)]
#[command(
    version,
    about,
    long_about = "Crossmod executes a patch site's real bytes on KVM, one instruction at a time, while a patcher \
rewrites them and interrupts arrive, in every order, and shows the schedule by which a patching protocol breaks.",
    after_help = "Exit status: 0 every expectation held, 1 one did not, 2 unusable input, 4 skipped (no usable \
/dev/kvm, or nothing that could run), 70 harness error or a trace that is not reproduced: no verdict, 130 \
interrupted (what is known until then is printed).\n\nExamples:
  crossmod check                         everything that is shipped
  crossmod check seed/hold-acked         one scenario, with its schedules
  crossmod check my.toml --traces out    a scenario of yours, with trace files
  crossmod check my.toml --fetch intel   the same, where fetches may be stale byte by byte
  crossmod check --tag nmi --shard 2/4   the second quarter of what has NMIs, for one of four machines
  crossmod check my --resume my.journal  again after an interruption, without what is known already
  crossmod matrix my.toml                the same with every step left out, exchanged, weakened in turn
  crossmod replay out/my.torn.trace.json
  crossmod sites /boot/vmlinuz           the patch sites of a kernel
  crossmod survey --quick                where this CPU tears instructions
  crossmod stress seed/fixup-nmi         one scenario at full speed"
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Explore scenarios and compare what is found with what they expect.
    Check(Box<check::Arguments>),
    /// Join the JSON results of shards, or of several runs, into one report.
    Merge(merge::Arguments),
    /// Check scenarios and every single-step mutant of them under each fetch model, as one table.
    Matrix(matrix::Arguments),
    /// Execute a recorded schedule again, live, and compare every state.
    Replay(replay::Arguments),
    /// Read the patch sites of a Linux kernel or of modules; count, list, compare, export or judge them.
    Sites(Box<sites::Arguments>),
    /// List the shipped scenarios and protocols.
    List(list::Arguments),
    /// Say what a property, fetch model, protocol, scenario or tag is.
    Explain(explain::Arguments),
    /// Print a shipped scenario or protocol, to copy and change.
    Show(list::ShowArguments),
    /// Count what this CPU does with stores to code that it executes, at full speed.
    Survey(survey::Arguments),
    /// Run a scenario at full speed, again and again, and count what this CPU shows.
    Stress(stress::Arguments),
    /// Measure what patching protocols cost, all in one interleaved run.
    Bench(bench::Arguments),
    /// Make one page of a saved survey and a saved benchmark.
    Report(report::Arguments),
    /// Print what this host can do, with what follows from it.
    Probe(probe::Arguments),
    /// Print a script that completes `crossmod` in a shell.
    Completions(completions::Arguments),
    /// Write man pages.
    Man(man::Arguments),
}

/// Runs the command line.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = match arguments.command {
        Command::Check(arguments) => check::run(&arguments),
        Command::Merge(arguments) => merge::run(&arguments),
        Command::Matrix(arguments) => matrix::run(&arguments),
        Command::Replay(arguments) => replay::run(&arguments),
        Command::Sites(arguments) => sites::run(&arguments),
        Command::List(arguments) => list::run(&arguments),
        Command::Explain(arguments) => explain::run(&arguments),
        Command::Show(arguments) => list::show(&arguments),
        Command::Survey(arguments) => survey::run(&arguments),
        Command::Stress(arguments) => stress::run(&arguments),
        Command::Bench(arguments) => bench::run(&arguments),
        Command::Report(arguments) => report::run(&arguments),
        Command::Probe(arguments) => probe::run(&arguments),
        Command::Completions(arguments) => completions::run(&arguments),
        Command::Man(arguments) => man::run(&arguments),
    };
    match result {
        Ok(status) => ExitCode::from(status),
        Err(failure) => {
            eprintln!("{}", failure.message.trim_end());
            ExitCode::from(failure.status)
        }
    }
}

/// An end without a result.
pub struct Failure {
    /// Exit status.
    pub status: u8,
    /// For people.
    pub message: String,
}

impl Failure {
    /// Input that cannot be used.
    pub fn unusable(message: impl Into<String>) -> Failure {
        Failure { status: UNUSABLE, message: message.into() }
    }

    /// From an error of the library: its kind decides the status.
    pub fn of(error: crossmod::CheckError) -> Failure {
        use crossmod::CheckError;
        use crossmod::machine::MachineError;
        match error {
            CheckError::Scenario(error) => {
                Failure { status: UNUSABLE, message: format!("{:?}", miette::Report::new(error)) }
            }
            CheckError::Trace(error) => Failure::unusable(format!("error: {error}")),
            CheckError::Machine(error @ (MachineError::NoKvm { .. } | MachineError::Unavailable(_))) => {
                Failure {
                    status: SKIPPED,
                    message: format!(
                        "skipped: {error}\nExploring executes on KVM. On a machine without it, `crossmod list` and \
                     `crossmod show` still work."
                    ),
                }
            }
            CheckError::Machine(error @ MachineError::NotHere(_)) => {
                Failure { status: SKIPPED, message: format!("skipped: {error}") }
            }
            CheckError::Machine(error @ MachineError::Interrupted) => {
                Failure { status: INTERRUPTED, message: error.to_string() }
            }
            CheckError::Machine(error) => {
                Failure { status: HARNESS, message: format!("{HARNESS_ERROR}{}", chain(&error)) }
            }
            error @ (CheckError::Engine(_) | CheckError::Inconsistent(_)) => {
                Failure { status: HARNESS, message: format!("{HARNESS_ERROR}{error}") }
            }
        }
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(&format!(": {error}"));
        source = error.source();
    }
    text
}

/// Prints to standard output. A closed pipe is the reader's wish, not an error: the work goes on, so that the
/// exit status says what it always says. Any other failure would lose a result: it ends the program.
pub fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    let written = out
        .write_all(text.as_bytes())
        .and_then(|()| if text.ends_with('\n') { Ok(()) } else { out.write_all(b"\n") });
    match written.and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            eprintln!("harness error: standard output: {error}");
            std::process::exit(i32::from(HARNESS));
        }
        _ => {}
    }
}

/// `COLUMNS` if set, else the width of the terminal, else a wide default.
pub fn width() -> usize {
    let set = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    let terminal = || terminal_size::terminal_size().map(|(width, _)| usize::from(width.0));
    set.or_else(terminal).unwrap_or(140).clamp(80, 240)
}
