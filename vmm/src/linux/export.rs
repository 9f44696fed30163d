//! A real site as a scenario that runs by itself.
//!
//! Bytes and page offset are those of the image. The explorer puts landing pads where branches lead, so that targets
//! of a site that come to lie on top of one another, modulo a page, are moved apart: the lowest byte of a displacement
//! is changed, to a value that differs from the other version's byte exactly where the real one did. The class
//! of the site ([`Traits`](super::Traits)), and with it the verdict, stays the same; the file says what was changed.

use std::fmt::Write;

use super::image::Image;
use super::inventory::hex;
use super::site::{Kind, Site, State};
use crate::scenario::{self, Scenario, ScenarioError};

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

/// How a site is patched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// Name of a shipped protocol.
    pub protocol: String,
    /// Vendor rule, `intel` or `amd`.
    pub rule: String,
    /// NMIs, whose handler runs the site.
    pub nmi: u8,
    /// Passes of each of two executors.
    pub passes: u8,
}

impl Question {
    /// A protocol under Intel's rule, without NMIs, two passes of each executor.
    pub fn new(protocol: &str) -> Question {
        Question { protocol: protocol.into(), rule: "intel".into(), nmi: 0, passes: 2 }
    }
}

/// A site that became a scenario.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exported {
    /// The scenario.
    pub scenario: Scenario,
    /// The bytes are not quite the site's: targets were moved apart.
    pub adapted: bool,
}

/// Why a site is no scenario.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The image tells one version only.
    #[error(
        "{0}: the image does not tell what this {1} site is patched to; jump labels, static calls and mcount sites can be exported"
    )]
    OneVersion(String, Kind),
    /// The scenario language cannot say it.
    #[error("{0}: this site cannot be written as a scenario")]
    Inexpressible(String, #[source] Box<ScenarioError>),
}

/// Names and banners may hold anything; files get what is printable, and no quotes.
fn plain(text: &str) -> String {
    text.chars()
        .map(|c| if (c.is_ascii_graphic() && c != '"' && c != '\\') || c == ' ' { c } else { '?' })
        .collect()
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
    let label = plain(&image.label(site));
    let Some(other) = &site.other else { return Err(ExportError::OneVersion(label, site.kind)) };
    let real = match direction {
        Direction::Forward => [&site.bytes[..], other],
        Direction::Back => [other, &site.bytes[..]],
    };
    let name = match direction {
        Direction::Forward => format!("sites/{label}"),
        Direction::Back => format!("sites/{label}-back"),
    };
    let scenario = |bytes: &[Vec<u8>; 2], adapted: bool| {
        let text = text(image, site, question, [&bytes[0], &bytes[1]], adapted.then_some(real));
        Scenario { path: format!("{}.toml", file_stem(&name)), name: name.clone(), text }
    };
    let mut error = None;
    for (index, bytes) in candidates(real).enumerate() {
        let scenario = scenario(&bytes, index > 0);
        match scenario.plan(&scenario::Options::default()) {
            Ok(_) => return Ok(Exported { scenario, adapted: index > 0 }),
            Err(first) => error = error.or(Some(first)),
        }
    }
    Err(match error {
        Some(error) => ExportError::Inexpressible(label, Box::new(error)),
        None => ExportError::OneVersion(label, site.kind),
    })
}

/// A file name for a scenario's name, without extension.
pub fn file_stem(name: &str) -> String {
    let short = name.strip_prefix("sites/").unwrap_or(name);
    short.chars().map(|c| if c.is_ascii_alphanumeric() || "_.+-".contains(c) { c } else { '_' }).collect()
}

/// The real bytes first, then variants with other targets: the new one's, the old one's, both.
fn candidates(real: [&[u8]; 2]) -> impl Iterator<Item = [Vec<u8>; 2]> {
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
    match State::of(bytes) {
        State::Jmp | State::Call => Some(1),
        State::Jcc if bytes.len() > 2 => Some(2),
        State::Jcc => Some(1),
        _ => None,
    }
}

/// What one version is, in words.
fn version(image: &Image, site: &Site, bytes: &[u8]) -> String {
    let state = State::of(bytes);
    let end = site.end();
    let target = match bytes {
        [0xeb, distance] => Some(end.wrapping_add_signed(i64::from(*distance as i8))),
        [.., a, b, c, d] if matches!(state, State::Jmp | State::Call | State::Jcc) => {
            Some(end.wrapping_add_signed(i32::from_le_bytes([*a, *b, *c, *d]).into()))
        }
        _ => None,
    };
    match target {
        Some(target) => {
            format!("{} to {}, {target:#x}", state.name(), plain(&image.binary.symbols.label(target)))
        }
        None => format!("{}, {} bytes", state.name(), bytes.len()),
    }
}

fn sort(site: &Site) -> &'static str {
    match (site.kind, site.tail) {
        (Kind::JumpLabel, _) => "jump label",
        (Kind::StaticCall, true) => "static call in tail position",
        (Kind::StaticCall, false) => "static call",
        (Kind::Mcount, _) => "entry of a traced function",
        (kind, _) => kind.name(),
    }
}

fn place(site: &Site) -> String {
    let Some((boundary, split)) = site.crossing().zip(site.split()) else {
        return "lies inside an aligned quadword".into();
    };
    let what = match boundary {
        4096 => "page".to_owned(),
        64 => "cache line".to_owned(),
        8 => "quadword".to_owned(),
        other => format!("block of {other} bytes"),
    };
    format!("crosses the end of a {what}, {split} bytes before and {} after", site.len() - split)
}

fn text(
    image: &Image,
    site: &Site,
    question: &Question,
    [old, new]: [&[u8]; 2],
    real: Option<[&[u8]; 2]>,
) -> String {
    let label = plain(&image.label(site));
    let Question { protocol, rule, nmi, passes } = question;
    let mut text = String::new();
    let mut line = |words: std::fmt::Arguments<'_>| {
        let _ = writeln!(text, "{words}");
    };
    let release = image.release.as_deref().map_or("?", |release| release.split(" (").next().unwrap_or("?"));
    line(format_args!("# A {} of Linux {} ({}).", sort(site), plain(release), plain(&image.name)));
    line(format_args!("# site:  {label}, {:#x}", site.address));
    let [real_old, real_new] = real.unwrap_or([old, new]);
    line(format_args!("# old:   {} ({})", hex(real_old), version(image, site, real_old)));
    line(format_args!("# new:   {} ({})", hex(real_new), version(image, site, real_new)));
    if let Some(key) = site.key {
        line(format_args!("# key:   {}", plain(&image.binary.symbols.label(key))));
    }
    line(format_args!("# It {}.", place(site)));
    if real.is_some() {
        line(format_args!(
            "# Its targets are too near to one another for landing pads: below, they are moved apart. Which bytes\n\
             # differ, and where blocks end, is as it was."
        ));
    }
    line(format_args!("title = \"{label}, {} by {protocol}\"", sort(site)));
    line(format_args!("tags = [\"linux\", \"{}\"]", site.kind));
    line(format_args!("protocol = \"{protocol}\"\nexpect = \"safe\"\nrule = \"{rule}\"\n"));
    line(format_args!("[site]\nold = \"{}\"\nnew = \"{}\"", hex(old), hex(new)));
    line(format_args!("offset = {:#x}\n", site.address % 4096));
    line(format_args!("[executors]\ncount = 2\npasses = {passes}"));
    if *nmi > 0 {
        line(format_args!("\n[events]\nnmi = {nmi}               # its handler runs the site"));
    }
    // The kernel's handler emulates what an `xor` or a return stands for; here it can do what the old version did.
    let handled =
        scenario::protocols().iter().any(|(name, text)| name == protocol && text.contains("[handler]"));
    if handled && matches!(State::of(new), State::Zero | State::Ret | State::Jcc | State::Code) {
        line(format_args!("\n[handler]\nresume = \"old\""));
    }
    text
}
