//! Turns a site into scenarios.
//!
//! Bytes and page offset are those of the image. Two changes are possible. Neither changes the class of the site
//! ([`Traits`](crossmod_linux::Traits)), nor therefore the verdict, and the file describes them:
//!
//! * The explorer places landing pads at branch targets. Targets that would overlap, modulo a page, are moved apart: the
//!   lowest byte of a displacement gets a value that differs from the other version's byte exactly where the real one
//!   does.
//! * An instruction that cannot run outside its kernel (memory, system registers, jumps through registers) is replaced by
//!   a stand-in: an instruction of the same length that continues where the real one does, and whose bytes differ from
//!   the other version's where the real ones do.
//!
//! A site that is too long for a scenario is cut after the last instruction that fits, in both versions. A prefix is
//! stored alone; the scenario's site also contains its instruction.
//!
//! # What a trap does
//!
//! Under a protocol with INT3, the handler does what the new version would, as the kernel does: `resume = "new"`. If
//! scenarios cannot express that:
//!
//! | new version | handler | the kernel |
//! |---|---|---|
//! | `xor %eax,%eax` with prefixes | `resume = "next"`: a pass begins with EAX 0 and the flags of XOR, so it ends as after the XOR | emulates a call of `__static_call_return0`, with the same result |
//! | a conditional jump | `resume = { at = ... }` or `"next"`: where the flags of a pass lead it | emulates the jump |
//! | anything else, including several instructions | `resume = "retry"`: a CPU that traps returns to the site | never traps there: `text_poke_bp()` does not patch what it cannot emulate |
//!
//! `retry` waits for the patcher. In an NMI handler that the patcher waits for, this deadlocks: with `nmi` above 0, such a
//! scenario has a `livelock` that is an artefact of the handler.

mod stand_in;
mod text;

pub use crossmod_linux::code::Flow;
pub use crossmod_linux::versions::Versions;
pub use stand_in::StandIn;
pub use text::file_stem;

use crossmod_linux::code::decode;
use crossmod_linux::nops::{self, Style};
use crossmod_linux::{Image, Kind, Site, State};

use crate::scenario::{self, Scenario, ScenarioError};
use crate::x86::VendorRule;

/// The direction in which a site is patched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// From the version on disk to the other one.
    Forward,
    /// From the other version to the one on disk.
    Back,
}

impl Direction {
    /// Both directions.
    pub const BOTH: [Direction; 2] = [Direction::Forward, Direction::Back];
}

/// Number of executors of a scenario.
pub const EXECUTORS: usize = 2;

/// How a site is patched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PatchSetup {
    /// Name of a shipped protocol.
    pub protocol: String,
    /// Vendor rule.
    pub rule: VendorRule,
    /// Number of NMIs; their handler runs the site.
    pub nmi: u8,
    /// Passes of each executor.
    pub passes: u8,
}

impl PatchSetup {
    /// A protocol under Intel's rule, without NMIs, two passes of each executor.
    pub fn new(protocol: &str) -> PatchSetup {
        PatchSetup { protocol: protocol.into(), rule: VendorRule::Intel, nmi: 0, passes: 2 }
    }

    /// The same setup with a single store instead of the protocol, under AMD's rule: sites that this can patch need
    /// nothing else.
    pub fn one_store(&self) -> PatchSetup {
        PatchSetup { protocol: "plain_store".into(), rule: VendorRule::Amd, ..self.clone() }
    }
}

/// The scenario of a site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exported {
    /// The scenario.
    pub scenario: Scenario,
    /// The bytes are not exactly those of the site: targets were moved apart, or there are stand-ins.
    pub adapted: bool,
    /// The stand-ins.
    pub stand_ins: Vec<StandIn>,
    /// Number of bytes that differ between the versions where the real ones are equal, or the other way round. It is
    /// nearly always 0; otherwise the verdict holds for the site only if these bytes do not matter.
    pub misses: usize,
    /// Number of bytes at the end of the site that are not in the scenario: see [`Versions::left_out`].
    pub left_out: usize,
}

/// The reason why a site cannot become a scenario.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The image defines one version only.
    #[error(
        "{0}: the image does not say what this {1} site is patched to\nhelp: give the new version with `--new`, as in `--new nop5` or `--new \"0f 1f 44 00 00\"`"
    )]
    OneVersion(String, Kind),
    /// The given version does not fit the site: the site, its length, that of the version in bytes, and the remedy.
    #[error("{0}: the site has {1} bytes, the new version {2}\nhelp: {3}")]
    Length(String, usize, usize, &'static str),
    /// The scenario language cannot express the site.
    #[error("{0}: this site cannot be written as a scenario: {1}")]
    Inexpressible(String, Box<ScenarioError>),
}

/// The site with a given new version, padded with NOPs.
///
/// # Errors
///
/// If the version is empty, longer than the site, or equal to the one on disk.
pub fn with_new(image: &Image, site: &Site, new: &[u8]) -> Result<Site, ExportError> {
    let (label, length) = (text::plain(&image.label(site)), site.bytes.len());
    let wrong = |help| ExportError::Length(label, length, new.len(), help);
    if new.is_empty() || new.len() > length {
        return Err(wrong("give between one byte and the length of the site; NOPs fill the rest"));
    }
    let mut other = new.to_vec();
    other.resize(length, 0x90);
    nops::fill(&mut other[new.len()..], Style::Several);
    if other == site.bytes {
        return Err(wrong("give bytes that differ from those on disk"));
    }
    Ok(Site { other: Some(other), ..site.clone() })
}

/// Makes the scenario of a site.
///
/// # Errors
///
/// If the image does not define the other version, or the scenario language cannot express the site.
pub fn scenario(
    image: &Image,
    site: &Site,
    setup: &PatchSetup,
    direction: Direction,
) -> Result<Exported, ExportError> {
    let label = text::plain(&image.label(site));
    let Some(versions) = Versions::of(image, site) else {
        return Err(ExportError::OneVersion(label, site.kind));
    };
    let [disk, other] = versions.bytes.each_ref().map(Vec::as_slice);
    let (real, name) = match direction {
        Direction::Forward => ([disk, other], format!("sites/{label}")),
        Direction::Back => ([other, disk], format!("sites/{label}-back")),
    };
    let path = format!("{}.toml", file_stem(&name));
    let (mut error, mut fallback) = (None, None);
    for candidate in candidates(real, versions.address) {
        let text = text::text(image, site, &versions, setup, real, &candidate);
        let scenario = Scenario { path: path.clone(), name: name.clone(), text };
        match scenario.plan(&scenario::Options::default()) {
            Ok(_) => {
                let Candidate { adapted, stand_ins, misses, .. } = candidate;
                let exported = Exported { scenario, adapted, stand_ins, misses, left_out: versions.left_out };
                if misses == 0 {
                    return Ok(exported);
                }
                fallback.get_or_insert(exported);
            }
            Err(first) => {
                error.get_or_insert(first);
            }
        }
    }
    fallback.ok_or_else(|| match error {
        Some(error) => ExportError::Inexpressible(label, Box::new(error)),
        None => ExportError::OneVersion(label, site.kind),
    })
}

/// Versions to try: see [`Exported`].
#[derive(Debug)]
struct Candidate {
    bytes: [Vec<u8>; 2],
    adapted: bool,
    stand_ins: Vec<StandIn>,
    misses: usize,
}

/// Versions to try, those with the fewest changes first.
fn candidates<'a>(real: [&'a [u8]; 2], address: u64) -> impl Iterator<Item = Candidate> + 'a {
    let both = real.map(|bytes| decode(bytes, address));
    let taken = both.iter().flatten().all(|insn| insn.refused.is_none());
    let as_they_are = moved(real).enumerate().filter(move |_| taken);
    let as_they_are = as_they_are.map(|(index, bytes)| Candidate {
        bytes,
        adapted: index > 0,
        stand_ins: Vec::new(),
        misses: 0,
    });
    let levels = [false, true].into_iter().skip(usize::from(taken));
    let substituted =
        levels.flat_map(move |all| stand_in::stand_ins(real, [&both[0], &both[1]], all).collect::<Vec<_>>());
    as_they_are.chain(substituted)
}

/// The real bytes, then variants with another target of the new version, of the old one, or of both.
fn moved(real: [&[u8]; 2]) -> impl Iterator<Item = [Vec<u8>; 2]> + use<> {
    let original = real.map(<[u8]>::to_vec);
    let places = real.map(displacement);
    let equal: Vec<bool> = real[0].iter().zip(real[1]).map(|(old, new)| old == new).collect();
    let variants = original.clone();
    let moves = [[false, true], [true, false], [true, true]]
        .into_iter()
        .flat_map(|which| (1..32).map(move |step| (which, step * 8)));
    let moved = moves.filter_map(move |(which, step): ([bool; 2], u8)| {
        let mut bytes = variants.clone();
        for version in [0, 1].into_iter().filter(|version| which[*version]) {
            let at = places[version]?;
            // If both targets move, they move by different distances.
            bytes[version][at] = bytes[version][at].wrapping_add(step.wrapping_mul(version as u8 + 1));
            if equal[at] {
                bytes[1 - version][at] = bytes[version][at];
            }
        }
        let same = bytes[0].iter().zip(&bytes[1]).map(|(old, new)| old == new).eq(equal.iter().copied());
        same.then_some(bytes)
    });
    std::iter::once(original).chain(moved)
}

/// Offset of the lowest byte of a branch's displacement.
fn displacement(bytes: &[u8]) -> Option<usize> {
    let at = match State::of(bytes) {
        State::Jmp | State::Call => 1,
        State::Jcc if bytes.len() > 2 => 2,
        State::Jcc => 1,
        _ => return None,
    };
    // The end of the site may cut the branch.
    (at < bytes.len()).then_some(at)
}
