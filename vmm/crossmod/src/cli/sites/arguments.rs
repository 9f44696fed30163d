//! Arguments of `crossmod sites`.

use std::path::PathBuf;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, ValueEnum};
use crossmod::linux::{BOUNDARIES, Filter, Kind, State};
use crossmod::scenario;
use crossmod::sites::export::PatchSetup;
use crossmod::x86::VendorRule;
use itertools::Itertools;

use crate::cli::Failure;

#[derive(Args)]
#[command(after_help = include_str!("../help/sites.txt"))]
pub struct Arguments {
    /// Kernels (bzImage or vmlinux), modules (.ko, .ko.gz, .ko.xz, .ko.zst), or directories of modules.
    #[arg(required = true, value_name = "IMAGE")]
    pub images: Vec<PathBuf>,
    /// List the sites.
    #[arg(long)]
    pub list: bool,
    /// Only sites of this kind; may be repeated.
    #[arg(long, value_parser = kind, value_name = "KIND")]
    kind: Vec<Kind>,
    /// Only sites in this function.
    #[arg(long, value_name = "NAME")]
    function: Option<String>,
    /// Only sites that cross a boundary of this many bytes: 8, 16, 32, 64 or 4096.
    #[arg(long, value_parser = boundary, value_name = "BYTES")]
    crossing: Option<u64>,
    /// Only sites of this length.
    #[arg(long, value_name = "BYTES")]
    length: Option<u64>,
    /// Only sites in this state on disk, such as `nop`, `jmp` or `call`.
    #[arg(long, value_parser = state, value_name = "STATE")]
    state: Option<State>,
    /// Compare two images.
    #[arg(long, conflicts_with_all = ["export", "judge", "windows"])]
    pub diff: bool,
    /// Write the scenarios of a site, one for each direction, into a directory.
    #[arg(long, num_args = 2, value_names = ["SITE", "DIR"], conflicts_with_all = ["list", "judge", "windows"])]
    pub export: Option<Vec<String>>,
    /// The new version for --export, if the image does not define it or you want another: bytes in hex, or instructions
    /// by name. NOPs fill the rest of the site.
    #[arg(long, value_name = "BYTES|NAME", requires = "export")]
    pub new: Option<String>,
    /// Shipped protocol of --export.
    #[arg(long, value_name = "PROTOCOL", default_value = "text_poke_fixup", requires = "export")]
    pub protocol: String,
    /// Judge every jump label and static call, or the kinds of --kind, as patched by this shipped protocol.
    #[arg(long, value_name = "PROTOCOL", conflicts_with_all = ["list", "windows"])]
    pub judge: Option<String>,
    /// Judge under this fetch model instead of `coherent`; may be repeated, and `all` means every preset.
    #[arg(long, value_name = "MODEL", requires = "judge")]
    pub fetch: Vec<String>,
    /// Vendor rule of --judge and --export: which instructions serialise, and which stores need no sync.
    #[arg(long, value_name = "RULE", default_value_t = VendorRule::Intel, value_parser = rule())]
    rule: VendorRule,
    /// Number of NMIs for --judge and --export; their handler runs the site.
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=4))]
    nmi: u8,
    /// Passes through the site of each of the two executors of --judge and --export.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=8))]
    passes: u8,
    /// Find where a jump of five bytes may replace instructions of a function, and what prevents it elsewhere.
    #[arg(long, value_name = "FUNCTION", conflicts_with = "list")]
    pub windows: Option<String>,
    /// Explore each of the --windows on KVM: a legal one is patched after a wait and must be safe; if control may arrive
    /// inside one, a schedule shows the consequence. For text and JSON.
    #[arg(long, requires = "windows")]
    pub explore: bool,
    /// Write a trace file for each finding of --explore or --judge into this directory, for `crossmod replay`.
    #[arg(long, value_name = "DIR")]
    pub traces: Option<PathBuf>,
    /// Format of the output.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
pub enum Format {
    Text,
    Json,
    Csv,
    Html,
}

fn rule() -> impl TypedValueParser<Value = VendorRule> {
    PossibleValuesParser::new(VendorRule::ALL.map(VendorRule::name))
        .try_map(|name| name.parse::<VendorRule>())
}

fn kind(text: &str) -> Result<Kind, String> {
    named("kinds", Kind::ALL, |kind| kind.name().into(), text)
}

fn state(text: &str) -> Result<State, String> {
    named("states", State::ALL, |state| state.name().into(), text)
}

fn boundary(text: &str) -> Result<u64, String> {
    named("boundaries", &BOUNDARIES, |boundary| boundary.to_string(), text)
}

/// The one of `all` with this name.
fn named<T: Copy>(what: &str, all: &[T], name: fn(T) -> String, text: &str) -> Result<T, String> {
    let names = || all.iter().map(|&one| name(one));
    let found = names().position(|name| name == text).map(|at| all[at]);
    found.ok_or_else(|| format!("{what} are {}", names().join(", ")))
}

impl Arguments {
    /// Checks everything that needs no image.
    pub fn check(&self) -> Result<(), Failure> {
        for protocol in self.judge.iter().chain([&self.protocol]) {
            known_protocol(protocol)?;
        }
        let conflicts = [
            (
                self.traces.is_some() && !(self.explore || self.judge.is_some()),
                "--traces needs findings\nhelp: add --judge PROTOCOL, or --windows FUNCTION --explore",
            ),
            (
                self.explore && matches!(self.format, Format::Csv | Format::Html),
                "the results of --explore have no form in CSV or HTML\nhelp: add --format json, or omit --format for text",
            ),
            (self.diff && self.images.len() != 2, "--diff compares two images\nhelp: give two"),
        ];
        let conflict = conflicts.into_iter().find(|(applies, _)| *applies);
        conflict.map_or(Ok(()), |(_, message)| Err(Failure::unusable(message)))
    }

    /// The selection of sites.
    pub fn filter(&self) -> Filter {
        Filter {
            kinds: self.kind.clone(),
            function: self.function.clone(),
            crossing: self.crossing,
            length: self.length,
            state: self.state,
        }
    }

    /// How sites are patched.
    pub fn setup(&self, protocol: &str) -> PatchSetup {
        PatchSetup { rule: self.rule, nmi: self.nmi, passes: self.passes, ..PatchSetup::new(protocol) }
    }
}

fn known_protocol(name: &str) -> Result<(), Failure> {
    let names: Vec<String> = scenario::protocols().into_iter().map(|(name, _)| name).collect();
    if names.iter().any(|known| known == name) {
        return Ok(());
    }
    Err(Failure::unusable(format_args!(
        "no shipped protocol is called `{name}`\nhelp: the shipped protocols are {}",
        names.join(", ")
    )))
}
