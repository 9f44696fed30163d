//! `crossmod man`.

use std::path::PathBuf;

use clap::{Args, CommandFactory};

use super::{Failure, HARNESS, HARNESS_ERROR, HELD};

#[derive(Args)]
pub struct Arguments {
    /// Where to write them; created if missing. One page for each subcommand: crossmod.1, crossmod-check.1, ...
    directory: PathBuf,
}

pub fn run(arguments: &Arguments) -> Result<u8, Failure> {
    let directory = &arguments.directory;
    std::fs::create_dir_all(directory)
        .and_then(|()| clap_mangen::generate_to(super::Arguments::command(), directory))
        .map_err(|error| Failure {
            status: HARNESS,
            message: format!("{HARNESS_ERROR}{}: {error}", directory.display()),
        })?;
    Ok(HELD)
}
