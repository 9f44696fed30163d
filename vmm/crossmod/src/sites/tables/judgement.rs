//! Tables of verdicts.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use crossmod_linux::{Image, Kind, Traits};
use crossmod_model::memory::MemoryModel;
use itertools::Itertools;

use super::build::{LISTED, more, release};
use super::{Cell, Document, Table, row};
use crate::report::TIER;
use crate::sites::Origin;
use crate::sites::export::{EXECUTORS, PatchSetup};
use crate::sites::judge::{self, Judged, ModelOutcome, Outcome, Provisos, RING, Verdict, tally};

/// The states of the versions, with the lengths of their instructions if there are several.
fn versions(traits: &Traits) -> String {
    let one = |name: &str, version: usize| match traits.flows[version].as_slice() {
        [_] | [] => name.to_owned(),
        flows => format!("{name} ({})", flows.iter().map(|(length, _)| length).join("+")),
    };
    format!("{} - {}", one(traits.disk.name(), 0), one(traits.other.name(), 1))
}

/// A character for each byte that was judged, `x` where the versions differ, and the number of bytes that were not.
fn differs(traits: &Traits, left_out: usize) -> String {
    let judged = traits.length.saturating_sub(left_out as u64).min(u32::BITS.into());
    let mut text: String =
        (0..judged).map(|at| if traits.differs >> at & 1 == 1 { 'x' } else { '.' }).collect();
    if judged < traits.length {
        text.push_str(&format!(" and {} more", traits.length - judged));
    }
    text
}

/// A line for each kind with sites that cannot be judged.
pub fn without_class(counts: &BTreeMap<Kind, usize>) -> Vec<String> {
    let what = "sites have one version only, as far as the image tells: they are not among them";
    counts.iter().map(|(kind, count)| format!("{count} {kind} {what}")).collect()
}

/// The verdicts under one fetch model. `all` is the number of sites to judge; an interrupted run has judged fewer.
pub fn judgement(
    images: &[Image],
    judged: &[Judged],
    setup: &PatchSetup,
    bounds: &str,
    all: usize,
) -> Document {
    let sites = judge::sites(judged);
    let worst = judged.iter().filter(|one| one.verdict != Verdict::Safe);
    let worst: Vec<_> = worst.sorted_by_key(|one| Reverse((one.verdict.severity(), one.sites()))).collect();
    let mut summary = vec![format!(
        "{} of {all} sites are safe with {} under the {} rule",
        judge::safe(judged),
        setup.protocol,
        setup.rule
    )];
    summary.extend(Provisos::of(judged, &Verdict::Safe).lines());
    if sites < all {
        summary.push(format!("{} sites were not judged: nothing is decided about them", all - sites));
    }
    summary.extend(reasons(judged));
    let mut tables = vec![verdicts(judged)];
    if !worst.is_empty() {
        summary.extend(more(LISTED, worst.len(), "classes"));
        tables.push(classes(images, &worst));
    }
    let first = images.first().and_then(|image| image.release.as_ref());
    let title = release(first, "an image");
    Document { title, notes: vec![bounds.to_owned()], tables, summary, ..Document::default() }
}

/// Number of sites and classes of each verdict.
fn verdicts(judged: &[Judged]) -> Table {
    let sites = judge::sites(judged);
    let row = |(verdict, count, classes): (Verdict, usize, usize)| {
        vec![verdict.text().into(), Cell::part(count, sites), classes.into()]
    };
    Table::new("Verdicts", "verdict, #sites, #classes", tally(judged).into_iter().map(row))
}

/// The first of these classes, each with an example.
fn classes(images: &[Image], classes: &[&Judged]) -> Table {
    let row_of = |one: &&Judged| {
        let traits = &one.class.traits;
        let crossing = traits.crossing.map_or_else(String::new, |(boundary, split)| {
            format!("{split}+{} @{boundary}", traits.length - split)
        });
        let (verdict, kind, label) =
            (one.verdict.text(), traits.kind.name(), one.representative.label(images));
        let (versions, differs) = (versions(traits), differs(traits, one.left_out));
        row(&[&verdict, &kind, &versions, &differs, &crossing, &one.sites(), &label])
    };
    Table::new(
        "The worst classes: what the versions are, which bytes differ (x), where a block ends, an example",
        "verdict, kind, versions, differs, crosses, #sites, such as",
        classes.iter().take(LISTED).map(row_of),
    )
}

/// Number of sites for each reason why there is no verdict.
fn reasons(judged: &[Judged]) -> impl Iterator<Item = String> {
    let mut reasons: BTreeMap<&str, usize> = BTreeMap::new();
    for one in judged {
        if let Verdict::NotDecided(why) | Verdict::Inexpressible(why) = &one.verdict {
            *reasons.entry(why.lines().next().unwrap_or_default()).or_default() += one.sites();
        }
    }
    reasons.into_iter().map(|(why, count)| format!("{count} sites: {why}"))
}

/// The verdicts under all fetch models of a run, with what CSV contains.
pub fn judgements(images: &[Image], setup: &PatchSetup, outcome: &Outcome, origin: &Origin) -> Document {
    let parts = outcome.models.iter().map(|model| {
        let bounds = bounds(setup, outcome, model, origin);
        let mut part = judgement(images, &model.judged, setup, &bounds, outcome.sites);
        part.summary.insert(1, model.one_store.text());
        part.summary.extend(without_class(&outcome.without_class));
        part.schedules = model.worst_schedules();
        (model.fetch.to_string(), part)
    });
    let mut document = together(parts.collect());
    document.notes.extend([TIER.into(), origin.host.line(), origin.line()]);
    let rows = outcome.models.iter().flat_map(|model| csv_rows(setup, outcome, model, origin));
    document.csv = Some(Table::new("", CSV_COLUMNS, rows));
    document
}

fn bounds(setup: &PatchSetup, outcome: &Outcome, model: &ModelOutcome, origin: &Origin) -> String {
    let (PatchSetup { passes, nmi, rule, .. }, fetch) = (setup, model.fetch);
    let (judged, all) = (model.judged.len(), outcome.classes);
    // Times on an emulated CPU mean nothing.
    let time = if origin.host.emulated { String::new() } else { format!(", in {:.1} s", model.seconds) };
    format!(
        "{EXECUTORS} executors, {passes} passes each, ring {RING}, {nmi} NMIs; fetch model {fetch}, rule {rule}, memory {}; {judged} of \
         {all} classes, each in both directions{time}",
        MemoryModel::default()
    )
}

/// One document of the documents of several fetch models. Each part names its model.
fn together(mut parts: Vec<(String, Document)>) -> Document {
    if parts.len() == 1 {
        return parts.swap_remove(0).1;
    }
    let mut all = Document::default();
    for (model, part) in parts {
        all.title = part.title;
        all.notes.extend(part.notes);
        for mut table in part.tables {
            table.caption.insert_str(0, &format!("Fetch model {model}. "));
            all.tables.push(table);
        }
        all.summary.extend(part.summary.into_iter().map(|line| format!("{model}: {line}")));
        let schedules = part.schedules.into_iter();
        all.schedules.extend(schedules.map(|(name, text)| (format!("{model}: {name}"), text)));
    }
    all
}

/// Columns of CSV: the verdict, its number of sites and provisos, then what is the same for every verdict under a fetch
/// model.
const CSV_COLUMNS: &str = "verdict, #sites, #classes, #adapted, #other bytes, #first bytes, #all sites, protocol, rule, \
                           fetch, #executors, #passes, #ring, #nmi, tier, host, image, sha256";

/// A row of CSV for each verdict under one fetch model.
fn csv_rows(setup: &PatchSetup, outcome: &Outcome, model: &ModelOutcome, origin: &Origin) -> Vec<Vec<Cell>> {
    let judged = &model.judged;
    let left = outcome.sites - judge::sites(judged);
    let known = tally(judged).into_iter().map(|(verdict, sites, classes)| {
        (verdict.text(), sites, classes.to_string(), Provisos::of(judged, &verdict))
    });
    let unknown = (left > 0).then(|| ("not judged".to_owned(), left, String::new(), Provisos::default()));
    let PatchSetup { protocol, rule, nmi, passes } = setup;
    let (all, fetch, host) = (outcome.sites, model.fetch, origin.host.line());
    let rows = known.chain(unknown).map(|(verdict, sites, classes, provisos)| {
        let Provisos { adapted, misses, left_out } = provisos;
        let mut cells = row(&[&verdict, &sites, &classes, &adapted, &misses, &left_out, &all]);
        cells.extend(row(&[protocol, rule, &fetch, &EXECUTORS, passes, &RING, nmi]));
        cells.extend(row(&[&TIER, &host, &origin.name, &origin.digest]));
        cells
    });
    rows.collect()
}
