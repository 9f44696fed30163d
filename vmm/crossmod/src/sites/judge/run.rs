//! Judges the classes of images under several fetch models.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use crossmod_linux::{Class, Image, Kind};
use itertools::Itertools;

use super::{Judged, OneStore, Verdict, judge, tally};
use crate::fetch::FetchModel;
use crate::report::detail;
use crate::results::Report;
use crate::scenario::Scenario;
use crate::sites::export::PatchSetup;

/// What to judge, and how.
pub struct Request<'a> {
    /// The images.
    pub images: &'a [Image],
    /// Their classes.
    pub classes: Vec<Class>,
    /// Sites that belong to no class, by kind.
    pub without_class: BTreeMap<Kind, usize>,
    /// How sites are patched.
    pub setup: PatchSetup,
    /// Fetch models.
    pub models: Vec<FetchModel>,
}

/// The result of a run.
#[derive(Debug)]
pub struct Outcome {
    /// Number of sites in classes.
    pub sites: usize,
    /// Number of classes.
    pub classes: usize,
    /// Sites that belong to no class, by kind.
    pub without_class: BTreeMap<Kind, usize>,
    /// The result under each fetch model.
    pub models: Vec<ModelOutcome>,
    /// The harness failed at a class, which is therefore not decided.
    pub failed: bool,
}

/// The result under one fetch model.
#[derive(Debug)]
pub struct ModelOutcome {
    /// The fetch model.
    pub fetch: FetchModel,
    /// The classes that were judged.
    pub judged: Vec<Judged>,
    /// What the sites need whatever the protocol.
    pub one_store: OneStore,
    /// Schedules of the findings, by scenario.
    pub schedules: BTreeMap<String, String>,
    /// Duration of the judging, in seconds.
    pub seconds: f64,
}

impl Outcome {
    /// True if every class that was judged is safe.
    pub fn safe(&self) -> bool {
        self.models.iter().flat_map(|model| &model.judged).all(|judged| judged.verdict == Verdict::Safe)
    }
}

impl ModelOutcome {
    /// For each verdict except `safe`, the worst first: its name and the schedule of a scenario of its largest class.
    pub fn worst_schedules(&self) -> Vec<(String, String)> {
        let of = |verdict: &Verdict| {
            let classes = self.judged.iter().filter(|judged| judged.verdict == *verdict);
            let largest = classes.sorted_by_key(|judged| Reverse(judged.sites()));
            let mut names = largest.flat_map(|judged| &judged.scenarios);
            names.find_map(|name| Some((name, self.schedules.get(name)?)))
        };
        let one = |(verdict, sites, _): (Verdict, usize, usize)| {
            let (name, schedule) = of(&verdict)?;
            Some((format!("{} ({sites} sites): {name}", verdict.text()), schedule.clone()))
        };
        tally(&self.judged).into_iter().filter_map(one).collect()
    }
}

/// Judges the classes under each fetch model, and with a single store under AMD's rule, whatever the protocol.
///
/// `check` returns the report of a scenario, or the reason why the harness failed; its last argument is false for the
/// single store. `progress` is called before each class with the number of classes done.
///
/// # Errors
///
/// Returns the error of `check`, if any, with what was judged before it.
pub fn run<E>(
    request: Request<'_>,
    mut check: impl FnMut(&Scenario, FetchModel, bool) -> Result<Result<Report, String>, E>,
    mut progress: impl FnMut(usize, &Class, &PatchSetup, FetchModel),
) -> (Outcome, Option<E>) {
    let Request { images, classes, without_class, setup, models } = request;
    let sites = classes.iter().map(|class| class.members.len()).sum();
    let one_store = setup.one_store();
    let mut outcome =
        Outcome { sites, classes: classes.len(), without_class, models: Vec::new(), failed: false };
    for fetch in models {
        let mut schedules = BTreeMap::new();
        let mut under = |setup: &PatchSetup, main: bool| {
            let checked = |scenario: &Scenario| match check(scenario, fetch, main)? {
                Ok(report) => {
                    if main && !report.findings.is_empty() {
                        schedules.insert(scenario.name.clone(), detail(&report));
                    }
                    Ok(Verdict::of(&report))
                }
                Err(reason) => {
                    outcome.failed = true;
                    Ok(Verdict::NotDecided(reason))
                }
            };
            judge(images, classes.clone(), setup, checked, |done, class| progress(done, class, setup, fetch))
        };
        let begun = std::time::Instant::now();
        let (judged, mut error) = under(&setup, true);
        let seconds = begun.elapsed().as_secs_f64();
        let one_store = if error.is_some() {
            OneStore::of(&[], sites)
        } else if one_store == setup {
            OneStore::of(&judged, sites)
        } else {
            let (judged, ended) = under(&one_store, false);
            error = ended;
            OneStore::of(&judged, sites)
        };
        outcome.models.push(ModelOutcome { fetch, judged, one_store, schedules, seconds });
        if error.is_some() {
            return (outcome, error);
        }
    }
    (outcome, None)
}
