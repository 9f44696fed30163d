//! `crossmod completions`.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::{Failure, HELD, print};

#[derive(Args)]
pub struct Arguments {
    /// Which shell.
    shell: Shell,
}

pub fn run(arguments: &Arguments) -> Result<u8, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut super::Arguments::command(), "crossmod", &mut script);
    print(&String::from_utf8_lossy(&script));
    Ok(HELD)
}
