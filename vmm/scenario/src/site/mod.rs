//! From the `[site]` table to bytes, instruction boundaries and landing pads.

mod landing_pads;
mod version;

use crossmod_abi::va;
use crossmod_model::layout::{FILLER, pad_code};
use crossmod_model::plan::{Code, Pad, Part, Site};
use iced_x86::FlowControl;

pub use self::version::bytes;
pub(crate) use self::version::{Version, emulate};
use self::version::{decode, named, unknown_name, version};
use super::built_in::LAST_OFFSET;
use super::error::{Place, ScenarioError, suggest};
use super::spanned::Spanned;
use super::syntax::{self, Sites};
use super::tags::is_tag;
use super::value::{self, hex};

/// Maximum length of all parts together, in bytes.
const LONGEST_SITE: usize = 32;
/// Most parts of one: each has a register of the guest's.
const MOST_PARTS: usize = 3;

/// What the rest of a scenario is checked against.
#[derive(Debug)]
pub(super) struct Resolved {
    pub site: Site,
    pub pads: Vec<Pad>,
    /// Old and new of each part.
    pub versions: Vec<[Version; 2]>,
    /// Addresses that `free` may withdraw: the first branch target of old and of new, of any part.
    pub targets: [Option<u64>; 2],
}

impl Resolved {
    /// One version of a part.
    pub fn version(&self, part: usize, new: bool) -> &Version {
        &self.versions[part][usize::from(new)]
    }

    /// Where a part begins.
    pub fn begin(&self, part: usize) -> u64 {
        self.site.address + self.site.parts[part].offset as u64
    }

    /// Where it ends.
    pub fn end(&self, part: usize) -> u64 {
        self.begin(part) + self.site.parts[part].len as u64
    }

    /// The part with a name, if there is one; `site` is the first.
    pub fn find(&self, name: &str) -> Option<usize> {
        if name == "site" { Some(0) } else { self.names().iter().position(|known| *known == name) }
    }

    /// The part with a name.
    pub fn part(&self, name: &str, place: &Place) -> Result<usize, ScenarioError> {
        let names = self.names();
        names.iter().position(|known| *known == name).ok_or_else(|| {
            let help = suggest(name, &names, "give each [[site]] a `name`");
            place.error(format!("there is no site `{name}`"), "unknown site", help)
        })
    }

    /// The names of the parts; none if the only one has no name.
    fn names(&self) -> Vec<&str> {
        self.site.parts.iter().map(|part| part.name.as_str()).filter(|name| !name.is_empty()).collect()
    }
}

/// Resolves the table, or the list of tables. `int3` says whether anybody stores 0xCC over a first byte.
pub(super) fn resolve(table: &Spanned<Sites>, int3: bool) -> Result<Resolved, ScenarioError> {
    let place = &table.place;
    let mut tables: Vec<(&syntax::Site, &Place)> = match &table.value {
        Sites::One(one) => vec![(one, place)],
        Sites::Several(list) => list.iter().map(|one| (&one.value, &one.place)).collect(),
    };
    if tables.is_empty() || tables.len() > MOST_PARTS {
        return Err(place.error(
            format!("{} sites", tables.len()),
            "too few or too many",
            format!("describe 1 to {MOST_PARTS} of them"),
        ));
    }
    tables.sort_by_key(|(table, _)| table.offset.value);
    let (mut parts, mut versions): (Vec<Part>, Vec<[Version; 2]>) = (Vec::new(), Vec::new());
    let several = tables.len() > 1;
    let base = value::ranged(&tables[0].0.offset, "a page offset", 0, LAST_OFFSET)? as u64;
    for (table, place) in &tables {
        let offset = value::ranged(&table.offset, "a page offset", 0, LAST_OFFSET)? as u64;
        let name = part_name(table, place, several, &parts)?;
        let address = va::SITE + offset;
        let old = version(&table.old, table.old_target.as_ref(), [0, parts.len()], address)?;
        let new = version(&table.new, table.new_target.as_ref(), [1, parts.len()], address)?;
        let (old_len, new_len) = (old.code.bytes.len(), new.code.bytes.len());
        if old_len != new_len {
            return Err(new.place.error(
                format!("old has {old_len} bytes and new has {new_len}"),
                "of another length than `old`",
                "give both versions the same length: fill the shorter one with NOPs (`nop1` to `nop9` in a list)",
            ));
        }
        let part = Part { name, offset: (offset - base) as usize, len: old_len };
        let end = parts.last().map_or(0, |last| last.offset + last.len);
        // What follows a site, unless the next one does at once, is a landing pad.
        if part.offset < end
            || (part.offset > end && part.offset < end + landing_pads::PAD as usize && !parts.is_empty())
        {
            return Err(place.error(
                "this site overlaps another one, or the landing pad after it",
                "overlaps",
                format!("begin right after the other site, or {} bytes later or more", landing_pads::PAD),
            ));
        }
        if part.offset + part.len > LONGEST_SITE {
            return Err(place.error(
                format!("the sites are more than {LONGEST_SITE} bytes apart"),
                "too far",
                "move them closer together: only the blocks in which they lie matter",
            ));
        }
        parts.push(part);
        versions.push([old, new]);
    }
    build(&tables, base, parts, versions, int3)
}

/// The whole site: the parts' bytes, and between them the pads that follow a part.
fn build(
    tables: &[(&syntax::Site, &Place)],
    base: u64,
    parts: Vec<Part>,
    versions: Vec<[Version; 2]>,
    int3: bool,
) -> Result<Resolved, ScenarioError> {
    let address = va::SITE + base;
    let len = parts.last().map_or(0, |last| last.offset + last.len);
    let code = |which: usize| {
        let mut bytes = vec![FILLER; len];
        let mut boundaries = Vec::new();
        for (part, version) in parts.iter().zip(&versions) {
            let own = &version[which].code;
            bytes[part.offset..part.offset + part.len].copy_from_slice(&own.bytes);
            boundaries.extend(own.boundaries.iter().map(|boundary| part.offset + boundary));
        }
        Code { bytes, boundaries }
    };
    let mut site = Site { address, old: code(0), new: code(1), intermediates: Vec::new(), parts };
    let mut pads = Vec::new();
    let mut targets = [None; 2];
    for part in &site.parts {
        let next = address + (part.offset + part.len) as u64;
        if site.entry(part.offset + part.len).is_none() {
            let name = if part.name.is_empty() { "next".into() } else { format!("next of {}", part.name) };
            landing_pads::after(&mut pads, next, name);
        }
    }
    for (part, [old, new]) in site.parts.iter().zip(&versions) {
        let name = |which: &str| match part.name.as_str() {
            "" => format!("{which} target"),
            name => format!("{which} target of {name}"),
        };
        let old_target = landing_pads::add(&mut pads, &site, part, old, &name("old"), [2, 0x10])?;
        let new_target = landing_pads::add(&mut pads, &site, part, new, &name("new"), [4, 0x20])?;
        targets = [targets[0].or(old_target), targets[1].or(new_target)];
    }
    // Pads between parts are text that never changes.
    for pad in &pads {
        if !site.contains(pad.address) {
            continue;
        }
        let at = (pad.address - address) as usize;
        for code in [&mut site.old, &mut site.new] {
            code.bytes[at..at + landing_pads::PAD as usize].copy_from_slice(&pad_code(pad.mark));
            code.boundaries.extend([at, at + 3]);
            code.boundaries.sort_unstable();
        }
    }
    if int3 {
        site.intermediates.push(vec![0xcc]);
    }
    for (table, _) in tables {
        for text in &table.intermediates {
            let bytes = intermediate(&site, &pads, text, &text.place)?;
            if !site.intermediates.contains(&bytes) {
                site.intermediates.push(bytes);
            }
        }
    }
    Ok(Resolved { site, pads, versions, targets })
}

fn part_name(
    table: &syntax::Site,
    place: &Place,
    several: bool,
    others: &[Part],
) -> Result<String, ScenarioError> {
    let Some(name) = &table.name else {
        return if several {
            Err(place.error("each of several sites needs a name", "nameless", "add `name = \"...\"`"))
        } else {
            Ok(String::new())
        };
    };
    let text = &name.value;
    let reserved = ["a", "b", "c", "all", "site", "old", "new", "next"].contains(&text.as_str());
    if !is_tag(text) || reserved || others.iter().any(|part| part.name == *text) {
        return Err(name.place.error(
            format!("`{text}` cannot be the name of this site"),
            "not a name, or taken",
            "use small letters, digits and `-`, and each name once",
        ));
    }
    Ok(text.clone())
}

fn intermediate(site: &Site, pads: &[Pad], text: &str, place: &Place) -> Result<Vec<u8>, ScenarioError> {
    let Some(bytes) = hex(text).or_else(|| named(text)) else {
        return Err(unknown_name(text, place));
    };
    let instructions = decode(&bytes, site.address, place, false)?;
    let [instruction] = instructions.as_slice() else {
        return Err(place.error(
            format!("an intermediate is one instruction, not {}", instructions.len()),
            "more than one",
            "list each instruction as an intermediate of its own",
        ));
    };
    if bytes.len() > site.len() {
        return Err(place.error(
            format!("the intermediate has {} bytes, the site {}", bytes.len(), site.len()),
            "longer than the site",
            "an intermediate must fit into the site",
        ));
    }
    let branches = !matches!(
        instruction.flow_control(),
        FlowControl::Next | FlowControl::Interrupt | FlowControl::Return
    );
    let target = instruction.near_branch_target();
    if branches && !site.contains(target) && pads.iter().all(|pad| pad.address != target) {
        return Err(place.error(
            format!("`{instruction}` jumps to {target:#x}, which has no landing pad"),
            "leads nowhere",
            "jump to the end of the site, to the target of old or new, or into the site",
        ));
    }
    Ok(bytes)
}
