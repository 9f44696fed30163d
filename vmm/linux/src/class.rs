//! Classes: sites that every protocol and every fetch model treats alike.
//!
//! What decides a verdict is not the address. It is
//!
//! * how long the site is, and what stands there before and after: a NOP, a jump, a call, ...; where it is several
//!   instructions, how long each is, and where control goes after it;
//! * where an aligned block ends inside of it, and how large the largest block is that ends there: an atom of 8 bytes,
//!   a cache line and a page end at different places of different sites;
//! * which bytes differ. A store of bytes that stay equal changes nothing: `0f 1f 44 00 00` and `e9 8b 00 00 00` split
//!   3+2 differ on one side only, so that half a store is a whole one.
//!
//! A displacement's value beyond that only says where control goes. Sites are therefore grouped, each class is
//! judged once, by a representative, and its verdict holds for all of its members.
//!
//! Blocks larger than the site have at most one boundary in it, and the boundaries of smaller ones (atoms of one byte)
//! are in the same places in all sites of a length.

use std::collections::BTreeMap;

use super::code::Flow;
use super::flow::ByAddress;
use super::image::Image;
use super::inventory::Filter;
use super::site::{Kind, Site, State};
use super::versions::Versions;

/// What all members of a class have in common.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Traits {
    /// Why it is patched.
    pub kind: Kind,
    /// Bytes.
    pub length: u64,
    /// The sort of what is on disk.
    pub disk: State,
    /// The sort of the other version.
    pub other: State,
    /// The instructions of both versions: bytes of each, and what it does.
    pub flows: [Vec<(u8, Flow)>; 2],
    /// The largest boundary that it crosses, in bytes (8, 16, 32, 64 or 4096), and how many bytes lie before it.
    pub crossing: Option<(u64, u64)>,
    /// Bit *n*: byte *n* differs between the versions.
    pub differs: u32,
    /// Another kind's site shares some of its bytes.
    pub shared: bool,
    /// An instruction of the exception table or a fixup is at one of its bytes.
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

/// Sites that are judged alike.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Class {
    /// What they have in common.
    pub traits: Traits,
    /// All of them, in the order of images and addresses; the first stands for all.
    pub members: Vec<Member>,
}

/// Groups the sites that a filter wants. Sites whose other version the image does not tell are in no class:
/// [`without_class`] counts them.
pub fn classes(images: &[Image], filter: &Filter) -> Vec<Class> {
    let mut classes: BTreeMap<Traits, Vec<Member>> = BTreeMap::new();
    for (image_index, image) in images.iter().enumerate() {
        let index = ByAddress::new(&image.tables.sites);
        for (site_index, site) in image.tables.sites.iter().enumerate() {
            let Some(traits) = filter.wants(image, site).then(|| traits(image, &index, site)).flatten()
            else {
                continue;
            };
            classes.entry(traits).or_default().push(Member { image: image_index, site: site_index });
        }
    }
    classes.into_iter().map(|(traits, members)| Class { traits, members }).collect()
}

/// Sites that a filter wants and that are in no class, by kind: where the image does not tell what they are patched to,
/// or where nothing differs.
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
    let range = site.address..site.end();
    let mut neighbours = index.touching(site.address, site.end());
    let exceptions = &image.tables.exceptions;
    let after = exceptions.partition_point(|exception| exception.address < site.address);
    let state = |version: usize| match site.kind {
        // The prefix, not the instruction that it stands before.
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
        // Call depth tracking names ftrace's calls too, and leaves them to ftrace.
        shared: neighbours.any(|index| {
            let kind = image.tables.sites[index].kind;
            kind != site.kind && kind != Kind::CallThunk
        }),
        faulting: exceptions.get(after).is_some_and(|exception| range.contains(&exception.address)),
    })
}
