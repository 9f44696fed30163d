//! `crossmod completions` and `crossmod man`: files that installers need.

use std::path::PathBuf;

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::{Arguments, Exit, Failure, answer};

#[derive(Args)]
pub struct ShellArguments {
    /// The shell.
    shell: Shell,
}

#[derive(Args)]
pub struct ManArguments {
    /// Directory of the pages, created if missing: crossmod.1, crossmod-check.1, one page for each subcommand.
    directory: PathBuf,
}

pub fn completions(arguments: &ShellArguments) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut Arguments::command(), "crossmod", &mut script);
    answer(&String::from_utf8_lossy(&script))
}

pub fn man(arguments: &ManArguments) -> Result<Exit, Failure> {
    let directory = &arguments.directory;
    std::fs::create_dir_all(directory)
        .and_then(|()| clap_mangen::generate_to(Arguments::command(), directory))
        .map_err(|error| Failure::harness(format_args!("{}: {error}", directory.display())))?;
    Ok(Exit::Held)
}
