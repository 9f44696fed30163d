//! The command line.

mod bench;
mod check;
mod exit;
mod explain;
mod freerun_common;
mod generate;
mod list;
mod matrix;
mod merge;
mod output;
mod probe;
mod progress;
mod replay;
mod report;
mod selection;
mod sites;
mod stress;
mod survey;

use std::io::{ErrorKind, Write};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use exit::{Exit, Failure};

/// Test bench for cross-modifying code on x86-64.
#[derive(Parser)]
#[command(
    version,
    about,
    long_about = "Crossmod runs the real bytes of a patch site on KVM, one instruction at a time, while a patcher \
rewrites them and interrupts arrive, in every order. If a patching protocol breaks, it shows the schedule.",
    after_help = include_str!("help/main.txt")
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Explore scenarios and compare the violations with the expectations.
    Check(Box<check::Arguments>),
    /// Join the JSON results of shards, or of several runs, into one report.
    Merge(merge::Arguments),
    /// Check scenarios and all their single-step mutants under each fetch model, as one table.
    Matrix(matrix::Arguments),
    /// Execute a recorded schedule again, live, and compare every state.
    Replay(replay::Arguments),
    /// Read the patch sites of a Linux kernel or of modules; count, list, compare, export or judge them.
    Sites(Box<sites::Arguments>),
    /// List the shipped scenarios and protocols.
    List(list::Arguments),
    /// Explain a key, step, property, fetch model, word of reports, protocol, scenario or tag.
    Explain(explain::Arguments),
    /// Print a shipped scenario or protocol, to copy and modify; or the reference, or the schema.
    Show(list::ShowArguments),
    /// Count how this CPU executes code that another CPU stores to, at full speed.
    Survey(survey::Arguments),
    /// Run a scenario repeatedly at full speed and count the violations.
    Stress(stress::Arguments),
    /// Measure the cost of patching protocols in one interleaved run.
    Bench(bench::Arguments),
    /// Create one page from a saved survey and a saved benchmark.
    Report(report::Arguments),
    /// Print the capabilities of this host and their consequences.
    Probe(probe::Arguments),
    /// Print a script that completes `crossmod` in a shell.
    Completions(generate::ShellArguments),
    /// Write man pages.
    Man(generate::ManArguments),
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
        Command::Completions(arguments) => generate::completions(&arguments),
        Command::Man(arguments) => generate::man(&arguments),
    };
    let exit = result.unwrap_or_else(|failure| {
        eprintln!("{}", failure.to_string().trim_end());
        failure.exit()
    });
    exit.into()
}

/// Prints to standard output. A closed pipe is not an error: the work continues, so that the exit status does not depend
/// on the reader. Any other failure would lose a result, so it ends the program.
pub fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    let written = out
        .write_all(text.as_bytes())
        .and_then(|()| if text.ends_with('\n') { Ok(()) } else { out.write_all(b"\n") });
    match written.and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            let failure = Failure::harness(format_args!("standard output: {error}"));
            eprintln!("{failure}");
            std::process::exit(failure.exit() as i32);
        }
        _ => {}
    }
}

/// Prints the answer of a command that cannot fail any more.
fn answer(text: &str) -> Result<Exit, Failure> {
    print(text);
    Ok(Exit::Held)
}

/// Width of the output in characters: `COLUMNS` if set, else that of the terminal, else 140.
pub fn width() -> usize {
    let set = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    let terminal = || terminal_size::terminal_size().map(|(width, _)| usize::from(width.0));
    set.or_else(terminal).unwrap_or(140).clamp(80, 240)
}
