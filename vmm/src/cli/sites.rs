//! `crossmod sites`.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use crossmod::fetch::FetchModel;
use crossmod::linux::export::{self, Direction, Question};
use crossmod::linux::judge::{self, Judged, Verdict};
use crossmod::linux::sheet::{self, Sheet};
use crossmod::linux::{self, BOUNDARIES, Class, Filter, Image, Kind, Site, State};
use crossmod::machine::{MachineError, catch_signals, stop_requested};
use crossmod::{CheckError, CheckOptions, Checker, scenario};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use serde_json::{Value, json};

use super::choose::models;
use super::windows;
use super::{Failure, HARNESS, HARNESS_ERROR, HELD, INTERRUPTED, NOT_HELD, print};

/// Kinds that are judged unless others are named: what is patched while other CPUs run.
const JUDGED: [Kind; 2] = [Kind::JumpLabel, Kind::StaticCall];

#[derive(Args)]
#[command(
    after_help = "Sites are named as lists name them, `kfree+0xe`, or by address, `0xffffffff812a8c7e`. In names \
of functions `*` stands for anything, at either end.\n\nExit status: 0 nothing to report, 1 --diff found a difference \
or --judge a site that is not safe, 2 an image that cannot be read, 70 harness error, 130 interrupted.\n\nExamples:
  crossmod sites vmlinuz                                  what there is, in numbers
  crossmod sites vmlinuz --list --kind static-call --crossing 64
  crossmod sites lib/modules --format json                every module of a directory
  crossmod sites vmlinuz --format html > sites.html
  crossmod sites --diff vmlinuz-old vmlinuz-new --kind jump-label
  crossmod sites vmlinuz --export kfree+0xe out           a site as scenarios, for `crossmod check out`
  crossmod sites vmlinuz --judge plain_store --rule amd   which sites are safe so
  crossmod sites vmlinuz --judge text_poke_fixup --passes 1 --fetch coherent --fetch amd
  crossmod sites vmlinuz --windows kfree                  where an optimised probe may go
  crossmod sites vmlinuz --windows kfree --explore        the same, with the schedules that show it"
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
    #[arg(long, value_enum, default_value_t = Rule::Intel)]
    rule: Rule,
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

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Rule {
    Intel,
    Amd,
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

pub fn run(arguments: &Arguments) -> Result<u8, Failure> {
    // What needs no image is refused before one is read.
    for protocol in arguments.judge.iter().chain([&arguments.protocol]) {
        known_protocol(protocol)?;
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
        let status = if diff.is_empty() { HELD } else { NOT_HELD };
        return arguments
            .show(|| sheet::differences(&diff, arguments.list), || json!({ "diff": diff }))
            .map(|()| status);
    }
    let images: Vec<Image> = loaded.into_iter().flatten().collect();
    if let Some(export) = &arguments.export {
        return arguments.export(&images, &export[0], Path::new(&export[1]));
    }
    if arguments.judge.is_some() {
        return arguments.judge(&images);
    }
    let release = images.first().and_then(|image| image.release.as_ref());
    if let Some(pattern) = &arguments.windows {
        let windows: Vec<_> = images.iter().flat_map(|image| linux::windows(image, pattern)).collect();
        if windows.is_empty() {
            return Err(Failure::unusable(format!(
                "error: no function is called `{pattern}`\nhelp: `*` stands for anything at either end, as in `*{pattern}*`"
            )));
        }
        let explored = if arguments.explore { windows::explore(&windows)? } else { Vec::new() };
        arguments.show(
            || sheet::windows(release, pattern, &windows),
            || json!({ "release": release, "function": pattern, "windows": windows, "explored": explored }),
        )?;
        if arguments.explore && arguments.format == Format::Text {
            print(&windows::text(&explored));
        }
        return Ok(if windows::agree(&explored) { HELD } else { NOT_HELD });
    }
    let filter = arguments.filter();
    if arguments.list {
        let rows = || linux::rows(&images, &filter);
        arguments.show(
            || sheet::list(release, rows(), images.len() > 1),
            || List { release, sites: rows().collect() },
        )?;
        return Ok(HELD);
    }
    if !filter.is_empty() {
        return Err(Failure::unusable(
            "error: filters are for --list, --diff and --judge\nhelp: add --list to see the sites that they leave",
        ));
    }
    let inventory = linux::inventory(&images);
    arguments.show(|| sheet::inventory(&inventory), || json!({ "inventory": inventory }))?;
    Ok(HELD)
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

/// The site with a label or an address.
fn find<'a>(images: &'a [Image], name: &str) -> Result<(&'a Image, &'a Site), Failure> {
    let address = name.strip_prefix("0x").and_then(|digits| u64::from_str_radix(digits, 16).ok());
    let matching = |image: &Image, site: &Site| match address {
        Some(address) => site.address == address,
        None => image.label(site) == name,
    };
    let function = name.rsplit_once("+0x").map_or(name, |(function, _)| function);
    let mut near = Vec::new();
    let mut found: Option<(&Image, &Site)> = None;
    for image in images {
        for site in &image.tables.sites {
            // Of several at one place the one that can be exported.
            if matching(image, site) && found.is_none_or(|(_, site)| site.other.is_none()) {
                found = Some((image, site));
            }
            if near.len() < 8 && site.other.is_some() && image.function(site) == function {
                near.push(image.label(site));
            }
        }
    }
    found.ok_or_else(|| {
        let help = if near.is_empty() {
            "`--list` shows the sites".to_owned()
        } else {
            format!("sites of that function: {}", near.join(", "))
        };
        Failure::unusable(format!("error: there is no site `{name}`\nhelp: {help}"))
    })
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
        let rule = match self.rule {
            Rule::Intel => "intel",
            Rule::Amd => "amd",
        };
        Question { rule: rule.into(), nmi: self.nmi, passes: self.passes, ..Question::new(protocol) }
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
                serde_json::to_string_pretty(&document).map_err(|error| Failure {
                    status: HARNESS,
                    message: format!("{HARNESS_ERROR}{error}"),
                })?
            }
        });
        Ok(())
    }

    fn export(&self, images: &[Image], name: &str, directory: &Path) -> Result<u8, Failure> {
        let (image, site) = find(images, name)?;
        let question = self.question(&self.protocol);
        let unusable = |error: &dyn std::fmt::Display| Failure::unusable(format!("error: {error}"));
        let mut scenarios = Vec::new();
        for direction in Direction::BOTH {
            scenarios.push(export::scenario(image, site, &question, direction).map_err(
                |error| match error {
                    export::ExportError::Inexpressible(_, ref inner) => {
                        Failure::unusable(format!("error: {error}: {inner}"))
                    }
                    error => unusable(&error),
                },
            )?);
        }
        std::fs::create_dir_all(directory)
            .map_err(|error| unusable(&format_args!("{}: {error}", directory.display())))?;
        for exported in scenarios {
            let stem = export::file_stem(&exported.scenario.name);
            let path = directory.join(stem + ".toml");
            std::fs::write(&path, &exported.scenario.text)
                .map_err(|error| unusable(&format_args!("{}: {error}", path.display())))?;
            print(&path.display().to_string());
        }
        Ok(HELD)
    }

    fn judge(&self, images: &[Image]) -> Result<u8, Failure> {
        let question = self.question(self.judge.as_deref().unwrap_or_default());
        let mut models = models(&self.fetch)?;
        if models.is_empty() {
            models.push(FetchModel::COHERENT);
        }
        let mut filter = self.filter();
        if filter.kinds.is_empty() {
            filter.kinds = JUDGED.to_vec();
        }
        let classes = linux::classes(images, &filter);
        let sites = classes.iter().map(|class| class.members.len()).sum();
        let fail = |error| Failure::of(CheckError::Machine(error));
        catch_signals().map_err(fail)?;
        let mut checker = Checker::new().map_err(fail)?;
        let (mut sheets, mut values, mut safe, mut ended) = (Vec::new(), Vec::new(), true, None);
        for model in models {
            let (judged, bounds, error) =
                self.judge_under(model, images, classes.clone(), &question, &mut checker);
            sheets.push((model, sheet::judgement(images, &judged, &question, &bounds, sites)));
            values.push(judgement_json(images, &judged, &question, model, sites));
            safe &= judged.iter().all(|judged| judged.verdict == Verdict::Safe);
            ended = error;
            if ended.is_some() {
                break;
            }
        }
        self.show(|| together(sheets), || json!({ "judgements": values }))?;
        match ended {
            Some(CheckError::Machine(MachineError::Interrupted)) => {
                eprintln!("interrupted: what is printed is what was known until then");
                Ok(INTERRUPTED)
            }
            Some(error) => Err(Failure::of(error)),
            None if safe => Ok(HELD),
            None => Ok(NOT_HELD),
        }
    }

    /// Judges classes under one fetch model; what was judged, within which bounds, and the error that ended it.
    fn judge_under(
        &self,
        model: FetchModel,
        images: &[Image],
        classes: Vec<Class>,
        question: &Question,
        checker: &mut Checker,
    ) -> (Vec<Judged>, String, Option<CheckError>) {
        let total = classes.len();
        let options = CheckOptions { fetch: Some(model), ..CheckOptions::default() };
        let bar = bar(total as u64);
        let begun = std::time::Instant::now();
        let (judged, error) = judge::judge(
            images,
            classes,
            question,
            |scenario| {
                if stop_requested() {
                    return Err(MachineError::Interrupted.into());
                }
                checker.check(scenario, &options, |_| bar.tick()).map(|report| Verdict::of(&report))
            },
            |done, class| {
                bar.set_position(done as u64);
                let image = &images[class.members[0].image];
                bar.set_message(format!(
                    "{model} {}",
                    image.label(&image.tables.sites[class.members[0].site])
                ));
            },
        );
        bar.finish_and_clear();
        let bounds = format!(
            "2 executors, {} passes each, ring 0, {} NMIs; fetch model {model}, rule {}; {} of {total} classes, each \
             in both directions{}",
            question.passes,
            question.nmi,
            question.rule,
            judged.len(),
            // An emulated CPU has no times.
            if checker.host().emulated {
                String::new()
            } else {
                format!(", in {:.1} s", begun.elapsed().as_secs_f64())
            }
        );
        (judged, bounds, error)
    }
}

/// The sheets of several fetch models as one, each part saying which it is about.
fn together(mut sheets: Vec<(FetchModel, Sheet)>) -> Sheet {
    if sheets.len() == 1 {
        return sheets.swap_remove(0).1;
    }
    let mut all = Sheet::default();
    for (model, sheet) in sheets {
        all.title = sheet.title;
        all.notes.extend(sheet.notes);
        all.tables.extend(sheet.tables.into_iter().map(|table| sheet::Table {
            caption: format!("Fetch model {model}. {}", table.caption),
            ..table
        }));
        all.summary.extend(sheet.summary.into_iter().map(|line| format!("{model}: {line}")));
    }
    all
}

fn judgement_json(
    images: &[Image],
    judged: &[Judged],
    question: &Question,
    fetch: FetchModel,
    all: usize,
) -> Value {
    let label =
        |member: &linux::Member| images[member.image].label(&images[member.image].tables.sites[member.site]);
    let classes: Vec<Value> = judged
        .iter()
        .map(|judged| {
            let traits = &judged.class.traits;
            json!({
                "verdict": judged.verdict,
                "kind": traits.kind.name(),
                "length": traits.length,
                "versions": [traits.disk.name(), traits.other.name()],
                "crossing": traits.crossing.map(|(boundary, split)| json!({ "boundary": boundary, "split": split })),
                "differs": traits.differs,
                "sites": judged.class.members.len(),
                "representative": label(&judged.representative),
                "adapted": judged.adapted,
                "members": judged.class.members.iter().map(label).collect::<Vec<_>>(),
            })
        })
        .collect();
    let sites: usize = judged.iter().map(|judged| judged.class.members.len()).sum();
    json!({
        "protocol": question.protocol, "rule": question.rule, "nmi": question.nmi, "passes": question.passes,
        "fetch": fetch.to_string(), "sites": all, "not-judged": all - sites, "classes": classes,
    })
}
