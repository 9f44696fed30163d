//! Judges every site of an image: one scenario for each class and direction.
//!
//! A callback checks the scenarios, so the caller chooses options and caching, and shows the progress. With a
//! [`Checker`](crate::Checker), that of [`judge`] is
//! `|scenario| Ok(Verdict::of(&checker.check(scenario, &options, |_| {})?))`.

mod record;
mod run;
mod summary;
mod verdict;

pub use record::{ClassRecord, Crossing, Judgement, Judgements};
pub use run::{ModelOutcome, Outcome, Request, run};
pub use summary::{OneStore, Provisos, Torn, safe, sites, tally};
pub use verdict::Verdict;

use crossmod_linux::{Class, Image, Member};

use super::export::{self, Direction, ExportError, Exported, PatchSetup};
use crate::scenario::Scenario;

/// Maximum number of members to try for one whose scenario has the real bytes.
const TRIED: usize = 16;
/// Ring of the executors.
pub const RING: u8 = 0;

/// A class with its verdict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judged {
    /// The class.
    pub class: Class,
    /// The member whose scenarios were judged.
    pub representative: Member,
    /// Names of its scenarios, forward and back.
    pub scenarios: Vec<String>,
    /// The scenarios do not have exactly the representative's bytes: see [`export`].
    pub adapted: bool,
    /// Number of bytes at which the scenarios differ otherwise than the representative: see [`Exported::misses`].
    pub misses: usize,
    /// Number of bytes at the end of the site that were not judged: see [`Exported::left_out`].
    pub left_out: usize,
    /// The verdict on both directions together.
    pub verdict: Verdict,
}

impl Judged {
    /// Number of sites.
    pub fn sites(&self) -> usize {
        self.class.members.len()
    }
}

/// The scenarios of a class, forward and back, and the member they are made from: the first one whose bytes need no
/// change, or else the first that can be written as scenarios.
///
/// # Errors
///
/// The error of the first member, if no member can be written as scenarios.
pub fn scenarios(
    images: &[Image],
    class: &Class,
    setup: &PatchSetup,
) -> Result<(Member, Vec<Exported>), ExportError> {
    let both = |member: &Member| {
        let image = &images[member.image];
        let site = &image.tables.sites[member.site];
        let exported = Direction::BOTH.map(|direction| export::scenario(image, site, setup, direction));
        exported.into_iter().collect::<Result<_, _>>().map(|exported| (*member, exported))
    };
    let unchanged = |found: &Result<(Member, Vec<Exported>), ExportError>| {
        found.as_ref().is_ok_and(|(_, exported)| exported.iter().all(|exported| !exported.adapted))
    };
    let mut found = both(&class.members[0]);
    for member in class.members.iter().take(TRIED).skip(1) {
        if unchanged(&found) {
            break;
        }
        let next = both(member);
        if unchanged(&next) || (found.is_err() && next.is_ok()) {
            found = next;
        }
    }
    found
}

/// Judges classes. Calls `check` for each class and direction, and `progress` before each class with the number of
/// classes done. An error of `check` ends the judging.
///
/// # Errors
///
/// Returns the error of `check`, if any, with the classes that were judged before it.
pub fn judge<E>(
    images: &[Image],
    classes: Vec<Class>,
    setup: &PatchSetup,
    mut check: impl FnMut(&Scenario) -> Result<Verdict, E>,
    mut progress: impl FnMut(usize, &Class),
) -> (Vec<Judged>, Option<E>) {
    let mut judged = Vec::with_capacity(classes.len());
    for (done, class) in classes.into_iter().enumerate() {
        progress(done, &class);
        let (representative, exported, mut verdict) = match scenarios(images, &class, setup) {
            Ok((member, exported)) => (member, exported, Verdict::Safe),
            Err(error) => (class.members[0], Vec::new(), Verdict::Inexpressible(error.to_string())),
        };
        for exported in &exported {
            match check(&exported.scenario) {
                Ok(found) => verdict = verdict.and(found.of_class()),
                Err(error) => return (judged, Some(error)),
            }
        }
        judged.push(Judged {
            class,
            representative,
            adapted: exported.iter().any(|exported| exported.adapted),
            misses: exported.iter().map(|exported| exported.misses).max().unwrap_or_default(),
            left_out: exported.iter().map(|exported| exported.left_out).max().unwrap_or_default(),
            scenarios: exported.into_iter().map(|exported| exported.scenario.name).collect(),
            verdict,
        });
    }
    (judged, None)
}
