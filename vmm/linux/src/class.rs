//! Classes of sites that look alike to a CPU that runs them while they are patched.
//!
//! What such a CPU can do depends on
//!
//! * the length of the site and the kind of its versions: a NOP, a jump, a call, ...; for several instructions, the
//!   length of each and where control goes after it;
//! * where an aligned block ends inside the site, and the size of the largest such block: an atom of 8 bytes, a cache
//!   line and a page end at different offsets of different sites;
//! * which bytes differ. Storing a byte that is already there changes nothing: `0f 1f 44 00 00` and `e9 8b 00 00 00`,
//!   split 3+2, differ on one side only, so half of that store has the effect of the whole.
//!
//! The address itself, and the value of a displacement beyond these traits, only say where control goes.
//!
//! A block larger than the site has at most one boundary inside it. Smaller blocks (atoms of one byte) have their
//! boundaries at the same offsets in all sites of one length.

use std::collections::BTreeMap;

use crate::code::Flow;
use crate::flow::ByAddress;
use crate::image::Image;
use crate::list::Filter;
use crate::site::{Kind, Site, State};
use crate::versions::Versions;

/// What all members of a class have in common.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Traits {
    /// The table that lists the site.
    pub kind: Kind,
    /// Length of the site in bytes.
    pub length: u64,
    /// State of the version on disk.
    pub disk: State,
    /// State of the other version.
    pub other: State,
    /// The instructions of both versions: length in bytes and control flow of each.
    pub flows: [Vec<(u8, Flow)>; 2],
    /// The largest block whose boundary the site crosses, in bytes (8, 16, 32, 64 or 4096), and the number of bytes
    /// before that boundary.
    pub crossing: Option<(u64, u64)>,
    /// Bit *n*: byte *n* differs between the versions.
    pub differs: u32,
    /// A site of another kind overlaps this one.
    pub shared: bool,
    /// The exception table names an instruction at one of the site's bytes.
    pub faulting: bool,
}

/// A site of a set of images.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Member {
    /// Index of the image.
    pub image: usize,
    /// Index in its [`Tables::sites`](super::Tables::sites).
    pub site: usize,
}

impl Member {
    /// Function and offset of the site.
    pub fn label(&self, images: &[Image]) -> String {
        let image = &images[self.image];
        image.label(&image.tables.sites[self.site])
    }
}

/// Sites with the same traits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Class {
    /// What they have in common.
    pub traits: Traits,
    /// The sites, ordered by image and address.
    pub members: Vec<Member>,
}

/// Groups the sites that pass a filter. Sites whose other version is unknown belong to no class; [`without_class`]
/// counts them.
pub fn classes(images: &[Image], filter: &Filter) -> Vec<Class> {
    let mut classes: BTreeMap<Traits, Vec<Member>> = BTreeMap::new();
    for (image_index, image) in images.iter().enumerate() {
        let index = ByAddress::new(&image.tables.sites);
        let wanted = image.tables.sites.iter().enumerate().filter(|(_, site)| filter.wants(image, site));
        for (site_index, site) in wanted {
            let Some(traits) = traits(image, &index, site) else { continue };
            classes.entry(traits).or_default().push(Member { image: image_index, site: site_index });
        }
    }
    classes.into_iter().map(|(traits, members)| Class { traits, members }).collect()
}

/// Counts, by kind, the sites that pass a filter and belong to no class, because the image does not say what they are
/// patched to or because nothing differs.
pub fn without_class(images: &[Image], filter: &Filter) -> BTreeMap<Kind, usize> {
    let mut counts = BTreeMap::new();
    for image in images {
        let wanted = image.tables.sites.iter().filter(|site| filter.wants(image, site));
        for site in wanted.filter(|site| Versions::of(image, site).is_none()) {
            *counts.entry(site.kind).or_default() += 1;
        }
    }
    counts
}

fn traits(image: &Image, index: &ByAddress<'_>, site: &Site) -> Option<Traits> {
    let versions = Versions::of(image, site)?;
    let mut neighbours = index.touching(site.address, site.end());
    let state = |version: usize| match site.kind {
        // The prefix, not the instruction that it precedes.
        Kind::Lock => State::of(&versions.bytes[version][..1]),
        _ => State::of(&versions.bytes[version]),
    };
    Some(Traits {
        kind: site.kind,
        length: site.len(),
        disk: state(0),
        other: state(1),
        flows: versions.flows(),
        crossing: site.crossing().zip(site.split()),
        differs: versions.differs(),
        // The table of call depth tracking lists ftrace's calls as well, but the kernel leaves those to ftrace.
        shared: neighbours.any(|index| {
            let kind = image.tables.sites[index].kind;
            kind != site.kind && kind != Kind::CallThunk
        }),
        faulting: !image.tables.exceptions_in(site.address, site.end()).is_empty(),
    })
}
