//! What verdicts look like as tables.

use std::collections::BTreeMap;

use super::build::{LISTED, more, release};
use super::{Cell, Sheet, Table};
use crate::linux::Image;
use crate::linux::{Kind, Traits};
use crate::sites::export::Question;
use crate::sites::judge::{self, Judged, Provisos, Verdict};

/// The sort of each version, with the lengths of its instructions if there are several.
fn versions(traits: &Traits) -> String {
    let one = |name: &str, version: usize| match traits.flows[version].as_slice() {
        [_] | [] => name.to_owned(),
        flows => {
            let lengths: Vec<String> = flows.iter().map(|(length, _)| length.to_string()).collect();
            format!("{name} ({})", lengths.join("+"))
        }
    };
    format!("{} - {}", one(traits.disk.name(), 0), one(traits.other.name(), 1))
}

/// A letter for each byte that was judged: `x` where the versions differ; and how many were not.
fn differs(traits: &Traits, left_out: usize) -> String {
    let judged = traits.length.saturating_sub(left_out as u64).min(u32::BITS.into());
    let mut text: String =
        (0..judged).map(|at| if traits.differs >> at & 1 == 1 { 'x' } else { '.' }).collect();
    if judged < traits.length {
        text.push_str(&format!(" and {} more", traits.length - judged));
    }
    text
}

/// Lines about sites that cannot be judged.
pub fn without_class(counts: &BTreeMap<Kind, usize>) -> Vec<String> {
    let line = |(kind, count): (&Kind, &usize)| {
        format!(
            "{count} {kind} sites have one version only, as far as the image tells: they are not among them"
        )
    };
    counts.iter().map(line).collect()
}

/// Verdicts. `all`: how many sites were to be judged; fewer were if it was interrupted.
pub fn judgement(
    images: &[Image],
    judged: &[Judged],
    question: &Question,
    bounds: &str,
    all: usize,
) -> Sheet {
    let count = |wanted: &dyn Fn(&Judged) -> bool| -> usize {
        judged.iter().filter(|judged| wanted(judged)).map(|judged| judged.class.members.len()).sum()
    };
    let sites = count(&|_| true);
    let safe = count(&|judged| judged.verdict == Verdict::Safe);
    let tally = judge::tally(judged);
    let verdicts = Table {
        caption: "Verdicts".into(),
        columns: vec![("verdict", false), ("sites", true), ("classes", true)],
        rows: tally
            .iter()
            .map(|(verdict, count, classes)| {
                vec![verdict.text().into(), Cell::part(*count, sites), (*classes).into()]
            })
            .collect(),
    };
    let mut worst: Vec<&Judged> = judged.iter().filter(|judged| judged.verdict != Verdict::Safe).collect();
    worst.sort_by_key(|judged| {
        let members = judged.class.members.len();
        (std::cmp::Reverse(judge::severity(&judged.verdict)), std::cmp::Reverse(members))
    });
    let rows = worst.iter().take(LISTED).map(|judged| {
        let traits = &judged.class.traits;
        let crossing = traits.crossing.map_or_else(String::new, |(boundary, split)| {
            format!("{split}+{} @{boundary}", traits.length - split)
        });
        let differs = differs(traits, judged.left_out);
        let image = &images[judged.representative.image];
        vec![
            judged.verdict.text().into(),
            traits.kind.name().into(),
            versions(traits).into(),
            differs.into(),
            crossing.into(),
            judged.class.members.len().into(),
            image.label(&image.tables.sites[judged.representative.site]).into(),
        ]
    });
    let mut tables = vec![verdicts];
    let mut summary = vec![format!(
        "{safe} of {all} sites are safe with {} under the {} rule",
        question.protocol, question.rule
    )];
    summary.extend(Provisos::of(judged, &Verdict::Safe).lines());
    if sites < all {
        summary.push(format!("{} sites were not judged: nothing is decided about them", all - sites));
    }
    let mut reasons: BTreeMap<&str, usize> = BTreeMap::new();
    for Judged { class, verdict, .. } in judged {
        if let Verdict::NotDecided(why) | Verdict::Inexpressible(why) = verdict {
            *reasons.entry(why.lines().next().unwrap_or_default()).or_default() += class.members.len();
        }
    }
    summary.extend(reasons.into_iter().map(|(why, count)| format!("{count} sites: {why}")));
    if !worst.is_empty() {
        tables.push(Table {
            caption: "The worst classes: what the versions are, which bytes differ (x), where a block ends, an example"
                .into(),
            columns: vec![
                ("verdict", false),
                ("kind", false),
                ("versions", false),
                ("differs", false),
                ("crosses", false),
                ("sites", true),
                ("such as", false),
            ],
            rows: rows.collect(),
        });
        summary.extend(more(LISTED, worst.len(), "classes"));
    }
    let first = images.first().and_then(|image| image.release.as_ref());
    Sheet {
        title: release(first, "an image"),
        notes: vec![bounds.to_owned()],
        tables,
        summary,
        ..Sheet::default()
    }
}
