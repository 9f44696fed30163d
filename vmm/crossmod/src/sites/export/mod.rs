//! A real site as a scenario that runs by itself.
//!
//! Bytes and page offset are those of the image. Two things may be changed, neither of which changes the class of the
//! site ([`Traits`](crossmod_linux::Traits)) nor with it the verdict; the file says what was changed:
//!
//! * The explorer puts landing pads where branches lead, so that targets of a site that come to lie on top of one
//!   another, modulo a page, are moved apart: the lowest byte of a displacement is changed, to a value that differs from
//!   the other version's byte exactly where the real one did.
//! * What the explorer does not take (memory, system registers, jumps through registers) is exchanged for a stand-in: an
//!   instruction of the same length that goes on where the real one does, and whose bytes differ from the other
//!   version's where the real ones do.
//!
//! A site that is longer than a scenario's is cut behind the last instruction that fits, in both versions. A prefix is
//! stored alone, and stands there with its instruction.
//!
//! # What a trap does
//!
//! Under a protocol with INT3 the handler does what the new version would: `resume = "new"`, as the kernel does. Where
//! scenarios have no words for that:
//!
//! | new version | handler | the kernel |
//! |---|---|---|
//! | `xor %eax,%eax` with prefixes | `resume = "next"`: a pass enters with EAX 0 and the flags of XOR, and so ends as behind the XOR | emulates a call of `__static_call_return0`, which ends in the same way |
//! | a conditional jump | `resume = { at = ... }` or `"next"`: where those flags lead it | emulates the jump |
//! | anything else, several instructions included | `resume = "retry"`: a CPU that traps comes back to the site | never traps there: what `text_poke_bp()` cannot emulate is patched otherwise |
//!
//! `retry` waits for the patcher. In an NMI handler that the patcher waits for in its turn, both wait for ever: with
//! `nmi` above 0 such a scenario shows a `livelock` that is the handler's.

mod stand_in;
mod text;

pub use crossmod_linux::code::Flow;
pub use crossmod_linux::versions::Versions;
pub use stand_in::StandIn;
pub use text::file_stem;

use crate::linux::Image;
use crate::linux::code::pieces;
use crate::linux::nops::{self, Style};
use crate::linux::{Kind, Site, State};
use crate::scenario::{self, Scenario, ScenarioError};
use crate::x86::VendorRule;
use stand_in::{Level, Stood};

/// Which way a site is patched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// From what is on disk to the other version.
    Forward,
    /// Back.
    Back,
}

impl Direction {
    /// Both.
    pub const BOTH: [Direction; 2] = [Direction::Forward, Direction::Back];
}

/// Executors of a scenario.
pub const EXECUTORS: usize = 2;

/// How a site is patched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// Name of a shipped protocol.
    pub protocol: String,
    /// Vendor rule.
    pub rule: VendorRule,
    /// NMIs, whose handler runs the site.
    pub nmi: u8,
    /// Passes of each executor.
    pub passes: u8,
}

impl Question {
    /// A protocol under Intel's rule, without NMIs, two passes of each executor.
    pub fn new(protocol: &str) -> Question {
        Question { protocol: protocol.into(), rule: VendorRule::Intel, nmi: 0, passes: 2 }
    }

    /// The same, of a site that is simply stored over, under AMD's rule: what that allows needs nothing else.
    pub fn one_store(&self) -> Question {
        Question { protocol: "plain_store".into(), rule: VendorRule::Amd, ..self.clone() }
    }
}

/// A site that became a scenario.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exported {
    /// The scenario.
    pub scenario: Scenario,
    /// The bytes are not quite the site's: targets were moved apart, or there are stand-ins.
    pub adapted: bool,
    /// What stands for what.
    pub stand_ins: Vec<StandIn>,
    /// Bytes that differ between the versions where the real ones are equal, or the other way round; nearly always 0.
    /// The verdict is then one of the scenario, and of the site only as far as these do not matter.
    pub misses: usize,
    /// Bytes at the end of the site that are not in the scenario: see [`Versions::left_out`].
    pub left_out: usize,
}

/// Why a site is no scenario.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The image tells one version only.
    #[error(
        "{0}: the image does not tell what this {1} site is patched to\nhelp: say it with `--new`, as in `--new nop5` or `--new \"0f 1f 44 00 00\"`"
    )]
    OneVersion(String, Kind),
    /// A version that was given is not one of this site.
    #[error("{label}: the site has {site} bytes, and the new version {given}\nhelp: {help}")]
    Length {
        /// The site.
        label: String,
        /// Its length in bytes.
        site: usize,
        /// What was given, in bytes.
        given: usize,
        /// What to do.
        help: &'static str,
    },
    /// The scenario language cannot say it.
    #[error("{0}: this site cannot be written as a scenario")]
    Inexpressible(String, #[source] Box<ScenarioError>),
}

/// The site with another version than the image tells, padded with NOPs to its length.
///
/// # Errors
///
/// If it is longer than the site, empty, or what is there already.
pub fn with_new(image: &Image, site: &Site, new: &[u8]) -> Result<Site, ExportError> {
    let wrong = |help| ExportError::Length {
        label: text::plain(&image.label(site)),
        site: site.bytes.len(),
        given: new.len(),
        help,
    };
    if new.is_empty() || new.len() > site.bytes.len() {
        return Err(wrong("give at least one byte and at most as many as the site has; NOPs fill the rest"));
    }
    let mut other = new.to_vec();
    other.resize(site.bytes.len(), 0x90);
    nops::fill(&mut other[new.len()..], Style::Several);
    if other == site.bytes {
        return Err(wrong("these are its bytes already: give others"));
    }
    Ok(Site { other: Some(other), ..site.clone() })
}

/// The scenario of a site.
///
/// # Errors
///
/// If the image does not tell the other version, or the scenario language has no words for it.
pub fn scenario(
    image: &Image,
    site: &Site,
    question: &Question,
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
        let text = text::text(image, site, &versions, question, real, &candidate);
        let scenario = Scenario { path: path.clone(), name: name.clone(), text };
        let Candidate { adapted, stand_ins, misses, .. } = candidate;
        let left_out = versions.left_out;
        match scenario.plan(&scenario::Options::default()) {
            Ok(_) if misses == 0 => return Ok(Exported { scenario, adapted, stand_ins, misses, left_out }),
            Ok(_) if fallback.is_none() => {
                fallback = Some(Exported { scenario, adapted, stand_ins, misses, left_out });
            }
            Ok(_) => {}
            Err(first) => error = error.or(Some(first)),
        }
    }
    match (fallback, error) {
        (Some(exported), _) => Ok(exported),
        (None, Some(error)) => Err(ExportError::Inexpressible(label, Box::new(error))),
        (None, None) => Err(ExportError::OneVersion(label, site.kind)),
    }
}

/// Bytes to try.
struct Candidate {
    bytes: [Vec<u8>; 2],
    adapted: bool,
    stand_ins: Vec<StandIn>,
    misses: usize,
}

/// As few changes as possible first.
fn candidates<'a>(real: [&'a [u8]; 2], address: u64) -> impl Iterator<Item = Candidate> + 'a {
    let both = real.map(|bytes| pieces(bytes, address));
    let taken = both.iter().flatten().all(|piece| piece.refused.is_none());
    let as_they_are = moved(real).enumerate().filter(move |_| taken).map(|(index, bytes)| Candidate {
        bytes,
        adapted: index > 0,
        stand_ins: Vec::new(),
        misses: 0,
    });
    let levels = [Level::Refused, Level::All].into_iter().skip(usize::from(taken));
    let stood = levels.flat_map(move |level| {
        let stood: Vec<_> = stand_in::stand_ins(real, [&both[0], &both[1]], level).collect();
        stood.into_iter().map(|Stood { bytes, stand_ins, misses }| Candidate {
            bytes,
            adapted: true,
            stand_ins,
            misses,
        })
    });
    as_they_are.chain(stood)
}

/// The real bytes first, then variants with other targets: the new one's, the old one's, both.
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
            // Two targets that both move do not move together.
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

/// Where the lowest byte of a branch's displacement is.
fn displacement(bytes: &[u8]) -> Option<usize> {
    let at = match State::of(bytes) {
        State::Jmp | State::Call => 1,
        State::Jcc if bytes.len() > 2 => 2,
        State::Jcc => 1,
        _ => return None,
    };
    // A branch may be cut by the end of what is said to be the site.
    (at < bytes.len()).then_some(at)
}
