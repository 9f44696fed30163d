//! `crossmod man`.

use std::path::PathBuf;

use clap::{Args, CommandFactory};

use super::{Exit, Failure};

#[derive(Args)]
pub struct Arguments {
    /// Directory of the pages, created if missing: crossmod.1, crossmod-check.1, one page for each subcommand.
    directory: PathBuf,
}

pub fn run(arguments: &Arguments) -> Result<Exit, Failure> {
    let directory = &arguments.directory;
    std::fs::create_dir_all(directory)
        .and_then(|()| clap_mangen::generate_to(super::Arguments::command(), directory))
        .map_err(|error| Failure::harness(format_args!("{}: {error}", directory.display())))?;
    Ok(Exit::Held)
}
