//! `crossmod sites --judge PROTOCOL`.

use std::collections::BTreeMap;
use std::path::Path;

use crossmod::fetch::FetchModel;
use crossmod::linux::export::Question;
use crossmod::linux::judge::{self, Judged, Verdict};
use crossmod::linux::sheet::{self, Sheet};
use crossmod::linux::{self, Class, Filter, Image, Kind};
use crossmod::machine::{MachineError, catch_signals, stop_requested};
use crossmod::report::detail;
use crossmod::{CheckError, CheckOptions, Checker};
use serde_json::{Value, json};

use super::bar;
use crate::cli::tell::write_traces;
use crate::cli::{Failure, width};

/// Kinds that are judged unless others are named: what is patched while other CPUs run.
const JUDGED: [Kind; 2] = [Kind::JumpLabel, Kind::StaticCall];

/// What is judged, and how.
pub struct Asked<'a> {
    pub images: &'a [Image],
    pub filter: Filter,
    pub question: Question,
    pub models: Vec<FetchModel>,
    /// Where traces of what is found go.
    pub traces: Option<&'a Path>,
    /// Whether schedules are wanted for the report.
    pub schedules: bool,
}

/// What came of it.
pub struct Outcome {
    pub sheet: Sheet,
    pub json: Value,
    /// Every class that was judged is safe.
    pub safe: bool,
    /// The harness failed at a class, which is therefore not decided.
    pub failed: bool,
    /// What ended it before its end.
    pub ended: Option<CheckError>,
}

/// Judges under each model in turn.
pub fn run(mut asked: Asked<'_>) -> Result<Outcome, Failure> {
    if asked.models.is_empty() {
        asked.models.push(FetchModel::COHERENT);
    }
    if asked.filter.kinds.is_empty() {
        asked.filter.kinds = JUDGED.to_vec();
    }
    let Asked { images, question, .. } = &asked;
    let classes = linux::classes(images, &asked.filter);
    let sites = classes.iter().map(|class| class.members.len()).sum();
    let without = linux::without_class(images, &asked.filter);
    let fail = |error| Failure::of(CheckError::Machine(error));
    catch_signals().map_err(fail)?;
    let mut checker = Checker::new().map_err(fail)?;
    let (mut sheets, mut values) = (Vec::new(), Vec::new());
    let (mut safe, mut failed, mut ended) = (true, false, None);
    for model in asked.models.iter().copied() {
        let mut schedules = BTreeMap::new();
        let done = under(model, &asked, classes.clone(), &mut checker, &mut schedules)?;
        let Done { judged, bounds, .. } = done;
        let mut sheet = sheet::judgement(images, &judged, question, &bounds, sites);
        sheet.summary.extend(sheet::without_class(&without));
        sheet.schedules = pick(&judged, &schedules);
        sheets.push((model, sheet));
        values.push(value(images, &judged, question, model, sites, &without));
        safe &= judged.iter().all(|judged| judged.verdict == Verdict::Safe);
        failed |= done.failed;
        ended = done.ended;
        if ended.is_some() {
            break;
        }
    }
    Ok(Outcome { sheet: together(sheets), json: json!({ "judgements": values }), safe, failed, ended })
}

/// What was judged under one fetch model, within which bounds, and the error that ended it.
struct Done {
    judged: Vec<Judged>,
    bounds: String,
    /// The harness failed at a class.
    failed: bool,
    ended: Option<CheckError>,
}

/// Judges classes under one fetch model. An error is one of writing traces.
fn under(
    model: FetchModel,
    asked: &Asked<'_>,
    classes: Vec<Class>,
    checker: &mut Checker,
    schedules: &mut BTreeMap<String, String>,
) -> Result<Done, Failure> {
    let Asked { images, question, .. } = asked;
    let total = classes.len();
    let options = CheckOptions { fetch: Some(model), width: width(), ..CheckOptions::default() };
    let bar = bar(total as u64);
    let begun = std::time::Instant::now();
    let (mut unwritten, mut failed) = (None, false);
    let (judged, error) = judge::judge(
        images,
        classes,
        question,
        |scenario| {
            if stop_requested() || unwritten.is_some() {
                return Err(MachineError::Interrupted.into());
            }
            let report = match checker.check(scenario, &options, |_| bar.tick()) {
                Ok(report) => report,
                Err(error @ CheckError::Machine(MachineError::Interrupted)) => return Err(error),
                // One class that the harness fails at leaves the others to be judged.
                Err(error) => {
                    let why = Failure::of(error).message;
                    failed = true;
                    return Ok(Verdict::NotDecided(why));
                }
            };
            unwritten = write_traces(asked.traces, &report).err();
            if asked.schedules && !report.findings.is_empty() {
                schedules.insert(scenario.name.clone(), detail(&report));
            }
            Ok(Verdict::of(&report))
        },
        |done, class| {
            bar.set_position(done as u64);
            let image = &images[class.members[0].image];
            let label = image.label(&image.tables.sites[class.members[0].site]);
            bar.set_message(format!("{model} {label}"));
        },
    );
    bar.finish_and_clear();
    if let Some(failure) = unwritten {
        return Err(failure);
    }
    let bounds = format!(
        "2 executors, {} passes each, ring 0, {} NMIs; fetch model {model}, rule {}; {} of {total} classes, each in \
         both directions{}",
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
    Ok(Done { judged, bounds, failed, ended: error })
}

/// For each verdict but safe the schedule of one of its scenarios, of the largest class; the worst first.
fn pick(judged: &[Judged], schedules: &BTreeMap<String, String>) -> Vec<(String, String)> {
    let tally = judge::tally(judged);
    let of = |verdict: &Verdict| {
        let mut classes: Vec<_> = judged.iter().filter(|judged| judged.verdict == *verdict).collect();
        classes.sort_by_key(|judged| std::cmp::Reverse(judged.class.members.len()));
        let mut names = classes.iter().flat_map(|judged| &judged.scenarios);
        names.find_map(|name| Some((name, schedules.get(name)?)))
    };
    tally
        .iter()
        .filter_map(|(verdict, sites, _)| {
            let (name, schedule) = of(verdict)?;
            Some((format!("{} ({sites} sites): {name}", verdict.text()), schedule.clone()))
        })
        .collect()
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
        let named = sheet.schedules.into_iter().map(|(name, text)| (format!("{model}: {name}"), text));
        all.schedules.extend(named);
    }
    all
}

fn value(
    images: &[Image],
    judged: &[Judged],
    question: &Question,
    fetch: FetchModel,
    all: usize,
    without: &BTreeMap<Kind, usize>,
) -> Value {
    let label =
        |member: &linux::Member| images[member.image].label(&images[member.image].tables.sites[member.site]);
    let classes: Vec<Value> = judged
        .iter()
        .map(|judged| {
            let traits = &judged.class.traits;
            let lengths = traits.flows.each_ref().map(|flows| flows.iter().map(|(len, _)| *len).collect::<Vec<_>>());
            json!({
                "verdict": judged.verdict,
                "kind": traits.kind.name(),
                "length": traits.length,
                "versions": [traits.disk.name(), traits.other.name()],
                "instructions": lengths,
                "crossing": traits.crossing.map(|(boundary, split)| json!({ "boundary": boundary, "split": split })),
                "differs": traits.differs,
                "sites": judged.class.members.len(),
                "representative": label(&judged.representative),
                "adapted": judged.adapted,
                "misses": judged.misses,
                "members": judged.class.members.iter().map(label).collect::<Vec<_>>(),
            })
        })
        .collect();
    let sites: usize = judged.iter().map(|judged| judged.class.members.len()).sum();
    let without: BTreeMap<&str, usize> = without.iter().map(|(kind, count)| (kind.name(), *count)).collect();
    json!({
        "protocol": question.protocol, "rule": question.rule, "nmi": question.nmi, "passes": question.passes,
        "fetch": fetch.to_string(), "sites": all, "not-judged": all - sites, "one-version": without,
        "classes": classes,
    })
}
