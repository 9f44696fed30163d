//! Store buffers: the explorer against a naive model of x86-TSO, over random programs.
//!
//! The scenario itself tells the final states apart: one of its programs reaches a step of its own in each final state
//! that the checker found, and violates a property in any other. This compares the sets of final states, and not only
//! what goes wrong on the way.

mod generate;
mod machine;
mod program;
mod search;

use std::collections::{BTreeMap, BTreeSet};

use crossmod::explore::Stalls;
use crossmod::{CheckOptions, Checker};

use super::fetch::Model;
use super::{Found, setting};
use crate::bench::{inline, options};
use crate::{harness, kvm};
use machine::{Memory, Outcome};
use program::{Case, ends_at};
use search::{Verdict, search};

/// Random programs with more states or final states than this are skipped.
const MOST: usize = 5_000;
const MOST_FINALS: usize = 24;

/// A case with what the checker finds.
struct Predicted {
    seed: u64,
    case: Case,
    model: Model,
    sc: Verdict,
    tso: Verdict,
}

fn predicted(seed: u64) -> Option<Predicted> {
    let (case, model) = generate::case(seed);
    let tso = search(&case, model, Memory::Tso, MOST)?;
    let sc = search(&case, model, Memory::Sc, MOST)?;
    assert!(sc.violated.is_subset(&tso.violated), "seed {seed}: x86-TSO allows what SC does");
    assert!(sc.finals.is_subset(&tso.finals), "seed {seed}: x86-TSO allows what SC does");
    (tso.finals.len() <= MOST_FINALS).then_some(Predicted { seed, case, model, sc, tso })
}

/// The result of a search, and which of the final states under x86-TSO it reached.
#[derive(Debug, PartialEq, Eq)]
struct Reached {
    found: Found,
    finals: BTreeSet<usize>,
}

impl Predicted {
    fn verdict(&self, memory: Memory) -> &Verdict {
        if memory == Memory::Tso { &self.tso } else { &self.sc }
    }

    fn text(&self, memory: Memory) -> String {
        let memory = if memory == Memory::Tso { "tso" } else { "sc" };
        self.case.text(memory, &self.tso.finals)
    }

    /// What the explorer should find.
    fn expected(&self, memory: Memory) -> Reached {
        let verdict = self.verdict(memory);
        let outcome = |outcome: &Outcome| outcome.text(self.case.alike);
        let outcomes = verdict.outcomes.iter().map(outcome).collect();
        let all = self.tso.finals.iter().enumerate();
        let finals = all.filter(|(_, one)| verdict.finals.contains(one)).map(|(number, _)| number);
        Reached { found: Found { violated: verdict.violated.clone(), outcomes }, finals: finals.collect() }
    }

    /// What the explorer finds.
    fn explored(&self, checker: &mut Checker, memory: Memory, options: &CheckOptions) -> Reached {
        let scenario = inline(&format!("buffers-{}", self.seed), &self.text(memory));
        let options = CheckOptions { fetch: Some(self.model.name.parse().unwrap()), ..*options };
        let report = match checker.check(&scenario, &options, |_| {}) {
            Ok(report) => report,
            Err(error) => panic!("{error}\n{}", scenario.text),
        };
        let reached = |number: &usize| !report.unreached.contains(&format!("p0.{}", ends_at(*number)));
        let finals = (0..self.tso.finals.len()).filter(reached).collect();
        Reached { found: super::found(&report), finals }
    }

    /// Compares under a memory model.
    fn compare(&self, checker: &mut Checker, memory: Memory, options: &CheckOptions) -> Result<(), String> {
        let expected = self.expected(memory);
        let explored = self.explored(checker, memory, options);
        if explored == expected {
            return Ok(());
        }
        let mut text = format!(
            "seed {}, fetch model {}, {memory:?}\n\n{}\nexplorer: {explored:?}\nchecker:  {expected:?}\n",
            self.seed,
            self.model.name,
            self.text(memory),
        );
        for (number, one) in self.tso.finals.iter().enumerate() {
            if explored.finals.contains(&number) != expected.finals.contains(&number) {
                let schedules = &self.verdict(memory).schedules;
                let schedule = schedules.iter().find(|(known, _)| known == one);
                text += &format!("\n{number}: {one:?}, as the checker sees it:\n");
                schedule.iter().flat_map(|(_, moves)| moves).for_each(|label| {
                    text += &format!("  {}\n", label.text());
                });
            }
        }
        Err(text)
    }
}

/// Options without what only the measurement of stalls needs.
fn brief() -> CheckOptions {
    CheckOptions { stalls: Stalls::No, ..options() }
}

/// The totals of a test's comparisons.
#[derive(Debug, Default)]
struct Tally {
    asked: u64,
    compared: u64,
    /// These show something that SC does not have.
    weaker: u64,
    states: usize,
    violated: BTreeMap<&'static str, u64>,
}

impl Tally {
    fn count(&mut self, predicted: &Predicted) {
        self.compared += 1;
        self.states += predicted.tso.states;
        self.weaker += u64::from(!predicted.tso.same(&predicted.sc));
        for property in &predicted.tso.violated {
            *self.violated.entry(property).or_default() += 1;
        }
    }
}

/// `CROSSMOD_BUFFERS_CASES` and `_SEED` say how many programs, from which seed.
#[test(long)]
fn the_explorer_and_the_checker_agree_on_random_programs_with_store_buffers() {
    kvm::required();
    let cases = setting("CROSSMOD_BUFFERS_CASES", 1000);
    let mut checker = harness::checker();
    let mut tally = Tally::default();
    let mut differences = Vec::new();
    for seed in setting("CROSSMOD_BUFFERS_SEED", 0).. {
        if tally.compared == cases {
            break;
        }
        tally.asked += 1;
        let Some(predicted) = predicted(seed) else { continue };
        tally.count(&predicted);
        differences.extend(predicted.compare(&mut checker, Memory::Tso, &brief()).err());
    }
    eprintln!("{tally:?}");
    for difference in differences.iter().take(3) {
        eprintln!("{difference}\n");
    }
    assert!(differences.is_empty(), "the explorer and the checker disagree on {}", differences.len());
    if cases >= 1000 {
        let Tally { asked, compared, weaker, .. } = tally;
        assert!(weaker * 3 > compared, "{weaker} of {compared} show something that SC does not have");
        assert!(compared * 3 > asked * 2, "{compared} of {asked} compared");
    }
}

/// Whatever the search leaves out or remembers, and under `memory = "sc"`.
#[test(long)]
fn store_buffers_have_the_same_verdicts_whatever_the_search_leaves_out() {
    kvm::required();
    let options = [
        CheckOptions { reduce: false, ..brief() },
        CheckOptions { symmetry: false, ..brief() },
        CheckOptions { memo: false, ..brief() },
        options(),
    ];
    let mut checker = harness::checker();
    let mut tally = Tally::default();
    let mut alike = 0;
    for seed in (0..).step_by(7) {
        if tally.compared == 60 {
            break;
        }
        tally.asked += 1;
        let Some(predicted) = predicted(seed) else { continue };
        tally.count(&predicted);
        alike += u32::from(predicted.case.alike);
        for options in &options {
            predicted.compare(&mut checker, Memory::Tso, options).unwrap_or_else(|text| panic!("{text}"));
        }
        predicted.compare(&mut checker, Memory::Sc, &brief()).unwrap_or_else(|text| panic!("{text}"));
    }
    eprintln!("{tally:?}, {alike} with one program for all");
    assert!(alike >= 5, "{alike}");
}
