//! `crossmod sites --export SITE DIR`.

use std::path::Path;

use crossmod::linux::{Filter, Image, Site};
use crossmod::scenario;
use crossmod::sites::export::{self, Direction};

use super::arguments::Arguments;
use crate::cli::{Exit, Failure, print};

/// Maximum number of suggestions for an unknown site.
const NEAR: usize = 8;

/// Writes the scenarios of a site, one for each direction.
pub fn run(arguments: &Arguments, images: &[Image], name: &str, directory: &Path) -> Result<Exit, Failure> {
    let new = arguments.new.as_deref().map(new_version).transpose()?;
    let (image, site) = find(images, &arguments.filter(), name, new.is_some())?;
    let given = new.map(|new| export::with_new(image, site, &new)).transpose().map_err(Failure::unusable)?;
    let site = given.as_ref().unwrap_or(site);
    let setup = arguments.setup(&arguments.protocol);
    let scenarios = Direction::BOTH.map(|direction| export::scenario(image, site, &setup, direction));
    let scenarios = scenarios.into_iter().collect::<Result<Vec<_>, _>>().map_err(Failure::unusable)?;
    std::fs::create_dir_all(directory).map_err(|error| Failure::file(directory, error))?;
    for exported in scenarios {
        let stem = export::file_stem(&exported.scenario.name);
        let path = directory.join(stem + ".toml");
        std::fs::write(&path, &exported.scenario.text).map_err(|error| Failure::file(&path, error))?;
        print(&path.display().to_string());
    }
    Ok(Exit::Held)
}

/// The bytes of `--new`.
fn new_version(text: &str) -> Result<Vec<u8>, Failure> {
    scenario::bytes(text).ok_or_else(|| {
        Failure::unusable(
            "--new: this is neither bytes nor instructions\nhelp: give bytes in hex, as in \"0f 1f 44 00 00\", or names of \
             instructions without a target, as in nop5 or \"xor-eax-eax nop3\"",
        )
    })
}

/// The site with a label or an address. Among several at one address, the first whose other version is known, unless one
/// is given.
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
            if near.len() < NEAR && image.function(site) == function {
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
        Failure::unusable(format_args!("there is no site `{name}`\nhelp: {help}"))
    })
}
