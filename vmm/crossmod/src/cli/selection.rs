//! Arguments that several commands share: scenarios, fetch models, tags, properties and sizes.

use std::path::{Path, PathBuf};

use clap::Args;
use crossmod::fetch::FetchModel;
use crossmod::suite::{Filter, TagRule, Wanted};
use crossmod::{Scenario, scenario};

use super::Failure;

/// A filter for the cases of the named scenarios.
#[derive(Args)]
pub struct FilterArguments {
    /// Select only scenarios with this tag, or with `!TAG` only those without it; may be repeated to narrow the selection.
    #[arg(long, value_name = "TAG")]
    tag: Vec<TagRule>,
    /// Select only cases that expect a violation of this property, or `safe`; may be repeated to narrow the selection.
    #[arg(long, value_name = "PROPERTY")]
    property: Vec<Wanted>,
}

impl FilterArguments {
    /// The filter that the arguments describe.
    pub fn filter(&self) -> Filter {
        Filter { tags: self.tag.clone(), wanted: self.property.clone() }
    }
}

/// Bytes, with an optional K, M or G (powers of 1024).
pub fn size(text: &str) -> Result<usize, String> {
    let number = text.strip_suffix(['K', 'M', 'G']).unwrap_or(text);
    let shift = match text.as_bytes().last() {
        Some(b'K') => 10,
        Some(b'M') => 20,
        Some(b'G') => 30,
        _ => 0,
    };
    let size = number.parse::<usize>().ok().and_then(|number| number.checked_mul(1 << shift));
    size.filter(|&size| size > 0)
        .ok_or_else(|| "a size is a number of bytes, optionally with a suffix K, M or G".into())
}

/// The fetch models that `--fetch` names, each once.
pub fn models(names: &[String]) -> Result<Vec<FetchModel>, Failure> {
    let mut models: Vec<FetchModel> = Vec::new();
    for name in names {
        let named = match name.as_str() {
            "all" => FetchModel::presets().collect(),
            name => vec![name.parse().map_err(|why| Failure::unusable(format_args!("--fetch: {why}")))?],
        };
        for model in named {
            if !models.contains(&model) {
                models.push(model);
            }
        }
    }
    Ok(models)
}

/// The scenarios that the arguments name; without arguments, every shipped scenario.
pub fn select(names: &[String]) -> Result<Vec<Scenario>, Failure> {
    let library = scenario::library();
    if names.is_empty() {
        return Ok(library);
    }
    let mut chosen = Vec::new();
    for name in names {
        let path = Path::new(name);
        let name = &*scenario::current_name(name);
        if name.contains(['*', '?', '[']) && !path.exists() {
            chosen.extend(matching(&library, name)?);
            continue;
        }
        let group = format!("{}/", name.trim_end_matches('/'));
        let shipped = library.iter().filter(|one| one.name == name || one.name.starts_with(&group));
        let before = chosen.len();
        chosen.extend(shipped.cloned());
        if chosen.len() > before {
            continue;
        }
        if path.is_dir() {
            chosen.extend(directory(name, path)?);
        } else if path.exists() || name.ends_with(".toml") {
            chosen.push(scenario::load(path)?);
        } else {
            return Err(unknown(&library, name));
        }
    }
    Ok(chosen)
}

/// The scenario files in a directory. An unreadable entry is an error: without it the suite would be smaller unnoticed.
fn directory(name: &str, path: &Path) -> Result<Vec<Scenario>, Failure> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(path)
        .and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect())
        .map_err(|error| Failure::unusable(format_args!("{name}: {error}")))?;
    files.retain(|file| file.extension().is_some_and(|extension| extension == "toml"));
    files.sort();
    if files.is_empty() {
        return Err(Failure::unusable(format_args!("{name}: no .toml files in this directory")));
    }
    files.iter().map(|file| Ok(scenario::load(file)?)).collect()
}

fn unknown(library: &[Scenario], name: &str) -> Failure {
    let near = library.iter().map(|scenario| scenario.name.as_str()).filter(|known| known.contains(name));
    let near: Vec<&str> = near.take(8).collect();
    let help = if near.is_empty() {
        "`crossmod list` shows the shipped ones".to_owned()
    } else {
        format!("shipped names that contain it: {}", near.join(", "))
    };
    Failure::unusable(format_args!("`{name}` is neither a file nor a shipped scenario or group\n{help}"))
}

/// The shipped scenarios that a pattern matches.
fn matching(library: &[Scenario], pattern: &str) -> Result<Vec<Scenario>, Failure> {
    let compiled = glob::Pattern::new(pattern)
        .map_err(|error| Failure::unusable(format_args!("`{pattern}` is not a valid pattern: {error}")))?;
    let chosen: Vec<Scenario> =
        library.iter().filter(|scenario| compiled.matches(&scenario.name)).cloned().collect();
    if chosen.is_empty() {
        return Err(Failure::unusable(format_args!(
            "no shipped scenario matches `{pattern}`\n`crossmod list` shows their names"
        )));
    }
    Ok(chosen)
}
