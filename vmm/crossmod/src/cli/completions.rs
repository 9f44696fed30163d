//! `crossmod completions`.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::{Exit, Failure, print};

#[derive(Args)]
pub struct Arguments {
    /// The shell.
    shell: Shell,
}

pub fn run(arguments: &Arguments) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut super::Arguments::command(), "crossmod", &mut script);
    print(&String::from_utf8_lossy(&script));
    Ok(Exit::Held)
}
