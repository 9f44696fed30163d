//! Every site of an image, judged: one scenario for each class and direction.
//!
//! What judges is a callback, so that fetch models, options, memory of earlier runs and progress are the caller's:
//! with a [`Checker`](crate::Checker) it is `|scenario| Ok(Verdict::of(&checker.check(scenario, &options, |_| {})?))`.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::export::{self, Direction, Exported, Question};
use crate::linux::Image;
use crate::linux::{Class, Member};
use crate::property::Property;
use crate::results::{Report, Status};
use crate::scenario::Scenario;

/// Members of a class that are tried for one whose scenario needs no change.
const TRIED: usize = 16;

/// What a scenario amounts to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// No violation within the bounds.
    Safe,
    /// These properties are violated.
    Hazard(BTreeSet<Property>),
    /// The search was cut short, or the harness failed.
    NotDecided(String),
    /// The scenario language cannot say it.
    Inexpressible(String),
}

impl Verdict {
    /// Of a report.
    pub fn of(report: &Report) -> Verdict {
        match report.status {
            Status::Safe => Verdict::Safe,
            Status::Hazard => {
                Verdict::Hazard(report.findings.iter().map(|finding| finding.violation.property).collect())
            }
            Status::NotDecided => Verdict::NotDecided("the search was cut short".into()),
            Status::Skipped | Status::HarnessError => {
                Verdict::NotDecided(report.reason.as_ref().map_or("no verdict".into(), ToString::to_string))
            }
        }
    }

    /// What holds for every member of a class. Where an instruction tears, what it goes on to do depends on its
    /// displacement: that it ends wrongly is then no trait of the class.
    fn of_class(self) -> Verdict {
        match self {
            Verdict::Hazard(mut properties) if properties.contains(&Property::Torn) => {
                properties.remove(&Property::WrongResume);
                Verdict::Hazard(properties)
            }
            other => other,
        }
    }

    /// Both, as one.
    fn and(self, other: Verdict) -> Verdict {
        match (self, other) {
            (Verdict::Hazard(mut left), Verdict::Hazard(right)) => {
                left.extend(right);
                Verdict::Hazard(left)
            }
            // They are ordered by how little they say for the site, except that a hazard found stays found.
            (hazard @ Verdict::Hazard(_), _) | (_, hazard @ Verdict::Hazard(_)) => hazard,
            (left, right) => left.max(right),
        }
    }

    /// In words.
    pub fn text(&self) -> String {
        match self {
            Verdict::Safe => "safe".into(),
            Verdict::Hazard(properties) => {
                properties.iter().map(|property| property.name()).collect::<Vec<_>>().join(", ")
            }
            Verdict::NotDecided(_) => "not decided".into(),
            Verdict::Inexpressible(_) => "cannot be expressed".into(),
        }
    }
}

/// A class with its verdict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judged {
    /// The class.
    pub class: Class,
    /// The member whose scenarios were judged.
    pub representative: Member,
    /// Their names, forward and back.
    pub scenarios: Vec<String>,
    /// The bytes of the scenarios are not quite the representative's: see [`export`].
    pub adapted: bool,
    /// Bytes in which they differ otherwise than the representative's: see [`Exported::misses`].
    pub misses: usize,
    /// Bytes at the end of the site that were not judged: see [`Exported::left_out`].
    pub left_out: usize,
    /// Both directions together.
    pub verdict: Verdict,
}

/// The scenarios of a class, forward and back, with the member that they are of: the first whose bytes can stay as
/// they are, else the first that can be expressed.
///
/// # Errors
///
/// Why the first member cannot be expressed, if none can.
pub fn scenarios(
    images: &[Image],
    class: &Class,
    question: &Question,
) -> Result<(Member, Vec<Exported>), export::ExportError> {
    let both = |member: &Member| {
        let image = &images[member.image];
        let site = &image.tables.sites[member.site];
        Direction::BOTH
            .into_iter()
            .map(|direction| export::scenario(image, site, question, direction))
            .collect::<Result<Vec<_>, _>>()
            .map(|exported| (*member, exported))
    };
    let mut found: Option<Result<(Member, Vec<Exported>), export::ExportError>> = None;
    for member in class.members.iter().take(TRIED) {
        let result = both(member);
        match &result {
            Ok((_, exported)) if exported.iter().all(|exported| !exported.adapted) => return result,
            Ok(_) if !matches!(found, Some(Ok(_))) => found = Some(result),
            Err(_) if found.is_none() => found = Some(result),
            _ => {}
        }
    }
    match found {
        Some(found) => found,
        None => both(&class.members[0]),
    }
}

/// Judges classes. `check` is called once for each class and direction; `progress` before each class, with the number
/// of classes done. What `check` ends with an error is not judged, and neither is what follows.
///
/// # Errors
///
/// That of `check`, with what was judged until then.
pub fn judge<E>(
    images: &[Image],
    classes: Vec<Class>,
    question: &Question,
    mut check: impl FnMut(&Scenario) -> Result<Verdict, E>,
    mut progress: impl FnMut(usize, &Class),
) -> (Vec<Judged>, Option<E>) {
    let mut judged = Vec::with_capacity(classes.len());
    for (done, class) in classes.into_iter().enumerate() {
        progress(done, &class);
        let mut one = Judged {
            representative: class.members[0],
            class,
            scenarios: Vec::new(),
            adapted: false,
            misses: 0,
            left_out: 0,
            verdict: Verdict::Safe,
        };
        match scenarios(images, &one.class, question) {
            Err(error) => {
                let why = std::error::Error::source(&error).map(|why| format!(": {why}")).unwrap_or_default();
                one.verdict = Verdict::Inexpressible(format!("{error}{why}"));
            }
            Ok((member, exported)) => {
                one.representative = member;
                for Exported { scenario, adapted, misses, left_out, .. } in exported {
                    match check(&scenario) {
                        Ok(verdict) => one.verdict = one.verdict.and(verdict.of_class()),
                        Err(error) => return (judged, Some(error)),
                    }
                    one.scenarios.push(scenario.name);
                    one.adapted |= adapted;
                    one.misses = one.misses.max(misses);
                    one.left_out = one.left_out.max(left_out);
                }
            }
        }
        judged.push(one);
    }
    (judged, None)
}

/// How many sites were judged by bytes that are not quite theirs, in one or more of three ways.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Provisos {
    /// With stand-ins or moved targets.
    pub adapted: usize,
    /// With bytes that differ between the versions where the real ones are equal, or the other way round.
    pub misses: usize,
    /// Without their last bytes.
    pub left_out: usize,
}

impl Provisos {
    /// Of the sites with this verdict.
    pub fn of(judged: &[Judged], verdict: &Verdict) -> Provisos {
        let mut provisos = Provisos::default();
        for one in judged.iter().filter(|one| one.verdict == *verdict) {
            let sites = |does: bool| if does { one.class.members.len() } else { 0 };
            provisos.adapted += sites(one.adapted);
            provisos.misses += sites(one.misses > 0);
            provisos.left_out += sites(one.left_out > 0);
        }
        provisos
    }

    /// Of the safe ones, in words: a line for each way in which there are any.
    pub fn lines(&self) -> Vec<String> {
        let lines = [
            (self.adapted, "were judged with stand-ins or moved targets"),
            (self.misses, "were judged with versions that differ in other bytes than the real ones"),
            (self.left_out, "were judged by their first bytes only: they are longer than a scenario's site"),
        ];
        let some = lines.into_iter().filter(|(count, _)| *count > 0);
        some.map(|(count, how)| format!("{count} of the safe sites {how}")).collect()
    }
}

/// What sites need that are simply stored over, under AMD's rule: see [`Question::one_store`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct OneStore {
    /// All of them.
    pub sites: usize,
    /// Nothing, if either version may be executed until who knows when: the rule says nothing about that.
    pub safe: usize,
    /// INT3, as a handshake.
    pub int3: usize,
    /// A wait as well: a CPU may stand between their instructions.
    pub wait: usize,
    /// Not known.
    pub not_decided: usize,
    /// Those of the above that would tear, by the largest block that ends inside.
    pub torn: Torn,
}

/// Sites that would tear.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Torn {
    /// Inside of an aligned quadword.
    pub inside: usize,
    /// Where a quadword ends, or a block of 16 or 32 bytes.
    pub quadword: usize,
    /// Where a cache line ends.
    pub line: usize,
    /// Where a page ends.
    pub page: usize,
}

impl OneStore {
    /// From the verdicts of that question. `sites`: how many there are; those that were not judged are not decided.
    pub fn of(judged: &[Judged], sites: usize) -> OneStore {
        let mut sum = OneStore { sites, not_decided: sites, ..OneStore::default() };
        for one in judged {
            let count = one.class.members.len();
            let need = match &one.verdict {
                Verdict::Safe => &mut sum.safe,
                Verdict::Hazard(properties) if properties.iter().all(|what| *what == Property::Stale) => {
                    &mut sum.safe
                }
                Verdict::Hazard(properties) if properties.contains(&Property::Interior) => &mut sum.wait,
                Verdict::Hazard(_) => &mut sum.int3,
                Verdict::NotDecided(_) | Verdict::Inexpressible(_) => continue,
            };
            *need += count;
            sum.not_decided = sum.not_decided.saturating_sub(count);
            if matches!(&one.verdict, Verdict::Hazard(properties) if properties.contains(&Property::Torn)) {
                *match one.class.traits.crossing {
                    None => &mut sum.torn.inside,
                    Some((4096.., _)) => &mut sum.torn.page,
                    Some((64.., _)) => &mut sum.torn.line,
                    Some(_) => &mut sum.torn.quadword,
                } += count;
            }
        }
        sum
    }

    /// In words.
    pub fn text(&self) -> String {
        let Torn { inside, quadword, line, page } = self.torn;
        let mut text = format!(
            "of {} sites {} are safe with one aligned store under the AMD rule (which does not say when it is seen), {} need \
             int3 (a handshake)",
            self.sites, self.safe, self.int3
        );
        if self.wait > 0 {
            text.push_str(&format!(
                ", {} a wait, too (a CPU may stand between their instructions)",
                self.wait
            ));
        }
        if self.not_decided > 0 {
            text.push_str(&format!(", {} are not decided", self.not_decided));
        }
        text.push_str(&format!(
            "; with nothing but the store {} would tear: {quadword} at a quadword, {line} at a line, {page} at a page",
            inside + quadword + line + page
        ));
        if inside > 0 {
            text.push_str(&format!(", {inside} inside of a quadword"));
        }
        text
    }
}

/// Sites and classes of each verdict, the worst first.
pub fn tally(judged: &[Judged]) -> Vec<(Verdict, usize, usize)> {
    let mut tally: BTreeMap<&Verdict, (usize, usize)> = BTreeMap::new();
    for Judged { class, verdict, .. } in judged {
        let (sites, classes) = tally.entry(verdict).or_default();
        *sites += class.members.len();
        *classes += 1;
    }
    let mut tally: Vec<_> =
        tally.into_iter().map(|(verdict, (sites, classes))| (verdict.clone(), sites, classes)).collect();
    tally
        .sort_by_key(|(verdict, sites, _)| (std::cmp::Reverse(severity(verdict)), std::cmp::Reverse(*sites)));
    tally
}

/// How bad a verdict is: the number of properties violated, damage before undisciplined stores.
pub fn severity(verdict: &Verdict) -> (u8, usize) {
    match verdict {
        Verdict::Safe => (0, 0),
        Verdict::Inexpressible(_) => (1, 0),
        Verdict::NotDecided(_) => (2, 0),
        Verdict::Hazard(properties)
            if properties.iter().all(|property| *property == Property::Unserialised) =>
        {
            (3, properties.len())
        }
        Verdict::Hazard(properties) => (4, properties.len()),
    }
}
