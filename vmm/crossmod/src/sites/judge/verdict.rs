//! Verdicts on scenarios and classes.

use std::collections::BTreeSet;

use itertools::Itertools;
use serde::Serialize;

use crate::property::Property;
use crate::results::{Report, Status};

/// The verdict on a scenario or a class.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// No violation within the bounds.
    Safe,
    /// These properties are violated.
    Hazard(BTreeSet<Property>),
    /// The search was incomplete, or the harness failed.
    NotDecided(String),
    /// The site cannot be written as a scenario.
    Inexpressible(String),
}

impl Verdict {
    /// The verdict of a report.
    pub fn of(report: &Report) -> Verdict {
        match report.status {
            Status::Safe => Verdict::Safe,
            Status::Hazard => Verdict::Hazard(report.violated().collect()),
            Status::NotDecided => Verdict::NotDecided("the search was cut short".into()),
            Status::Vacuous => Verdict::NotDecided(report.vacuous.join("; ")),
            Status::Skipped | Status::HarnessError => Verdict::NotDecided(
                report.reason.as_ref().map_or_else(|| "no verdict".into(), ToString::to_string),
            ),
        }
    }

    /// The part that holds for every member of a class. What a torn instruction does depends on its displacement, so
    /// whether a pass ends wrongly is then not a trait of the class.
    pub(super) fn of_class(self) -> Verdict {
        match self {
            Verdict::Hazard(mut properties) if properties.contains(&Property::Torn) => {
                properties.remove(&Property::WrongResume);
                Verdict::Hazard(properties)
            }
            other => other,
        }
    }

    /// The verdict on two scenarios together.
    pub(super) fn and(self, other: Verdict) -> Verdict {
        match (self, other) {
            (Verdict::Hazard(mut left), Verdict::Hazard(right)) => {
                left.extend(right);
                Verdict::Hazard(left)
            }
            // A hazard that was found remains one. Otherwise the variants are ordered: the later, the less is known.
            (hazard @ Verdict::Hazard(_), _) | (_, hazard @ Verdict::Hazard(_)) => hazard,
            (left, right) => left.max(right),
        }
    }

    /// True if this property is violated.
    pub fn violates(&self, property: Property) -> bool {
        matches!(self, Verdict::Hazard(properties) if properties.contains(&property))
    }

    /// True if no other property is violated.
    fn only(&self, property: Property) -> bool {
        matches!(self, Verdict::Hazard(properties) if properties.iter().all(|one| *one == property))
    }

    /// True if a plain store needs no protocol: there is no violation except for stores that are seen late.
    pub(super) fn safe_but_late(&self) -> bool {
        *self == Verdict::Safe || self.only(Property::Stale)
    }

    /// How bad a verdict is: hazards last, and among them those that only miss a serialising instruction first.
    pub fn severity(&self) -> (u8, usize) {
        match self {
            Verdict::Safe => (0, 0),
            Verdict::Inexpressible(_) => (1, 0),
            Verdict::NotDecided(_) => (2, 0),
            Verdict::Hazard(properties) => {
                (if self.only(Property::Unserialised) { 3 } else { 4 }, properties.len())
            }
        }
    }

    /// The verdict as text.
    pub fn text(&self) -> String {
        match self {
            Verdict::Safe => "safe".into(),
            Verdict::Hazard(properties) => properties.iter().join(", "),
            Verdict::NotDecided(_) => "not decided".into(),
            Verdict::Inexpressible(_) => "cannot be expressed".into(),
        }
    }
}
