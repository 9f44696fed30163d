//! Joins the results of shards, or of several runs, into those of one run.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use crossmod_model::property::Property;
use thiserror::Error;

use crate::results::{Report, Results, Selection, Shard, Status};

/// Why results cannot be joined.
#[derive(Debug, Error)]
pub enum JoinError {
    /// Nothing to join.
    #[error("there are no results to join")]
    Nothing,
    /// The results were made with different programs or options.
    #[error(
        "{first} and {second} differ in the {what}: `{one}` and `{other}`; run both with the same, then join them"
    )]
    Mixed {
        /// One file.
        first: String,
        /// Another.
        second: String,
        /// What differs.
        what: &'static str,
        /// The value in the first file.
        one: String,
        /// The value in the second file.
        other: String,
    },
    /// The results of some shards were not given.
    #[error(
        "shard {missing} of {count} is missing: {path} has the results of another shard; give those of every shard"
    )]
    Missing {
        /// The missing shards, as `2, 3`.
        missing: String,
        /// Number of shards.
        count: u32,
        /// A file that was given.
        path: String,
    },
    /// A selection has a case that no file reports.
    #[error("{path} selects `{case}`, but no file reports it: the file is incomplete; run that shard again")]
    NoReport {
        /// A file of the selection.
        path: String,
        /// The case.
        case: String,
    },
    /// Two files disagree.
    #[error(
        "{first} and {second} disagree about `{case}`: {one}, and {other}; if one repeats a run that failed, leave \
         the failed one out"
    )]
    Disagree {
        /// One file.
        first: String,
        /// Another.
        second: String,
        /// The case.
        case: String,
        /// The value in the first file.
        one: String,
        /// The value in the second file.
        other: String,
    },
}

/// Joins results, each given with the path that error messages use for it. The reports are in the order of the
/// selection, and several selections in the order of `files`. A case that occurs more than once must have the same
/// verdict each time; a verdict replaces a skip.
///
/// # Errors
///
/// See [`JoinError`].
pub fn join(files: &[(String, Results)]) -> Result<Results, JoinError> {
    let [(first, model), rest @ ..] = files else { return Err(JoinError::Nothing) };
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
        let missing: Vec<String> =
            (1..=count).filter(|&index| !has(index)).map(|index| index.to_string()).collect();
        if !missing.is_empty() {
            return Err(JoinError::Missing { missing: missing.join(", "), count, path: path.into() });
        }
        for case in &selection.cases {
            if let Some((_, report)) = known.remove(case) {
                reports.push(report.clone());
            } else if !reports.iter().any(|report| report.case() == *case) {
                return Err(JoinError::NoReport { path: path.into(), case: case.clone() });
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

fn same((first, second): (&str, &str), what: &'static str, one: &str, other: &str) -> Result<(), JoinError> {
    if one == other {
        return Ok(());
    }
    let text = |text: &str| if text.is_empty() { "none".to_owned() } else { text.to_owned() };
    Err(JoinError::Mixed {
        first: first.into(),
        second: second.into(),
        what,
        one: text(one),
        other: text(other),
    })
}

/// The report to keep, of two reports of the same case.
fn agree<'a>(
    one: (&'a str, &'a Report),
    other: (&'a str, &'a Report),
) -> Result<(&'a str, &'a Report), JoinError> {
    let found = |report: &Report| report.violated().collect::<Vec<Property>>();
    let verdict = |report: &Report| (report.status, report.as_expected, found(report), report.plan.clone());
    match (one.1.status, other.1.status) {
        (_, Status::Skipped) => Ok(one),
        (Status::Skipped, _) => Ok(other),
        _ if verdict(one.1) == verdict(other.1) => Ok(one),
        _ => {
            let say = |report: &Report| {
                let names: Vec<&str> = found(report).iter().map(|property| property.name()).collect();
                let plan = report.plan.short();
                format!("{} {} (plan {plan})", report.status.name(), names.join(", ")).replace("  ", " ")
            };
            Err(JoinError::Disagree {
                first: one.0.into(),
                second: other.0.into(),
                case: one.1.case(),
                one: say(one.1),
                other: say(other.1),
            })
        }
    }
}
