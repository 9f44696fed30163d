//! `crossmod sites`.

mod export;
mod judge;
mod origin;
mod windows;

use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, ValueEnum};
use crossmod::linux::{self, BOUNDARIES, Filter, Image, Kind, State, Window};
use crossmod::machine::MachineError;
use crossmod::sites::export::Question;
use crossmod::sites::sheet::{self, Sheet};
use crossmod::x86::VendorRule;
use crossmod::{CheckError, scenario};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use serde_json::json;

use self::origin::Origin;
use super::selection::models;
use super::{Exit, Failure, print};

#[derive(Args)]
#[command(
    after_help = "Sites are named as lists name them, `kfree+0xe`, or by address, `0xffffffff812a8c7e`. In names \
of functions `*` stands for anything, at either end.\n\nExit status: 0 nothing to report, 1 --diff found a difference, \
--judge a site that is not safe or not decided, or --explore a verdict that the rules do not foresee, 2 an image that \
cannot be read or nothing to judge in it, 4 skipped (no usable /dev/kvm, or none of the --windows can be explored), 70 \
harness error, 130 interrupted (what is known until then is printed).\n\nExamples:
  crossmod sites vmlinuz                                  what there is, in numbers
  crossmod sites vmlinuz --list --kind static-call --crossing 64
  crossmod sites lib/modules --format json                every module of a directory
  crossmod sites vmlinuz --format html > sites.html
  crossmod sites --diff vmlinuz-old vmlinuz-new --kind jump-label
  crossmod sites vmlinuz --export kfree+0xe out           a site as scenarios, for `crossmod check out`
  crossmod sites vmlinuz --export kfree+0xe out --new ret  the same, patched to what you say
  crossmod sites vmlinuz --judge plain_store --rule amd   which sites are safe so
  crossmod sites vmlinuz --judge text_poke_fixup --passes 1 --fetch coherent --fetch amd
  crossmod sites vmlinuz --windows kfree                  where an optimised probe may go
  crossmod sites vmlinuz --windows kfree --explore --traces out
                                                          the same, with the schedules that show it"
)]
pub struct Arguments {
    /// Kernels (bzImage or vmlinux), modules (.ko, .ko.gz, .ko.xz, .ko.zst), or directories of modules.
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<PathBuf>,
    /// List sites one by one.
    #[arg(long)]
    list: bool,
    /// Only sites of this kind; may be given again.
    #[arg(long, value_parser = kind, value_name = "KIND")]
    kind: Vec<Kind>,
    /// Only sites in this function.
    #[arg(long, value_name = "NAME")]
    function: Option<String>,
    /// Only sites that cross a boundary of so many bytes: 8, 16, 32, 64 or 4096.
    #[arg(long, value_parser = boundary, value_name = "BYTES")]
    crossing: Option<u64>,
    /// Only sites of so many bytes.
    #[arg(long, value_name = "BYTES")]
    length: Option<u64>,
    /// Only sites in this state on disk, as in `nop`, `jmp` or `call`.
    #[arg(long, value_parser = state, value_name = "STATE")]
    state: Option<State>,
    /// Compare two images.
    #[arg(long, conflicts_with_all = ["export", "judge", "windows"])]
    diff: bool,
    /// Write a site's scenarios, there and back, into a directory.
    #[arg(long, num_args = 2, value_names = ["SITE", "DIR"], conflicts_with_all = ["list", "judge", "windows"])]
    export: Option<Vec<String>>,
    /// The other version for --export, where the image does not tell it or another is wanted: bytes in hex, or
    /// instructions by name. NOPs fill the rest of the site.
    #[arg(long, value_name = "BYTES|NAME", requires = "export")]
    new: Option<String>,
    /// Shipped protocol of --export.
    #[arg(long, value_name = "PROTOCOL", default_value = "text_poke_fixup", requires = "export")]
    protocol: String,
    /// Judge every jump label and static call, or what --kind names, patched by this shipped protocol.
    #[arg(long, value_name = "PROTOCOL", conflicts_with_all = ["list", "windows"])]
    judge: Option<String>,
    /// Judge under this fetch model instead of `coherent`; may be repeated, and `all` is every preset.
    #[arg(long, value_name = "MODEL", requires = "judge")]
    fetch: Vec<String>,
    /// Vendor rule of --judge and --export: what serialises, and which stores need no sync.
    #[arg(long, value_name = "RULE", default_value_t = VendorRule::Intel, value_parser = rule())]
    rule: VendorRule,
    /// NMIs of --judge and --export, whose handler runs the site.
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=4))]
    nmi: u8,
    /// Passes through the site of each of the two executors of --judge and --export.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=8))]
    passes: u8,
    /// Show which five bytes of a function may become a jump, and what stands against the others.
    #[arg(long, value_name = "FUNCTION", conflicts_with = "list")]
    windows: Option<String>,
    /// Explore each --windows on KVM: a legal one is exchanged after a wait, and is to be safe; where control may
    /// arrive inside, the schedule shows what becomes of it. In text and JSON.
    #[arg(long, requires = "windows")]
    explore: bool,
    /// Write a trace file for each finding of --explore or --judge into this directory, for `crossmod replay`.
    #[arg(long, value_name = "DIR")]
    traces: Option<PathBuf>,
    /// Form of the report.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

/// What JSON holds.
#[derive(Serialize)]
struct Document<T> {
    crossmod: &'static str,
    #[serde(flatten)]
    result: T,
}

/// A list as JSON; as a tree of values, hundreds of thousands of sites would take a gigabyte.
#[derive(Serialize)]
struct List<'a> {
    release: Option<&'a String>,
    sites: Vec<linux::Row>,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Format {
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
    Kind::of(text).ok_or_else(|| format!("kinds are {}", Kind::ALL.map(Kind::name).join(", ")))
}

fn state(text: &str) -> Result<State, String> {
    let names = State::ALL.map(State::name);
    State::ALL
        .into_iter()
        .find(|state| state.name() == text)
        .ok_or_else(|| format!("states are {}", names.join(", ")))
}

fn boundary(text: &str) -> Result<u64, String> {
    let known = text.parse().ok().filter(|boundary| BOUNDARIES.contains(boundary));
    known.ok_or_else(|| {
        format!("boundaries are {}", BOUNDARIES.map(|boundary| boundary.to_string()).join(", "))
    })
}

pub fn run(arguments: &Arguments) -> Result<Exit, Failure> {
    // What needs no image is refused before one is read.
    for protocol in arguments.judge.iter().chain([&arguments.protocol]) {
        known_protocol(protocol)?;
    }
    if arguments.traces.is_some() && !(arguments.explore || arguments.judge.is_some()) {
        return Err(Failure::unusable(
            "error: --traces needs findings\nhelp: add --judge PROTOCOL, or --windows FUNCTION --explore",
        ));
    }
    if arguments.explore && matches!(arguments.format, Format::Csv | Format::Html) {
        return Err(Failure::unusable(
            "error: what --explore finds has no form in CSV or HTML\nhelp: add --format json, or leave --format out for text",
        ));
    }
    if arguments.diff && arguments.images.len() != 2 {
        return Err(Failure::unusable("error: --diff compares two images: give two"));
    }
    let mut loaded = Vec::new();
    for path in &arguments.images {
        loaded.push(load(path)?);
    }
    if arguments.diff {
        let diff = linux::diff(&loaded[0], &loaded[1], &arguments.filter());
        let status = if diff.is_empty() { Exit::Held } else { Exit::NotHeld };
        return arguments
            .show(|| sheet::differences(&diff, arguments.list), || json!({ "diff": diff }))
            .map(|()| status);
    }
    let images: Vec<Image> = loaded.into_iter().flatten().collect();
    let filter = arguments.filter();
    if let Some([name, directory]) = arguments.export.as_deref() {
        let question = arguments.question(&arguments.protocol);
        let new = arguments.new.as_deref().map(export::new_version).transpose();
        let new = new.map_err(|reason| Failure::unusable(format!("error: --new: {reason}")))?;
        return export::run(&images, &filter, name, new.as_deref(), &question, Path::new(directory));
    }
    if let Some(protocol) = &arguments.judge {
        return arguments.judge(&images, filter, protocol);
    }
    let release = images.first().and_then(|image| image.release.as_ref());
    if let Some(pattern) = &arguments.windows {
        let windows: Vec<_> = images.iter().flat_map(|image| linux::windows(image, pattern)).collect();
        if windows.is_empty() {
            return Err(Failure::unusable(format!(
                "error: no function is called `{pattern}`\nhelp: `*` stands for anything at either end, as in `*{pattern}*`"
            )));
        }
        return arguments.windows(&images, pattern, &windows);
    }
    if arguments.list {
        let rows = || linux::rows(&images, &filter);
        arguments.show(
            || sheet::list(release, rows(), images.len() > 1),
            || List { release, sites: rows().collect() },
        )?;
        return Ok(Exit::Held);
    }
    if !filter.is_empty() {
        return Err(Failure::unusable(
            "error: filters are for --list, --diff, --judge and --export\nhelp: add --list to see the sites that they leave",
        ));
    }
    let inventory = linux::inventory(&images);
    arguments.show(|| sheet::inventory(&inventory), || json!({ "inventory": inventory }))?;
    Ok(Exit::Held)
}

fn load(path: &Path) -> Result<Vec<Image>, Failure> {
    let bar = bar(0);
    bar.set_message(format!("reading {}", path.display()));
    let progress = |done: usize, all: usize| {
        bar.set_length(all as u64);
        bar.set_position(done as u64);
    };
    let images = linux::load(path, &progress).map_err(|error| Failure::unusable(format!("error: {error}")));
    bar.finish_and_clear();
    images
}

/// Nothing is drawn unless standard error is a terminal.
fn bar(length: u64) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(length);
    if let Ok(style) = ProgressStyle::with_template("{spinner} {pos}/{len} {wide_bar} {msg}") {
        bar.set_style(style);
    }
    bar
}

/// What to say of what was cut short, when it has been printed.
fn ended(error: CheckError) -> Result<Exit, Failure> {
    match error {
        CheckError::Machine(MachineError::Interrupted) => Ok(Exit::interrupted()),
        error => Err(error.into()),
    }
}

fn known_protocol(name: &str) -> Result<(), Failure> {
    let names: Vec<String> = scenario::protocols().into_iter().map(|(name, _)| name).collect();
    if names.iter().any(|known| known == name) {
        return Ok(());
    }
    Err(Failure::unusable(format!(
        "error: no shipped protocol is called `{name}`\nhelp: there are {}",
        names.join(", ")
    )))
}

impl Arguments {
    fn filter(&self) -> Filter {
        Filter {
            kinds: self.kind.clone(),
            function: self.function.clone(),
            crossing: self.crossing,
            length: self.length,
            state: self.state,
        }
    }

    fn question(&self, protocol: &str) -> Question {
        Question { rule: self.rule, nmi: self.nmi, passes: self.passes, ..Question::new(protocol) }
    }

    fn show<T: Serialize>(
        &self,
        sheet: impl FnOnce() -> Sheet,
        result: impl FnOnce() -> T,
    ) -> Result<(), Failure> {
        print(&match self.format {
            Format::Text => sheet::text(&sheet()),
            Format::Csv => sheet::csv(&sheet()),
            Format::Html => sheet::html(&sheet()),
            Format::Json => {
                let document = Document { crossmod: env!("CARGO_PKG_VERSION"), result: result() };
                serde_json::to_string_pretty(&document).map_err(Failure::harness)?
            }
        });
        Ok(())
    }

    fn windows(&self, images: &[Image], pattern: &str, windows: &[Window]) -> Result<Exit, Failure> {
        let release = images.first().and_then(|image| image.release.as_ref());
        let traces = self.traces.as_deref();
        let exploration = self.explore.then(|| windows::explore(windows, traces)).transpose()?;
        let sheet = || sheet::windows(release, pattern, windows);
        let Some(exploration) = exploration else {
            let value =
                || json!({ "release": release, "function": pattern, "windows": windows, "explored": [] });
            return self.show(sheet, value).map(|()| Exit::Held);
        };
        let origin = Origin::new(images, &exploration.host);
        self.show(sheet, || {
            json!({
                "release": release, "function": pattern, "windows": windows, "explored": exploration.explored,
                "shapes": exploration.shapes, "tier": "explore", "host": exploration.host, "images": origin.list(),
            })
        })?;
        if self.format == Format::Text && exploration.shapes > 0 {
            print(&exploration.text(&origin.images(), traces));
        }
        let status = exploration.status();
        exploration.ended.map_or(status, ended)
    }

    fn judge(&self, images: &[Image], filter: Filter, protocol: &str) -> Result<Exit, Failure> {
        let page = self.format == Format::Html;
        let outcome = judge::run(judge::Asked {
            images,
            filter,
            question: self.question(protocol),
            models: models(&self.fetch)?,
            traces: self.traces.as_deref(),
            schedules: page,
        })?;
        let sheet = || {
            if page {
                outcome.sheet.followed_by(sheet::inventory(&linux::inventory(images)))
            } else {
                outcome.sheet
            }
        };
        self.show(sheet, || outcome.json)?;
        match outcome.ended {
            Some(error) => ended(error),
            None if outcome.failed => Ok(Exit::Harness),
            None if outcome.safe => Ok(Exit::Held),
            None => Ok(Exit::NotHeld),
        }
    }
}
