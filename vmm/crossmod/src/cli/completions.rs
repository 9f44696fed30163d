//! `crossmod completions`.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::{Exit, Failure, answer};

#[derive(Args)]
pub struct Arguments {
    /// The shell.
    shell: Shell,
}

pub fn run(arguments: &Arguments) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut super::Arguments::command(), "crossmod", &mut script);
    answer(&String::from_utf8_lossy(&script))
}
