//! Compares two images.
//!
//! Addresses change from build to build, and so do offsets in a function. Sites are therefore matched by module, kind,
//! function and key, and by their position among the sites that share these.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::image::Image;
use crate::list::Filter;
use crate::site::{Kind, Site};

/// The sites of one kind in two images.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct DiffRow {
    /// Name of the kind.
    pub kind: &'static str,
    /// Sites in the first image.
    pub before: usize,
    /// Sites in the second image.
    pub after: usize,
    /// Sites only in the first image.
    pub removed: usize,
    /// Sites only in the second image.
    pub added: usize,
    /// Sites in both whose length differs.
    pub length: usize,
    /// Sites in both whose state on disk differs.
    pub state: usize,
    /// Sites in both that cross different boundaries, or at different bytes.
    pub crossing: usize,
}

/// A site that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// Name of the kind.
    pub kind: &'static str,
    /// Function and offset: those of the second image if both have the site.
    pub site: String,
    /// The module; empty for a kernel.
    pub image: String,
    /// Length, state and crossing in the first image.
    pub before: Option<String>,
    /// Length, state and crossing in the second image.
    pub after: Option<String>,
}

/// The difference between two images.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Diff {
    /// Release of the first image.
    pub before: Option<String>,
    /// Release of the second image.
    pub after: Option<String>,
    /// Counts by kind.
    pub kinds: Vec<DiffRow>,
    /// The sites that differ.
    pub changes: Vec<Change>,
}

impl Diff {
    /// True if both images have the same sites, with equal lengths, states and crossings.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }
}

type Identity = (Kind, String, String, String);

fn grouped<'a>(images: &'a [Image], filter: &Filter) -> BTreeMap<Identity, Vec<(&'a Image, &'a Site)>> {
    let mut groups: BTreeMap<Identity, Vec<_>> = BTreeMap::new();
    for image in images {
        // Another build may compress its modules differently, and kernels have their release in the file name.
        let module = image.name.split(".ko").next().filter(|_| image.binary.module).unwrap_or_default();
        for site in image.tables.sites.iter().filter(|site| filter.wants(image, site)) {
            let key = site.key.map(|key| stable(&image.binary.symbols.label(key))).unwrap_or_default();
            let identity = (site.kind, module.to_owned(), image.function(site).to_owned(), key);
            groups.entry(identity).or_default().push((image, site));
        }
    }
    groups
}

/// A label without the numbers that compilers and linkers generate, as in `__UNIQUE_ID_ddebug243.27+0x28` (a key of
/// dynamic debug, include/linux/compiler.h) or `once.27` (one of several static variables called `once`).
fn stable(label: &str) -> String {
    let (name, offset) = label.rsplit_once('+').unwrap_or((label, ""));
    let digits = |c: char| c.is_ascii_digit();
    let plain = match name.rsplit_once('.') {
        Some((plain, number)) if number.chars().all(digits) => plain,
        _ => name,
    };
    let plain = if name.starts_with("__UNIQUE_ID_") { plain.trim_end_matches(digits) } else { plain };
    format!("{plain}+{offset}")
}

fn describe(site: &Site) -> String {
    let crossing = match (site.crossing(), site.split()) {
        (Some(boundary), Some(split)) => format!(", {split}+{} across {boundary}", site.len() - split),
        _ => String::new(),
    };
    format!("{} bytes, {}{crossing}", site.len(), site.state().name())
}

/// Compares the sites that pass a filter.
pub fn diff(before: &[Image], after: &[Image], filter: &Filter) -> Diff {
    let release = |images: &[Image]| images.first().and_then(|image| image.release.clone());
    let (first, mut second) = (grouped(before, filter), grouped(after, filter));
    let mut rows: BTreeMap<Kind, DiffRow> = BTreeMap::new();
    let mut changes = Vec::new();
    let mut pair = |identity: &Identity, old: &[(&Image, &Site)], new: &[(&Image, &Site)]| {
        let (kind, module, ..) = identity;
        let row = rows.entry(*kind).or_insert_with(|| DiffRow { kind: kind.name(), ..DiffRow::default() });
        row.before += old.len();
        row.after += new.len();
        for index in 0..old.len().max(new.len()) {
            let (old, new) = (old.get(index), new.get(index));
            match (old, new) {
                (Some(_), None) => row.removed += 1,
                (None, _) => row.added += 1,
                (Some((_, old)), Some((_, new))) => {
                    let differs = [
                        old.len() != new.len(),
                        old.state() != new.state(),
                        old.crossing() != new.crossing() || old.split() != new.split(),
                    ];
                    if differs == [false; 3] {
                        continue;
                    }
                    row.length += usize::from(differs[0]);
                    row.state += usize::from(differs[1]);
                    row.crossing += usize::from(differs[2]);
                }
            }
            changes.push(Change {
                kind: kind.name(),
                site: new.or(old).map(|(image, site)| image.label(site)).unwrap_or_default(),
                image: module.clone(),
                before: old.map(|(_, site)| describe(site)),
                after: new.map(|(_, site)| describe(site)),
            });
        }
    };
    for (identity, old) in &first {
        let new = second.remove(identity).unwrap_or_default();
        pair(identity, old, &new);
    }
    for (identity, new) in &second {
        pair(identity, &[], new);
    }
    Diff { before: release(before), after: release(after), kinds: rows.into_values().collect(), changes }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_numbers_do_not_distinguish_keys() {
        assert_eq!(stable("__UNIQUE_ID_ddebug243.27+0x28"), "__UNIQUE_ID_ddebug+0x28");
        assert_eq!(stable("once.7+0x0"), "once+0x0");
        assert_eq!(stable("__tracepoint_kfree+0x8"), "__tracepoint_kfree+0x8");
        assert_eq!(stable("irq_stack.part2+0x0"), "irq_stack.part2+0x0");
    }
}
