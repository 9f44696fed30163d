//! What an image holds, in numbers.

use std::collections::BTreeMap;

use serde::Serialize;

use super::flow::{self, Via};
use super::image::Image;
use super::site::{BOUNDARIES, Kind, Site, State};

/// How many sites cross a boundary of 8, 16, 32, 64 and 4096 bytes.
pub type Crossings = [usize; BOUNDARIES.len()];

/// Sites of one kind and length.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct LengthRow {
    /// Bytes.
    pub length: u64,
    /// How many there are.
    pub sites: usize,
    /// What is on disk.
    pub states: BTreeMap<&'static str, usize>,
    /// What they cross, in the order of [`BOUNDARIES`].
    pub crossings: Crossings,
}

/// Sites of one kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KindRow {
    /// Name of the kind.
    pub kind: &'static str,
    /// Entries.
    pub sites: usize,
    /// Distinct addresses: alternatives may have several entries for one.
    pub places: usize,
    /// Those in tail position.
    pub tail: usize,
    /// By length.
    pub lengths: Vec<LengthRow>,
    /// What they cross, in the order of [`BOUNDARIES`].
    pub crossings: Crossings,
    /// Sites into which something branches behind the first byte.
    pub entered: usize,
    /// Sites with an instruction of the exception table inside, the first one included.
    pub faulting: usize,
}

/// An arrival inside of a site.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Entered {
    /// The module, if there are several images.
    pub image: String,
    /// Name of the kind.
    pub kind: &'static str,
    /// The site.
    pub site: String,
    /// Byte of the site at which control arrives.
    pub byte: u64,
    /// Where it comes from.
    pub from: String,
    /// How.
    pub via: Via,
}

/// Everything in numbers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Inventory {
    /// What the image calls itself.
    pub release: Option<String>,
    /// The image, or the number of modules.
    pub images: usize,
    /// How it was packed.
    pub compression: Option<&'static str>,
    /// Where names come from: `the symbol table` or `kallsyms`.
    pub names: &'static str,
    /// The form of each table's entries. Where modules differ: of the first that has the table.
    pub formats: BTreeMap<&'static str, String>,
    /// Entries that stand for nothing.
    pub padding: BTreeMap<&'static str, usize>,
    /// The boundaries that crossings are counted for, in bytes.
    pub boundaries: [u64; BOUNDARIES.len()],
    /// By kind.
    pub kinds: Vec<KindRow>,
    /// Pairs of kinds whose sites overlap: for each site of the second, whether one of the first that begins no later
    /// reaches into it.
    pub overlaps: Vec<(&'static str, &'static str, usize)>,
    /// Arrivals inside of sites.
    pub entered: Vec<Entered>,
    /// Entries of the exception table.
    pub exceptions: usize,
}

/// Counts everything.
pub fn inventory(images: &[Image]) -> Inventory {
    let first = images.first();
    let mut inventory = Inventory {
        release: first.and_then(|image| image.release.clone()),
        images: images.len(),
        compression: first.and_then(|image| image.compression).map(|compression| compression.name()),
        names: if first.is_some_and(|image| image.binary.unstripped) {
            "the symbol table"
        } else {
            "kallsyms"
        },
        formats: BTreeMap::new(),
        padding: BTreeMap::new(),
        boundaries: BOUNDARIES,
        kinds: Vec::new(),
        overlaps: Vec::new(),
        entered: Vec::new(),
        exceptions: images.iter().map(|image| image.tables.exceptions.len()).sum(),
    };
    let mut rows = BTreeMap::new();
    let mut overlaps = BTreeMap::new();
    for image in images {
        count(image, &mut rows);
        overlapping(&image.tables.sites, &mut overlaps);
        for (name, format) in &image.tables.formats {
            inventory.formats.entry(name).or_insert_with(|| format.clone());
        }
        for (name, zeros) in image.tables.padding.iter().filter(|(_, zeros)| **zeros > 0) {
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
    let exceptions = &image.tables.exceptions;
    let mut last = None;
    for site in &image.tables.sites {
        let row = rows.entry(site.kind).or_insert_with(|| KindRow {
            kind: site.kind.name(),
            sites: 0,
            places: 0,
            tail: 0,
            lengths: Vec::new(),
            crossings: Crossings::default(),
            entered: 0,
            faulting: 0,
        });
        row.sites += 1;
        row.tail += usize::from(site.tail);
        // They are sorted by kind and address.
        row.places += usize::from(last.replace((site.kind, site.address)) != last);
        let after = exceptions.partition_point(|exception| exception.address < site.address);
        row.faulting +=
            usize::from(exceptions.get(after).is_some_and(|exception| exception.address < site.end()));
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

/// For each site and kind: whether a site of that kind which begins earlier (or at the same address and stands earlier
/// in its table) reaches into it. Linear, however many lie on top of one another.
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

/// Which sites are wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Of these kinds; of all, if empty.
    pub kinds: Vec<Kind>,
    /// In functions that this matches, `*` standing for anything at either end.
    pub function: Option<String>,
    /// Crossing a boundary of so many bytes.
    pub crossing: Option<u64>,
    /// Of this length in bytes.
    pub length: Option<u64>,
    /// In this state on disk.
    pub state: Option<State>,
}

impl Filter {
    /// True if nothing is filtered.
    pub fn is_empty(&self) -> bool {
        *self == Filter::default()
    }

    /// Whether a site is wanted.
    pub fn wants(&self, image: &Image, site: &Site) -> bool {
        (self.kinds.is_empty() || self.kinds.contains(&site.kind))
            && self.crossing.is_none_or(|boundary| site.crosses(boundary))
            && self.length.is_none_or(|length| site.len() == length)
            && self.state.is_none_or(|state| site.state() == state)
            && self
                .function
                .as_ref()
                .is_none_or(|pattern| super::symbols::matches(pattern, image.function(site)))
    }
}

/// A site in words, for lists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Row {
    /// The file.
    pub image: String,
    /// Name of the kind.
    pub kind: &'static str,
    /// Function and offset.
    pub site: String,
    /// Address, in hex.
    pub address: String,
    /// Bytes that are rewritten.
    pub length: u64,
    /// What is on disk.
    pub state: &'static str,
    /// The bytes on disk, in hex.
    pub bytes: String,
    /// The other version, in hex, if the image tells it.
    pub other: Option<String>,
    /// The largest boundary that it crosses, in bytes.
    pub crossing: Option<u64>,
    /// Bytes before that boundary.
    pub split: Option<u64>,
    /// In tail position.
    pub tail: bool,
    /// Where its branch goes; for alternatives, its replacement.
    pub target: Option<String>,
    /// The same as an address, in hex.
    pub target_address: Option<String>,
    /// Its key.
    pub key: Option<String>,
    /// The same as an address, in hex.
    pub key_address: Option<String>,
    /// For alternatives: feature and flags.
    pub feature: Option<u32>,
}

/// Bytes in hex, separated by spaces.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ")
}

/// The sites that a filter wants, in words.
pub fn rows<'a>(images: &'a [Image], filter: &'a Filter) -> impl Iterator<Item = Row> + 'a {
    let address = |address: u64| format!("{address:#x}");
    images.iter().flat_map(move |image| {
        let label = |address: u64| image.binary.symbols.label(address);
        image.tables.sites.iter().filter(|site| filter.wants(image, site)).map(move |site| Row {
            image: image.name.clone(),
            kind: site.kind.name(),
            site: image.label(site),
            address: address(site.address),
            length: site.len(),
            state: site.state().name(),
            bytes: hex(&site.bytes),
            other: site.other.as_deref().map(hex),
            crossing: site.crossing(),
            split: site.split(),
            tail: site.tail,
            target: site.target.map(label),
            target_address: site.target.map(address),
            key: site.key.map(label),
            key_address: site.key.map(address),
            feature: site.feature,
        })
    })
}
