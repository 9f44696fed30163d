//! Counts the sites of images.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::flow::{self, Via};
use crate::image::Image;
use crate::site::{BOUNDARIES, Kind, Site};

/// Number of sites that cross a boundary of 8, 16, 32, 64 and 4096 bytes.
pub type Crossings = [usize; BOUNDARIES.len()];

/// Sites of one kind and length.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct LengthRow {
    /// Length in bytes.
    pub length: u64,
    /// Number of sites.
    pub sites: usize,
    /// Number of sites in each state on disk.
    pub states: BTreeMap<&'static str, usize>,
    /// Number of sites that cross each of [`BOUNDARIES`].
    pub crossings: Crossings,
}

/// Sites of one kind.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct KindRow {
    /// Name of the kind.
    pub kind: &'static str,
    /// Number of table entries.
    pub sites: usize,
    /// Number of distinct addresses; alternatives may have several entries for one.
    pub places: usize,
    /// Number of sites in tail position.
    pub tail: usize,
    /// Counts by length.
    pub lengths: Vec<LengthRow>,
    /// Number of sites that cross each of [`BOUNDARIES`].
    pub crossings: Crossings,
    /// Number of sites that something branches into after the first byte.
    pub entered: usize,
    /// Number of sites with a byte at which an instruction of the exception table begins.
    pub faulting: usize,
}

/// A way into a site that does not lead to its first byte.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Entered {
    /// Name of the image.
    pub image: String,
    /// Name of the kind.
    pub kind: &'static str,
    /// The site.
    pub site: String,
    /// Byte of the site at which control arrives.
    pub byte: u64,
    /// Where control comes from.
    pub from: String,
    /// How control arrives.
    pub via: Via,
}

/// The sites of images in numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Inventory {
    /// Release of the first image.
    pub release: Option<String>,
    /// Number of images.
    pub images: usize,
    /// How the first image was compressed.
    pub compression: Option<&'static str>,
    /// Where the first image's symbols come from: `the symbol table` or `kallsyms`.
    pub names: &'static str,
    /// Format of each table's entries, in the first image that has the table.
    pub formats: BTreeMap<&'static str, &'static str>,
    /// Number of empty entries in each table.
    pub padding: BTreeMap<&'static str, usize>,
    /// The boundaries for which crossings are counted, in bytes.
    pub boundaries: [u64; BOUNDARIES.len()],
    /// Counts by kind.
    pub kinds: Vec<KindRow>,
    /// Pairs of kinds whose sites overlap, with the number of sites of the second kind into which a site of the first
    /// reaches that begins at the same address or before.
    pub overlaps: Vec<(&'static str, &'static str, usize)>,
    /// Ways into the middle of sites.
    pub entered: Vec<Entered>,
    /// Number of entries of the exception table.
    pub exceptions: usize,
}

/// Counts the sites of images.
pub fn inventory(images: &[Image]) -> Inventory {
    let first = images.first();
    let unstripped = first.is_some_and(|image| image.binary.unstripped);
    let mut inventory = Inventory {
        release: first.and_then(|image| image.release.clone()),
        images: images.len(),
        compression: first.and_then(|image| image.compression).map(|compression| compression.name()),
        names: if unstripped { "the symbol table" } else { "kallsyms" },
        boundaries: BOUNDARIES,
        exceptions: images.iter().map(|image| image.tables.exceptions.len()).sum(),
        ..Inventory::default()
    };
    let mut rows = BTreeMap::new();
    let mut overlaps = BTreeMap::new();
    for image in images {
        count(image, &mut rows);
        overlapping(&image.tables.sites, &mut overlaps);
        for (name, format) in &image.tables.formats {
            inventory.formats.entry(name).or_insert(format);
        }
        for (name, zeros) in &image.tables.padding {
            *inventory.padding.entry(name).or_default() += zeros;
        }
        let entries = flow::entries(image);
        let mut last = None;
        for entry in entries {
            let site = &image.tables.sites[entry.site];
            if last.replace(entry.site) != Some(entry.site)
                && let Some(row) = rows.get_mut(&site.kind)
            {
                row.entered += 1;
            }
            inventory.entered.push(Entered {
                image: image.name.clone(),
                kind: site.kind.name(),
                site: image.label(site),
                byte: entry.byte,
                from: image.binary.symbols.label(entry.from),
                via: entry.via,
            });
        }
    }
    inventory.kinds = rows.into_values().collect();
    inventory.overlaps =
        overlaps.into_iter().map(|((a, b), count): ((Kind, Kind), _)| (a.name(), b.name(), count)).collect();
    inventory
}

fn cross(crossings: &mut Crossings, site: &Site) {
    for (count, boundary) in crossings.iter_mut().zip(BOUNDARIES) {
        *count += usize::from(site.crosses(boundary));
    }
}

fn count(image: &Image, rows: &mut BTreeMap<Kind, KindRow>) {
    let mut last = None;
    for site in &image.tables.sites {
        let new = || KindRow { kind: site.kind.name(), ..KindRow::default() };
        let row = rows.entry(site.kind).or_insert_with(new);
        row.sites += 1;
        row.tail += usize::from(site.tail);
        // Sites are sorted by kind and address.
        row.places += usize::from(last.replace((site.kind, site.address)) != last);
        row.faulting += usize::from(!image.tables.exceptions_in(site.address, site.end()).is_empty());
        cross(&mut row.crossings, site);
        let at = row.lengths.partition_point(|row| row.length < site.len());
        if row.lengths.get(at).is_none_or(|row| row.length != site.len()) {
            row.lengths.insert(at, LengthRow { length: site.len(), ..LengthRow::default() });
        }
        let length = &mut row.lengths[at];
        length.sites += 1;
        *length.states.entry(site.state().name()).or_default() += 1;
        cross(&mut length.crossings, site);
    }
}

/// For each site and kind, counts whether a site of that kind that begins earlier (or at the same address and earlier in
/// the table) reaches into it. Linear in the number of sites, however many overlap.
fn overlapping(sites: &[Site], overlaps: &mut BTreeMap<(Kind, Kind), usize>) {
    let mut order: Vec<&Site> = sites.iter().collect();
    order.sort_by_key(|site| (site.address, site.kind));
    let mut reach: BTreeMap<Kind, u64> = BTreeMap::new();
    for site in order {
        for (kind, end) in &reach {
            if *end > site.address {
                *overlaps.entry((*kind, site.kind)).or_default() += 1;
            }
        }
        let end = reach.entry(site.kind).or_default();
        *end = site.end().max(*end);
    }
}
