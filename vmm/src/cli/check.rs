//! `crossmod check`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};
use crossmod::explore::{Ended, Limits, Stalls, Tick};
use crossmod::fetch::FetchModel;
use crossmod::machine::{Image, catch_signals, stop_requested};
use crossmod::plan::Ring;
use crossmod::report::{self, Status, Suite};
use crossmod::{CheckError, CheckOptions, Checker, Mode, Report, Scenario, scenario};
use indicatif::{ProgressBar, ProgressStyle};

use super::{Failure, HARNESS, HARNESS_ERROR, HELD, INTERRUPTED, NOT_HELD, SKIPPED, print, width};

#[derive(Args)]
pub struct Arguments {
    /// Scenario files, directories of them, or shipped scenarios by name (`seed/fixup`) or group (`seed`);
    /// without any, everything that is shipped.
    scenarios: Vec<String>,
    /// Form of the report.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// Show each finding's schedule, not only the unexpected ones'.
    #[arg(short, long)]
    verbose: bool,
    /// Run every executor at this ring, 0 or 3, instead of the scenario's.
    #[arg(long, value_parser = ring)]
    ring: Option<Ring>,
    /// Check under this fetch model instead of those that the scenario asks for; may be repeated. A preset
    /// (coherent, amd, amd-block, half-line, half-line-block, line, line-block, intel), `all` of them, or
    /// parameters such as `atom=16,stale,block`.
    #[arg(long, value_name = "MODEL")]
    fetch: Vec<String>,
    /// Write a trace file for each finding into this directory, for `crossmod replay`.
    #[arg(long, value_name = "DIR")]
    traces: Option<PathBuf>,
    /// Show the schedule with the fewest context switches instead of the shortest.
    #[arg(long)]
    fewest_switches: bool,
    /// Search each scenario twice and compare the hashes.
    #[arg(long)]
    verify: bool,
    /// Sample this many random walks instead of exploring everything; not exhaustive.
    #[arg(long, value_name = "RUNS", conflicts_with = "pct")]
    random: Option<u64>,
    /// Sample this many runs by probabilistic concurrency testing; not exhaustive.
    #[arg(long, value_name = "RUNS")]
    pct: Option<u64>,
    /// Ordering constraints of the violations that --pct looks for.
    #[arg(long, value_name = "N", default_value_t = 3, requires = "pct")]
    pct_depth: usize,
    /// Seed of sampling, and of the choice of what --recheck executes again.
    #[arg(long, env = "CROSSMOD_SEED", default_value_t = 1)]
    seed: u64,
    /// Stop a search at this many states; what is not found then is not decided.
    #[arg(long, value_name = "N", default_value_t = Limits::default().max_states)]
    max_states: usize,
    /// Stop a search when it uses so much memory: bytes, or with K, M or G; what is not found then is not decided.
    #[arg(long, value_name = "SIZE", value_parser = size, default_value = "8G")]
    max_memory: usize,
    /// Threads of a search [default: one for each CPU]. The result is the same for any number.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    workers: Option<u16>,
    /// Stop a search after this many seconds; what is not found then is not decided.
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<u64>,
    /// Execute one use in N of what is remembered again and compare; 0 = none.
    #[arg(long, value_name = "N", default_value_t = 1024)]
    recheck: u32,
    /// Execute every transition each time it is used, and compare with its first time.
    #[arg(long)]
    no_memo: bool,
    /// Interleave after every instruction, also where no other actor could tell the difference.
    #[arg(long)]
    no_reduction: bool,
    /// Whether to take the alternatives that only stalls need: `auto` up to 200,000 states, then the search begins
    /// anew without; `keep` however large it becomes; `no` not at all. Stalls are measured up to that many states.
    #[arg(long, value_name = "WHEN", value_enum, default_value_t = KeepStalls::Auto)]
    stalls: KeepStalls,
    /// Keep states apart that differ by an exchange of executors that the scenario treats alike.
    #[arg(long)]
    no_symmetry: bool,
    /// For `scripts/conformance --self-test`.
    #[arg(long, hide = true)]
    plant_host_dependent_bug: bool,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum KeepStalls {
    Auto,
    Keep,
    No,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
pub enum Format {
    Text,
    Json,
    Ktap,
    Junit,
}

fn ring(text: &str) -> Result<Ring, String> {
    match text {
        "0" => Ok(Ring::Kernel),
        "3" => Ok(Ring::User),
        _ => Err("0 and 3 are the rings that executors run at".into()),
    }
}

/// Bytes, with an optional K, M or G (powers of 1024).
pub fn size(text: &str) -> Result<usize, String> {
    let (number, shift) = match text.strip_suffix(['K', 'M', 'G']) {
        Some(number) if text.ends_with('K') => (number, 10),
        Some(number) if text.ends_with('M') => (number, 20),
        Some(number) => (number, 30),
        None => (text, 0),
    };
    let size = number.parse::<usize>().ok().and_then(|number| number.checked_mul(1 << shift));
    size.filter(|&size| size > 0).ok_or_else(|| "a size is a number of bytes, or one with K, M or G".into())
}

/// The fetch models that `--fetch` names.
pub fn models(names: &[String]) -> Result<Vec<FetchModel>, Failure> {
    let mut models = Vec::new();
    for name in names {
        let named: Vec<FetchModel> = match name.as_str() {
            "all" => FetchModel::presets().collect(),
            name => {
                vec![name.parse().map_err(|error| Failure::unusable(format!("error: --fetch: {error}")))?]
            }
        };
        models.extend(named);
    }
    let mut seen = Vec::new();
    models.retain(|model| {
        !seen.contains(model) && {
            seen.push(*model);
            true
        }
    });
    Ok(models)
}

/// Every scenario with each fetch model that it is to be checked under.
fn cases(arguments: &Arguments) -> Result<Vec<(Scenario, FetchModel)>, Failure> {
    let forced = models(&arguments.fetch)?;
    let mut cases = Vec::new();
    for scenario in select(&arguments.scenarios)? {
        let fail = |error: scenario::ScenarioError| Failure::of(error.into());
        let models = if forced.is_empty() { scenario.models().map_err(fail)? } else { forced.clone() };
        for model in models {
            // Unusable input is told before KVM is opened: it is unusable on every machine.
            scenario.plan(&scenario::Options { ring: None, fetch: Some(model) }).map_err(fail)?;
            cases.push((scenario.clone(), model));
        }
    }
    Ok(cases)
}

pub fn run(arguments: &Arguments) -> Result<u8, Failure> {
    let cases = cases(arguments)?;
    let fail = |error| Failure::of(CheckError::Machine(error));
    catch_signals().map_err(fail)?;
    let mut checker = Checker::new().map_err(fail)?;
    if arguments.plant_host_dependent_bug {
        checker.plant_bug();
    }
    let options = options(arguments);
    let text = arguments.format == Format::Text;
    let name_width = cases.iter().map(|(scenario, _)| scenario.name.len()).max().unwrap_or_default();
    let tabular = text && cases.len() > 1;
    if tabular && !arguments.verbose {
        print(&report::table(name_width, !checker.host().emulated));
    }
    let (mut reports, mut interrupted) = (Vec::new(), false);
    let (bar, timed) = (progress(), !checker.host().emulated);
    for (index, (scenario, model)) in cases.iter().enumerate() {
        let options = CheckOptions { fetch: Some(*model), ..options };
        if stop_requested() {
            interrupted = true;
            let skipped = Report::skipped(&scenario.name, "interrupted before its turn");
            reports.push(skipped.under(options.fetch));
            continue;
        }
        bar.set_prefix(format!("{}/{} {} {model}", index + 1, cases.len(), scenario.name));
        let report = match checker.check(scenario, &options, |tick| show(&bar, tick, timed)) {
            Ok(report) => {
                interrupted |= report.ended == Some(Ended::Interrupted);
                report
            }
            Err(error) => {
                let failure = Failure::of(error);
                if failure.status == INTERRUPTED {
                    // Its search was over; a finding was being executed again.
                    interrupted = true;
                    let reason = "interrupted before its findings were proved";
                    reports.push(Report::skipped(&scenario.name, reason).under(options.fetch));
                    continue;
                }
                if failure.status != HARNESS {
                    return Err(failure);
                }
                bar.suspend(|| eprintln!("{}: {}", scenario.name, failure.message));
                let message = failure.message.trim_start_matches(HARNESS_ERROR);
                Report::failed(&scenario.name, message).under(options.fetch)
            }
        };
        write_traces(arguments.traces.as_deref(), &report)?;
        if text {
            bar.suspend(|| tell(&report, arguments, !tabular, name_width));
        }
        reports.push(report);
    }
    bar.finish_and_clear();
    let status = finish(arguments, &checker, &reports)?;
    if interrupted && status != HARNESS {
        eprintln!("interrupted: what is printed is what was known until then");
        return Ok(INTERRUPTED);
    }
    Ok(status)
}

fn options(arguments: &Arguments) -> CheckOptions {
    let mode = match (arguments.random, arguments.pct) {
        (Some(runs), _) => Mode::Random { runs },
        (None, Some(runs)) => Mode::Pct { runs, depth: arguments.pct_depth },
        (None, None) => Mode::Exhaustive,
    };
    CheckOptions {
        ring: arguments.ring,
        fetch: None,
        mode,
        limits: Limits {
            max_states: arguments.max_states,
            max_memory: arguments.max_memory,
            timeout: arguments.timeout.map(Duration::from_secs),
        },
        seed: arguments.seed,
        recheck: arguments.recheck,
        memo: !arguments.no_memo,
        workers: arguments.workers.map_or(CheckOptions::default().workers, usize::from),
        stalls: match arguments.stalls {
            KeepStalls::Auto => Stalls::Auto,
            KeepStalls::Keep => Stalls::Keep,
            KeepStalls::No => Stalls::No,
        },
        symmetry: !arguments.no_symmetry,
        reduce: !arguments.no_reduction,
        verify: arguments.verify,
        readable: arguments.fewest_switches,
        width: width(),
    }
}

/// The scenarios that the arguments name.
pub fn select(names: &[String]) -> Result<Vec<Scenario>, Failure> {
    let library = scenario::library();
    if names.is_empty() {
        return Ok(library);
    }
    let mut chosen = Vec::new();
    for name in names {
        let path = Path::new(name);
        let shipped = library.iter().filter(|scenario| {
            scenario.name == *name || scenario.name.starts_with(&format!("{}/", name.trim_end_matches('/')))
        });
        let before = chosen.len();
        chosen.extend(shipped.cloned());
        if chosen.len() > before {
            continue;
        }
        if path.is_dir() {
            let mut files: Vec<PathBuf> = std::fs::read_dir(path)
                .map_err(|error| Failure::unusable(format!("error: {name}: {error}")))?
                .filter_map(|entry| Some(entry.ok()?.path()))
                .filter(|file| file.extension().is_some_and(|extension| extension == "toml"))
                .collect();
            files.sort();
            if files.is_empty() {
                return Err(Failure::unusable(format!("error: {name}: no .toml files in this directory")));
            }
            for file in files {
                chosen.push(scenario::load(&file).map_err(|error| Failure::of(error.into()))?);
            }
        } else if path.exists() || name.ends_with(".toml") {
            chosen.push(scenario::load(path).map_err(|error| Failure::of(error.into()))?);
        } else {
            let near: Vec<&str> = library.iter().map(|scenario| scenario.name.as_str()).collect();
            let near: Vec<&str> = near.into_iter().filter(|known| known.contains(name)).take(8).collect();
            let help = if near.is_empty() {
                "`crossmod list` shows the shipped ones".to_owned()
            } else {
                format!("shipped names that contain it: {}", near.join(", "))
            };
            return Err(Failure::unusable(format!(
                "error: `{name}` is neither a file nor a shipped scenario or group\n{help}"
            )));
        }
    }
    Ok(chosen)
}

fn tell(report: &Report, arguments: &Arguments, alone: bool, name_width: usize) {
    if alone || arguments.verbose || !report.holds() {
        print(&report::detail(report));
    } else {
        print(&report::line(report, name_width));
    }
    if !(alone || arguments.verbose || !report.holds()) || report.findings.is_empty() {
        return;
    }
    let directory = arguments.traces.as_deref();
    let mut text = String::from(match directory {
        Some(_) => "\n  to replay:\n",
        None => "\n  to replay, write traces with `--traces DIR`, then:\n",
    });
    for finding in &report.findings {
        let directory = directory.unwrap_or(Path::new("DIR"));
        let path = trace_path(directory, report, finding.violation.property.name());
        text.push_str(&format!("    crossmod replay {}\n", path.display()));
    }
    print(&text);
}

fn trace_path(directory: &Path, report: &Report, property: &str) -> PathBuf {
    directory.join(format!("{}.{property}.trace.json", report.case().replace('/', ".")))
}

pub fn write_traces(directory: Option<&Path>, report: &Report) -> Result<(), Failure> {
    let Some(directory) = directory else { return Ok(()) };
    let fail = |path: &Path, error: &dyn std::fmt::Display| {
        Failure::unusable(format!("error: {}: {error}", path.display()))
    };
    std::fs::create_dir_all(directory).map_err(|error| fail(directory, &error))?;
    for finding in &report.findings {
        let Some(trace) = &finding.trace else { continue };
        let path = trace_path(directory, report, finding.violation.property.name());
        let text = serde_json::to_string_pretty(trace).map_err(|error| fail(&path, &error))?;
        std::fs::write(&path, text + "\n").map_err(|error| fail(&path, &error))?;
    }
    Ok(())
}

fn finish(arguments: &Arguments, checker: &Checker, reports: &[Report]) -> Result<u8, Failure> {
    let suite =
        Suite { crossmod: env!("CARGO_PKG_VERSION"), image: Image::digest(), host: checker.host(), reports };
    let broken = |error| Failure { status: HARNESS, message: format!("{HARNESS_ERROR}{error}") };
    match arguments.format {
        Format::Text => summary(arguments, checker, reports),
        Format::Json => print(&report::json(&suite).map_err(broken)?),
        Format::Ktap => print(&report::ktap(reports)),
        Format::Junit => print(&report::junit(reports).map_err(broken)?),
    }
    let is = |status| move |report: &Report| report.status == status;
    Ok(if reports.iter().any(is(Status::HarnessError)) {
        HARNESS
    } else if reports.iter().any(|report| !report.holds()) {
        NOT_HELD
    } else if !reports.is_empty() && reports.iter().all(is(Status::Skipped)) {
        SKIPPED
    } else {
        HELD
    })
}

fn summary(arguments: &Arguments, checker: &Checker, reports: &[Report]) {
    let count = |status| reports.iter().filter(|report| report.status == status).count();
    let (skipped, errors) = (count(Status::Skipped), count(Status::HarnessError));
    let unexpected = reports.iter().filter(|report| !report.holds()).count() - errors;
    let seconds: f64 = reports.iter().filter_map(|report| report.counts.seconds).sum();
    let time = if checker.host().emulated { String::new() } else { format!(" in {seconds:.2} s") };
    let transitions: u64 = reports.iter().map(|report| report.counts.transitions).sum();
    let assists = checker.assists();
    let sampled = arguments.random.is_some() || arguments.pct.is_some();
    let (held, how) = if sampled {
        ("with nothing unexpected (sampled: nothing is decided)", "sampling")
    } else {
        ("as expected", "exploration")
    };
    let mut text = String::from("\n");
    if reports.len() > 1 && !arguments.verbose {
        text.push_str(&format!("{}\n\n", report::LEGEND));
    }
    if let Some(directory) = &arguments.traces {
        let traces: usize = reports.iter().map(|report| report.findings.len()).sum();
        text.push_str(&format!("{traces} traces written to {}\n", directory.display()));
    }
    text.push_str(&format!(
        "{} {held}, {unexpected} not, {skipped} skipped, {errors} harness errors\n{transitions} transitions{time} \
         of {how}; {} steps on KVM, {} #BP delivered by the host for KVM\n{}\n{}",
        reports.len() - skipped - unexpected - errors,
        assists.steps,
        assists.completed_breakpoints,
        report::TIER,
        checker.host().line(),
    ));
    let modelled: Vec<&str> = reports
        .iter()
        .filter(|report| !report.modelled.is_empty())
        .map(|report| report.name.as_str())
        .collect();
    if !modelled.is_empty() && (reports.len() > 1 && !arguments.verbose) {
        text.push_str(&format!("\nmodelled {}: {}", report::MODELLED_SMI, modelled.join(", ")));
    }
    print(&text);
}

pub fn progress() -> ProgressBar {
    let bar = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{spinner} {prefix}  {msg}") {
        bar.set_style(style);
    }
    bar
}

/// Rates only where time means something.
pub fn show(bar: &ProgressBar, tick: Tick, timed: bool) {
    let rate = |count: f64| {
        let rate = count / tick.elapsed.as_secs_f64().max(1e-6) / 1e6;
        if timed { format!(" ({rate:.1} M/s)") } else { String::new() }
    };
    bar.set_message(format!(
        "{} states{}, {} to expand, {} transitions{}, {:.1} % remembered, {} MiB",
        tick.states,
        rate(tick.states as f64),
        tick.states - tick.expanded,
        tick.transitions,
        rate(tick.transitions as f64),
        tick.hit_rate * 100.0,
        tick.memory >> 20,
    ));
    bar.tick();
}
