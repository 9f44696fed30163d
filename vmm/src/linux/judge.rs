//! Every site of an image, judged: one scenario for each class and direction.
//!
//! What judges is a callback, so that fetch models, options, memory of earlier runs and progress are the caller's:
//! with a [`Checker`](crate::Checker) it is `|scenario| Ok(Verdict::of(&checker.check(scenario, &options, |_| {})?))`.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::class::{Class, Member};
use super::export::{self, Direction, Exported, Question};
use super::image::Image;
use crate::property::Property;
use crate::report::{Report, Status};
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
                Verdict::NotDecided(report.reason.clone().unwrap_or_else(|| "no verdict".into()))
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
        let (representative, scenarios, adapted, misses, verdict) = match scenarios(images, &class, question)
        {
            Err(error) => {
                let why = std::error::Error::source(&error).map(|why| format!(": {why}")).unwrap_or_default();
                (class.members[0], Vec::new(), false, 0, Verdict::Inexpressible(format!("{error}{why}")))
            }
            Ok((member, exported)) => {
                let mut verdict = Verdict::Safe;
                for exported in &exported {
                    match check(&exported.scenario) {
                        Ok(one) => verdict = verdict.and(one.of_class()),
                        Err(error) => return (judged, Some(error)),
                    }
                }
                let adapted = exported.iter().any(|exported| exported.adapted);
                let misses = exported.iter().map(|exported| exported.misses).max().unwrap_or_default();
                (
                    member,
                    exported.into_iter().map(|exported| exported.scenario.name).collect(),
                    adapted,
                    misses,
                    verdict,
                )
            }
        };
        judged.push(Judged { class, representative, scenarios, adapted, misses, verdict });
    }
    (judged, None)
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
