//! Joins the results of shards, or of several runs, into those of one run.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use itertools::Itertools;
use thiserror::Error;

use crate::results::{Report, Results, Selection, Shard, Status};

/// Why results cannot be joined: which files, what is wrong with them, and what to do.
#[derive(Debug, Error)]
#[error("{0}")]
pub struct JoinError(String);

/// Joins results, each given with the path that error messages use for it. The reports are in the order of the
/// selection, and several selections in the order of `files`. A case that occurs more than once must have the same
/// verdict each time; a verdict replaces a skip.
///
/// # Errors
///
/// See [`JoinError`].
pub fn join(files: &[(String, Results)]) -> Result<Results, JoinError> {
    let [(first, model), rest @ ..] = files else {
        return Err(JoinError("there are no results to join".into()));
    };
    for (path, results) in rest {
        same((first, path), "version of Crossmod", &model.crossmod, &results.crossmod)?;
        same((first, path), "guest image", &model.image, &results.image)?;
        same((first, path), "options", &model.options, &results.options)?;
    }
    let mut selections: Vec<(&str, &Selection, u32)> = Vec::new();
    for (path, results) in files {
        let (selection, count) = (&results.selection, results.shard.count);
        if !selections.iter().any(|(_, known, parts)| (&known.digest, *parts) == (&selection.digest, count)) {
            selections.push((path, selection, count));
        }
    }
    let mut known: BTreeMap<String, (&str, &Report)> = BTreeMap::new();
    for (path, results) in files {
        for report in &results.reports {
            match known.entry(report.case()) {
                Entry::Vacant(entry) => drop(entry.insert((path, report))),
                Entry::Occupied(mut entry) => {
                    let better = agree(*entry.get(), (path, report))?;
                    entry.insert(better);
                }
            }
        }
    }
    let mut reports = Vec::new();
    for &(path, selection, count) in &selections {
        let has = |index: u32| {
            files.iter().any(|(_, results)| {
                results.selection.digest == selection.digest && results.shard == Shard { index, count }
            })
        };
        let missing = (1..=count).filter(|&index| !has(index)).join(", ");
        if !missing.is_empty() {
            return Err(JoinError(format!(
                "shard {missing} of {count} is missing: {path} has the results of another shard; give those of every shard"
            )));
        }
        for case in &selection.cases {
            if let Some((_, report)) = known.remove(case) {
                reports.push(report.clone());
            } else if !reports.iter().any(|report| report.case() == *case) {
                return Err(JoinError(format!(
                    "{path} selects `{case}`, but no file reports it: the file is incomplete; run that shard again"
                )));
            }
        }
    }
    let selection = if selections.iter().all(|(_, other, _)| other.digest == model.selection.digest) {
        model.selection.clone()
    } else {
        Selection::of_reports(&reports)
    };
    let mut joined = Results { shard: Shard::WHOLE, selection, others: Vec::new(), reports, ..model.clone() };
    for host in files.iter().flat_map(|(_, results)| results.hosts()) {
        joined.ran_on(host);
    }
    Ok(joined)
}

fn same((first, second): (&str, &str), what: &str, one: &str, other: &str) -> Result<(), JoinError> {
    if one == other {
        return Ok(());
    }
    let [one, other] = [one, other].map(|text| if text.is_empty() { "none" } else { text });
    Err(JoinError(format!(
        "{first} and {second} differ in the {what}: `{one}` and `{other}`; run both with the same, then join them"
    )))
}

/// The report to keep, of two reports of the same case.
fn agree<'a>(
    one: (&'a str, &'a Report),
    other: (&'a str, &'a Report),
) -> Result<(&'a str, &'a Report), JoinError> {
    let verdict = |report: &Report| {
        (report.status, report.as_expected, report.violated().collect::<Vec<_>>(), report.plan.clone())
    };
    let ((first, left), (second, right)) = (one, other);
    match (left.status, right.status) {
        (_, Status::Skipped) => Ok(one),
        (Status::Skipped, _) => Ok(other),
        _ if verdict(left) == verdict(right) => Ok(one),
        _ => {
            let say = |report: &Report| {
                let (names, plan) = (report.violated().join(", "), report.plan.get(..12).unwrap_or("none"));
                format!("{} {names} (plan {plan})", report.status.name()).replace("  ", " ")
            };
            let (case, left, right) = (left.case(), say(left), say(right));
            Err(JoinError(format!(
                "{first} and {second} disagree about `{case}`: {left}, and {right}; if one repeats a run that failed, leave \
                 the failed one out"
            )))
        }
    }
}
