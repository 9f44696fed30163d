//! Two images compared.
//!
//! Addresses mean nothing across builds, and offsets in a function little. A site is therefore matched by what it is
//! for: its module, kind, function and key, and its place among the sites that share these.

use std::collections::BTreeMap;

use serde::Serialize;

use super::image::Image;
use super::inventory::Filter;
use super::site::{Kind, Site};

/// One kind in two images.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct DiffRow {
    /// Name of the kind.
    pub kind: &'static str,
    /// Sites in the first.
    pub before: usize,
    /// Sites in the second.
    pub after: usize,
    /// Only in the first.
    pub removed: usize,
    /// Only in the second.
    pub added: usize,
    /// Of another length.
    pub length: usize,
    /// In another state on disk.
    pub state: usize,
    /// Crossing another boundary, or none where it crossed one.
    pub crossing: usize,
}

/// A site that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// Name of the kind.
    pub kind: &'static str,
    /// Function, and offset in the image that has it, the second if both have it.
    pub site: String,
    /// Its module, or empty.
    pub image: String,
    /// Length, state and crossing in the first.
    pub before: Option<String>,
    /// The same in the second.
    pub after: Option<String>,
}

/// What differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Diff {
    /// What the first calls itself.
    pub before: Option<String>,
    /// What the second calls itself.
    pub after: Option<String>,
    /// By kind.
    pub kinds: Vec<DiffRow>,
    /// Site by site.
    pub changes: Vec<Change>,
}

impl Diff {
    /// True if every site is in both, of the same length and state, and crosses the same boundaries.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }
}

type Identity = (Kind, String, String, String);

fn grouped<'a>(images: &'a [Image], filter: &Filter) -> BTreeMap<Identity, Vec<(&'a Image, &'a Site)>> {
    let mut groups: BTreeMap<Identity, Vec<_>> = BTreeMap::new();
    for image in images {
        // Modules of another build may be packed in another way; kernels have the release in their name.
        let module = if image.binary.module {
            image.name.split(".ko").next().unwrap_or_default().to_owned()
        } else {
            String::new()
        };
        for site in image.tables.sites.iter().filter(|site| filter.wants(image, site)) {
            let key = site.key.map(|key| stable(&image.binary.symbols.label(key))).unwrap_or_default();
            let identity = (site.kind, module.clone(), image.function(site).to_owned(), key);
            groups.entry(identity).or_default().push((image, site));
        }
    }
    groups
}

/// A label without the numbers that a compiler or a linker made up: of `__UNIQUE_ID_ddebug243.27+0x28` (as dynamic
/// debug names its keys, include/linux/compiler.h) or of the second static variable called `once`, `once.27`.
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

/// Compares the sites that a filter wants.
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
    fn made_up_numbers_do_not_tell_keys_apart() {
        assert_eq!(stable("__UNIQUE_ID_ddebug243.27+0x28"), "__UNIQUE_ID_ddebug+0x28");
        assert_eq!(stable("once.7+0x0"), "once+0x0");
        assert_eq!(stable("__tracepoint_kfree+0x8"), "__tracepoint_kfree+0x8");
        assert_eq!(stable("irq_stack.part2+0x0"), "irq_stack.part2+0x0");
    }
}
