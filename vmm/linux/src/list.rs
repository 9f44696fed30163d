//! Sites one by one: filters, and rows for lists.

use serde::Serialize;

use crate::hex::hex;
use crate::image::Image;
use crate::site::{Kind, Site, State};
use crate::symbols::matches;

/// A selection of sites.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Sites of these kinds; of all kinds if empty.
    pub kinds: Vec<Kind>,
    /// Sites in functions that match this pattern; `*` matches anything, at either end.
    pub function: Option<String>,
    /// Sites that cross a boundary of this many bytes.
    pub crossing: Option<u64>,
    /// Sites of this length in bytes.
    pub length: Option<u64>,
    /// Sites in this state on disk.
    pub state: Option<State>,
}

impl Filter {
    /// True if every site passes.
    pub fn is_empty(&self) -> bool {
        *self == Filter::default()
    }

    /// True if a site passes.
    pub fn wants(&self, image: &Image, site: &Site) -> bool {
        (self.kinds.is_empty() || self.kinds.contains(&site.kind))
            && self.crossing.is_none_or(|boundary| site.crosses(boundary))
            && self.length.is_none_or(|length| site.len() == length)
            && self.state.is_none_or(|state| site.state() == state)
            && self.function.as_ref().is_none_or(|pattern| matches(pattern, image.function(site)))
    }
}

/// A site as a row of a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SiteRow {
    /// The file.
    pub image: String,
    /// Name of the kind.
    pub kind: &'static str,
    /// Function and offset.
    pub site: String,
    /// Address, in hex.
    pub address: String,
    /// Number of bytes that are patched.
    pub length: u64,
    /// State on disk.
    pub state: &'static str,
    /// The bytes on disk, in hex.
    pub bytes: String,
    /// The other version, in hex, if the image defines it.
    pub other: Option<String>,
    /// The largest boundary that the site crosses, in bytes.
    pub crossing: Option<u64>,
    /// Number of bytes before that boundary.
    pub split: Option<u64>,
    /// True in tail position.
    pub tail: bool,
    /// Label of the branch target or, for an alternative, of its replacement.
    pub target: Option<String>,
    /// Address of the target, in hex.
    pub target_address: Option<String>,
    /// Label of the key.
    pub key: Option<String>,
    /// Address of the key, in hex.
    pub key_address: Option<String>,
    /// Feature and flags of an alternative.
    pub feature: Option<u32>,
}

/// Lists the sites that pass a filter.
pub fn rows<'a>(images: &'a [Image], filter: &'a Filter) -> impl Iterator<Item = SiteRow> + 'a {
    let address = |address: u64| format!("{address:#x}");
    images.iter().flat_map(move |image| {
        let label = |address: u64| image.binary.symbols.label(address);
        image.tables.sites.iter().filter(|site| filter.wants(image, site)).map(move |site| SiteRow {
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
