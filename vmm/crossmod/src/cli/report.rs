//! `crossmod report`.

use std::path::PathBuf;

use clap::Args;
use crossmod::freerun::stress::write;
use crossmod::report::bench::comparison_svg;
use crossmod::report::free::{SavedResults, html};
use crossmod::report::survey::map_svg;

use super::{Exit, Failure, answer};

#[derive(Args)]
#[command(after_help = include_str!("help/report.txt"))]
pub struct Arguments {
    /// A survey, a benchmark, or both, as `--format json` printed them.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Instead of a page, write the pictures survey-map.svg and protocols.svg to this directory.
    #[arg(long, value_name = "DIR")]
    pictures: Option<PathBuf>,
}

pub fn run(arguments: &Arguments) -> Result<Exit, Failure> {
    let mut results = SavedResults::default();
    for path in &arguments.files {
        let unusable = |error: &dyn std::fmt::Display| {
            let remedy = "give what `crossmod survey --format json` and `crossmod bench --format json` print";
            Failure::file(path, format_args!("{error}\n{remedy}"))
        };
        let text = std::fs::read_to_string(path).map_err(|error| unusable(&error))?;
        results.add(&text).map_err(|error| unusable(&error))?;
    }
    let Some(directory) = &arguments.pictures else {
        return answer(&html(&results));
    };
    let pictures = [
        ("survey-map.svg", results.survey.as_ref().map(map_svg)),
        ("protocols.svg", results.bench.as_ref().and_then(comparison_svg)),
    ];
    for (name, picture) in pictures {
        let path = directory.join(name);
        if let Some(picture) = picture {
            write(&path, &(picture + "\n")).map_err(|error| {
                Failure::file(&path, format_args!("{error}\ngive --pictures a writable directory"))
            })?;
        }
    }
    Ok(Exit::Held)
}
