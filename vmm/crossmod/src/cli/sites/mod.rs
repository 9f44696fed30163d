//! `crossmod sites`.

mod arguments;
mod export;
mod judge;
mod output;
mod windows;

use std::collections::BTreeMap;
use std::path::Path;

use crossmod::linux::{self, Image, SiteRow};
use crossmod::sites::tables;
use serde::Serialize;

pub use self::arguments::Arguments;
use self::output::{bar, show};
use super::{Exit, Failure};

/// A list of sites. It is serialised row by row: as a tree of values, it would take a gigabyte.
#[derive(Serialize)]
struct List<'a> {
    release: Option<&'a String>,
    sites: Vec<SiteRow>,
}

pub fn run(arguments: &Arguments) -> Result<Exit, Failure> {
    arguments.check()?;
    let mut loaded = arguments.images.iter().map(|path| load(path)).collect::<Result<Vec<_>, _>>()?;
    if arguments.diff {
        return diff(arguments, &loaded[0], &loaded[1]);
    }
    let images: Vec<Image> = loaded.drain(..).flatten().collect();
    if let Some([name, directory]) = arguments.export.as_deref() {
        return export::run(arguments, &images, name, Path::new(directory));
    }
    if let Some(protocol) = &arguments.judge {
        return judge::run(arguments, &images, protocol);
    }
    if let Some(pattern) = &arguments.windows {
        return windows::run(arguments, &images, pattern);
    }
    if arguments.list {
        return list(arguments, &images);
    }
    if !arguments.filter().is_empty() {
        return Err(Failure::unusable(
            "filters apply to --list, --diff, --judge and --export only\nhelp: add --list to see the selected sites",
        ));
    }
    let inventory = linux::inventory(&images);
    show(arguments.format, || tables::inventory(&inventory), || BTreeMap::from([("inventory", &inventory)]))
}

fn load(path: &Path) -> Result<Vec<Image>, Failure> {
    let bar = bar(0);
    bar.set_message(format!("reading {}", path.display()));
    let progress = |done: usize, all: usize| {
        bar.set_length(all as u64);
        bar.set_position(done as u64);
    };
    let images = linux::load(path, &progress).map_err(Failure::unusable);
    bar.finish_and_clear();
    images
}

fn diff(arguments: &Arguments, before: &[Image], after: &[Image]) -> Result<Exit, Failure> {
    let diff = linux::diff(before, after, &arguments.filter());
    show(
        arguments.format,
        || tables::differences(&diff, arguments.list),
        || BTreeMap::from([("diff", &diff)]),
    )?;
    Ok(if diff.is_empty() { Exit::Held } else { Exit::NotHeld })
}

fn list(arguments: &Arguments, images: &[Image]) -> Result<Exit, Failure> {
    let filter = arguments.filter();
    let release = images.first().and_then(|image| image.release.as_ref());
    let rows = || linux::rows(images, &filter);
    let document = || tables::list(release, rows(), images.len() > 1);
    show(arguments.format, document, || List { release, sites: rows().collect() })
}
