//! `crossmod sites --judge PROTOCOL`.

use std::collections::BTreeMap;
use std::path::Path;

use crossmod::fetch::FetchModel;
use crossmod::linux::{self, Class, Filter, Image, Kind};
use crossmod::machine::{MachineError, catch_signals, stop_requested};
use crossmod::report::{TIER, detail};
use crossmod::sites::export::{EXECUTORS, Question};
use crossmod::sites::judge::{self, Judged, OneStore, Provisos, Verdict};
use crossmod::sites::sheet::{self, Cell, Sheet, Table};
use crossmod::{CheckError, CheckOptions, Checker, Report, Scenario};
use serde_json::{Value, json};

use super::bar;
use super::origin::Origin;
use crate::cli::output::write_traces;
use crate::cli::{Failure, width};

/// Kinds that are judged unless others are named: what is patched while other CPUs run.
const JUDGED: [Kind; 2] = [Kind::JumpLabel, Kind::StaticCall];
/// Ring of the executors.
const RING: u8 = 0;

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
    if sites == 0 {
        return Err(nothing(images, &asked.filter, &without));
    }
    catch_signals()?;
    let mut checker = Checker::new()?;
    let origin = Origin::new(images, checker.host());
    let (mut sheets, mut values, mut rows) = (Vec::new(), Vec::new(), Vec::new());
    let (mut safe, mut failed, mut ended) = (true, false, None);
    for model in asked.models.iter().copied() {
        let mut schedules = BTreeMap::new();
        let done = under(model, question, &asked, classes.clone(), &mut checker, Some(&mut schedules))?;
        let Done { judged, bounds, .. } = done;
        failed |= done.failed;
        ended = done.ended;
        // What the sites need at all, whatever protocol is asked about.
        let plain = question.one_store();
        let one_store = if ended.is_some() {
            OneStore::of(&[], sites)
        } else if plain == *question {
            OneStore::of(&judged, sites)
        } else {
            let done = under(model, &plain, &asked, classes.clone(), &mut checker, None)?;
            failed |= done.failed;
            ended = done.ended;
            OneStore::of(&done.judged, sites)
        };
        let mut sheet = sheet::judgement(images, &judged, question, &bounds, sites);
        sheet.summary.insert(1, one_store.text());
        sheet.summary.extend(sheet::without_class(&without));
        sheet.schedules = pick(&judged, &schedules);
        sheets.push((model, sheet));
        rows.extend(plain_rows(&judged, question, model, sites, &origin));
        let mut value = value(images, &judged, question, model, sites, &without);
        value["one-store"] = json!(one_store);
        values.push(value);
        safe &= judged.iter().all(|judged| judged.verdict == Verdict::Safe);
        if ended.is_some() {
            break;
        }
    }
    let mut sheet = together(sheets);
    sheet.notes.extend([TIER.into(), origin.host.line(), origin.images()]);
    sheet.csv = Some(Table { caption: String::new(), columns: COLUMNS.to_vec(), rows });
    let json = json!({
        "tier": "explore", "host": origin.host, "images": origin.list(), "judgements": values,
    });
    Ok(Outcome { sheet, json, safe, failed, ended })
}

/// Why there is nothing to judge, and what can be done.
fn nothing(images: &[Image], filter: &Filter, without: &BTreeMap<Kind, usize>) -> Failure {
    let kinds: Vec<&str> = filter.kinds.iter().map(|kind| kind.name()).collect();
    let mut message =
        format!("error: no {} site that can be judged is left by the filters", kinds.join(" or "));
    for line in sheet::without_class(without) {
        message.push_str(&format!("\n{line}"));
    }
    let any = Filter { kinds: Vec::new(), ..filter.clone() };
    let mut others: BTreeMap<Kind, usize> = BTreeMap::new();
    for image in images {
        for site in image.tables.sites.iter().filter(|site| any.wants(image, site)) {
            *others.entry(site.kind).or_default() += 1;
        }
    }
    others.retain(|kind, _| !filter.kinds.contains(kind));
    let others: Vec<String> = others.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
    message.push_str(&if others.is_empty() {
        "\nhelp: `--list` shows the sites and the functions that they are in; in `--function`, `*` stands for anything at \
         either end"
            .to_owned()
    } else {
        format!("\nhelp: of other kinds the filters leave {}: name one by `--kind`", others.join(", "))
    });
    Failure::unusable(message)
}

/// What was judged under one fetch model, within which bounds, and the error that ended it.
struct Done {
    judged: Vec<Judged>,
    bounds: String,
    /// The harness failed at a class.
    failed: bool,
    ended: Option<CheckError>,
}

/// Judges classes under one fetch model. Traces are written only of what schedules are wanted of. An error is one of
/// writing traces.
fn under(
    model: FetchModel,
    question: &Question,
    asked: &Asked<'_>,
    classes: Vec<Class>,
    checker: &mut Checker,
    mut schedules: Option<&mut BTreeMap<String, String>>,
) -> Result<Done, Failure> {
    let images = asked.images;
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
            let report = match whole(checker.check(scenario, &options, |_| bar.tick())) {
                Ok(report) => report,
                Err(error @ CheckError::Machine(MachineError::Interrupted)) => return Err(error),
                // One class that the harness fails at leaves the others to be judged.
                Err(error) => {
                    let why = Failure::from(error).to_string();
                    failed = true;
                    return Ok(Verdict::NotDecided(why));
                }
            };
            if let Some(schedules) = &mut schedules {
                unwritten = write_traces(asked.traces, &report).err();
                keep(asked, scenario, &report, schedules);
            }
            Ok(Verdict::of(&report))
        },
        |done, class| {
            bar.set_position(done as u64);
            let image = &images[class.members[0].image];
            let label = image.label(&image.tables.sites[class.members[0].site]);
            bar.set_message(format!("{} {model} {label}", question.protocol));
        },
    );
    bar.finish_and_clear();
    if let Some(failure) = unwritten {
        return Err(failure);
    }
    let bounds = format!(
        "{EXECUTORS} executors, {} passes each, ring {RING}, {} NMIs; fetch model {model}, rule {}; {} of {total} classes, \
         each in both directions{}",
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

/// A search that was cut by a signal is none: what it has not found says nothing.
fn whole(checked: Result<Report, CheckError>) -> Result<Report, CheckError> {
    match checked {
        Ok(report) if report.interrupted() => Err(MachineError::Interrupted.into()),
        other => other,
    }
}

fn keep(asked: &Asked<'_>, scenario: &Scenario, report: &Report, schedules: &mut BTreeMap<String, String>) {
    if asked.schedules && !report.findings.is_empty() {
        schedules.insert(scenario.name.clone(), detail(report));
    }
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

/// Columns of CSV: a verdict, how many sites have it and what it rests on, then what is the same in every line of a
/// fetch model.
const COLUMNS: [(&str, bool); 18] = [
    ("verdict", false),
    ("sites", true),
    ("classes", true),
    ("adapted", true),
    ("other bytes", true),
    ("first bytes", true),
    ("all sites", true),
    ("protocol", false),
    ("rule", false),
    ("fetch", false),
    ("executors", true),
    ("passes", true),
    ("ring", true),
    ("nmi", true),
    ("tier", false),
    ("host", false),
    ("image", false),
    ("sha256", false),
];

/// The verdicts under one fetch model, each with everything that goes with it.
fn plain_rows(
    judged: &[Judged],
    question: &Question,
    model: FetchModel,
    all: usize,
    origin: &Origin,
) -> Vec<Vec<Cell>> {
    let tally = judge::tally(judged);
    let left = all - tally.iter().map(|(_, sites, _)| sites).sum::<usize>();
    let known = tally.iter().map(|(verdict, sites, classes)| {
        (verdict.text(), *sites, classes.to_string(), Provisos::of(judged, verdict))
    });
    let unknown = (left > 0).then(|| ("not judged".to_owned(), left, String::new(), Provisos::default()));
    known
        .chain(unknown)
        .map(|(verdict, sites, classes, Provisos { adapted, misses, left_out })| {
            let Question { protocol, rule, nmi, passes } = question;
            vec![
                verdict.into(),
                sites.into(),
                classes.into(),
                adapted.into(),
                misses.into(),
                left_out.into(),
                all.into(),
                protocol.into(),
                rule.into(),
                model.into(),
                EXECUTORS.into(),
                passes.into(),
                RING.into(),
                nmi.into(),
                TIER.into(),
                origin.host.line().into(),
                origin.name.as_str().into(),
                origin.digest.as_str().into(),
            ]
        })
        .collect()
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
                "left-out": judged.left_out,
                "members": judged.class.members.iter().map(label).collect::<Vec<_>>(),
            })
        })
        .collect();
    let sites: usize = judged.iter().map(|judged| judged.class.members.len()).sum();
    let safe = judged.iter().filter(|judged| judged.verdict == Verdict::Safe);
    let safe: usize = safe.map(|judged| judged.class.members.len()).sum();
    let without: BTreeMap<&str, usize> = without.iter().map(|(kind, count)| (kind.name(), *count)).collect();
    json!({
        "protocol": question.protocol, "rule": question.rule, "fetch": fetch.to_string(),
        "executors": EXECUTORS, "passes": question.passes, "ring": RING, "nmi": question.nmi,
        "sites": all, "safe": safe, "of-the-safe": Provisos::of(judged, &Verdict::Safe), "not-judged": all - sites,
        "one-version": without, "classes": classes,
    })
}

#[cfg(test)]
mod tests {
    use crossmod::results::{Reason, Status};

    use super::*;

    #[test]
    fn a_search_that_was_interrupted_is_no_verdict() {
        let mut report = Report::skipped("one", Reason::Other("as is said".into()));
        assert!(whole(Ok(report.clone())).is_ok(), "nothing was cut short");
        report.reason = Some(Reason::BeforeConfirmed);
        report.status = Status::NotDecided;
        let cut = whole(Ok(report));
        assert!(matches!(cut, Err(CheckError::Machine(MachineError::Interrupted))), "{cut:?}");
    }
}
