//! What a command is about: scenarios by name, fetch models, tags and properties.

use std::path::{Path, PathBuf};

use clap::Args;
use crossmod::fetch::FetchModel;
use crossmod::suite::{Filter, SuiteError, TagRule, Wanted};
use crossmod::{CheckError, Scenario, scenario};

use super::Failure;

/// Which of the scenarios that are named.
#[derive(Args)]
pub struct FilterArguments {
    /// Only scenarios with this tag, or with `!TAG` without it; may be repeated, then all have to hold.
    #[arg(long, value_name = "TAG")]
    tag: Vec<TagRule>,
    /// Only cases that expect this property to be violated, or `safe`; may be repeated, then all have to hold.
    #[arg(long, value_name = "PROPERTY")]
    property: Vec<Wanted>,
}

impl FilterArguments {
    /// As the library has it.
    pub fn filter(&self) -> Filter {
        Filter { tags: self.tag.clone(), wanted: self.property.clone() }
    }
}

/// The exit status and message of a suite that cannot be put together.
pub fn unusable(error: SuiteError) -> Failure {
    match error {
        SuiteError::Scenario(error) => Failure::of(CheckError::Scenario(error)),
        error => Failure::unusable(format!("error: {error}")),
    }
}

/// Bytes, with an optional K, M or G (powers of 1024).
pub fn size(text: &str) -> Result<usize, String> {
    let (number, shift) = match text.strip_suffix(['K', 'M', 'G']) {
        Some(number) if text.ends_with('K') => (number, 10),
        Some(number) if text.ends_with('M') => (number, 20),
        Some(number) => (number, 30),
        None => (text, 0),
    };
    let size = number.parse::<usize>().ok().and_then(|number| number.checked_mul(1 << shift));
    size.filter(|&size| size > 0).ok_or_else(|| "a size is a number of bytes, or one with K, M or G".into())
}

/// The fetch models that `--fetch` names.
pub fn models(names: &[String]) -> Result<Vec<FetchModel>, Failure> {
    let mut models = Vec::new();
    for name in names {
        let named: Vec<FetchModel> = match name.as_str() {
            "all" => FetchModel::presets().collect(),
            name => {
                vec![name.parse().map_err(|error| Failure::unusable(format!("error: --fetch: {error}")))?]
            }
        };
        models.extend(named);
    }
    let mut seen = Vec::new();
    models.retain(|model| {
        !seen.contains(model) && {
            seen.push(*model);
            true
        }
    });
    Ok(models)
}

/// The scenarios that the arguments name.
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
        let shipped = library.iter().filter(|scenario| {
            scenario.name == name || scenario.name.starts_with(&format!("{}/", name.trim_end_matches('/')))
        });
        let before = chosen.len();
        chosen.extend(shipped.cloned());
        if chosen.len() > before {
            continue;
        }
        if path.is_dir() {
            // An entry that cannot be read would make the suite smaller without a word.
            let mut files: Vec<PathBuf> = std::fs::read_dir(path)
                .and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect())
                .map_err(|error| Failure::unusable(format!("error: {name}: {error}")))?;
            files.retain(|file| file.extension().is_some_and(|extension| extension == "toml"));
            files.sort();
            if files.is_empty() {
                return Err(Failure::unusable(format!("error: {name}: no .toml files in this directory")));
            }
            for file in files {
                chosen.push(scenario::load(&file).map_err(|error| Failure::of(error.into()))?);
            }
        } else if path.exists() || name.ends_with(".toml") {
            chosen.push(scenario::load(path).map_err(|error| Failure::of(error.into()))?);
        } else {
            let near: Vec<&str> = library.iter().map(|scenario| scenario.name.as_str()).collect();
            let near: Vec<&str> = near.into_iter().filter(|known| known.contains(name)).take(8).collect();
            let help = if near.is_empty() {
                "`crossmod list` shows the shipped ones".to_owned()
            } else {
                format!("shipped names that contain it: {}", near.join(", "))
            };
            return Err(Failure::unusable(format!(
                "error: `{name}` is neither a file nor a shipped scenario or group\n{help}"
            )));
        }
    }
    Ok(chosen)
}

/// The shipped scenarios that a pattern matches.
fn matching(library: &[Scenario], pattern: &str) -> Result<Vec<Scenario>, Failure> {
    let compiled = glob::Pattern::new(pattern)
        .map_err(|error| Failure::unusable(format!("error: `{pattern}` is no pattern: {error}")))?;
    let chosen: Vec<Scenario> =
        library.iter().filter(|scenario| compiled.matches(&scenario.name)).cloned().collect();
    if chosen.is_empty() {
        return Err(Failure::unusable(format!(
            "error: no shipped scenario matches `{pattern}`\n`crossmod list` shows what there is"
        )));
    }
    Ok(chosen)
}
