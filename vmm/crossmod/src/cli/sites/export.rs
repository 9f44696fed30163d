//! `crossmod sites --export SITE DIR`.

use std::path::Path;

use crossmod::linux::{Filter, Image, Site};
use crossmod::scenario;
use crossmod::sites::export::{self, Direction, ExportError, Question};

use crate::cli::{Exit, Failure, print};

/// The bytes that `--new` gives.
pub fn new_version(text: &str) -> Result<Vec<u8>, String> {
    scenario::bytes(text).ok_or_else(|| {
        "give bytes in hex, as in \"0f 1f 44 00 00\", or instructions by the names that scenarios have for them and \
         without a target, as in nop5 or \"xor-eax-eax nop3\""
            .into()
    })
}

fn unusable(error: &dyn std::fmt::Display) -> Failure {
    Failure::unusable(format!("error: {error}"))
}

/// Writes the scenarios of a site, there and back.
pub fn run(
    images: &[Image],
    filter: &Filter,
    name: &str,
    new: Option<&[u8]>,
    question: &Question,
    directory: &Path,
) -> Result<Exit, Failure> {
    let (image, site) = find(images, filter, name, new.is_some())?;
    let given = new.map(|new| export::with_new(image, site, new)).transpose().map_err(|e| unusable(&e))?;
    let site = given.as_ref().unwrap_or(site);
    let mut scenarios = Vec::new();
    for direction in Direction::BOTH {
        let exported = export::scenario(image, site, question, direction);
        scenarios.push(exported.map_err(|error| match &error {
            ExportError::Inexpressible(_, inner) => unusable(&format_args!("{error}: {inner}")),
            error => unusable(error),
        })?);
    }
    std::fs::create_dir_all(directory)
        .map_err(|error| unusable(&format_args!("{}: {error}", directory.display())))?;
    for exported in scenarios {
        let stem = export::file_stem(&exported.scenario.name);
        let path = directory.join(stem + ".toml");
        std::fs::write(&path, &exported.scenario.text)
            .map_err(|error| unusable(&format_args!("{}: {error}", path.display())))?;
        print(&path.display().to_string());
    }
    Ok(Exit::Held)
}

/// The site with a label or an address. Of several at one place the first whose other version is known, unless one is
/// given.
fn find<'a>(
    images: &'a [Image],
    filter: &Filter,
    name: &str,
    given: bool,
) -> Result<(&'a Image, &'a Site), Failure> {
    let address = name.strip_prefix("0x").and_then(|digits| u64::from_str_radix(digits, 16).ok());
    let matching = |image: &Image, site: &Site| match address {
        Some(address) => site.address == address,
        None => image.label(site) == name,
    };
    let function = name.rsplit_once("+0x").map_or(name, |(function, _)| function);
    let mut near = Vec::new();
    let mut found: Option<(&Image, &Site)> = None;
    for image in images {
        for site in image.tables.sites.iter().filter(|site| filter.wants(image, site)) {
            let better =
                |(_, known): (&Image, &Site)| !given && known.other.is_none() && site.other.is_some();
            if matching(image, site) && found.is_none_or(better) {
                found = Some((image, site));
            }
            if near.len() < 8 && image.function(site) == function {
                near.push(image.label(site));
            }
        }
    }
    found.ok_or_else(|| {
        near.dedup();
        let help = if near.is_empty() {
            "`--list` shows the sites".to_owned()
        } else {
            format!("sites of that function: {}", near.join(", "))
        };
        Failure::unusable(format!("error: there is no site `{name}`\nhelp: {help}"))
    })
}
