//! The scenarios and protocols that Crossmod ships, embedded.
//!
//! Each folder beside this crate's manifest is a group of scenarios. `protocols/` has the step lists that a scenario
//! takes over with `protocol = "NAME"`.

#![forbid(unsafe_code)]

use include_dir::{Dir, include_dir};

/// The crate's folder.
static FILES: Dir<'static> = include_dir!("$CARGO_MANIFEST_DIR");
/// The folder of protocols.
const PROTOCOLS: &str = "protocols";

/// Names (`group/stem`) and texts of all scenarios, in no particular order.
pub fn scenarios() -> impl Iterator<Item = (String, &'static str)> {
    FILES.dirs().filter(|group| group.path().to_str() != Some(PROTOCOLS)).flat_map(texts)
}

/// Names and texts of all protocols, in no particular order.
pub fn protocols() -> impl Iterator<Item = (String, &'static str)> {
    FILES
        .get_dir(PROTOCOLS)
        .into_iter()
        .flat_map(texts)
        .map(|(name, text)| (name.rsplit('/').next().unwrap_or_default().to_owned(), text))
}

/// `folder/stem` and text of the TOML files in a folder.
fn texts(folder: &'static Dir<'static>) -> impl Iterator<Item = (String, &'static str)> {
    folder.files().filter_map(|file| {
        let name = file.path().to_str()?.strip_suffix(".toml")?;
        Some((name.to_owned(), file.contents_utf8()?))
    })
}
