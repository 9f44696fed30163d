//! The results of shards as those of one run.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use thiserror::Error;

use super::{Results, Selection, Shard};
use crate::property::Property;
use crate::report::{Report, Status};

/// Why results cannot be joined.
#[derive(Debug, Error)]
pub enum JoinError {
    /// Nothing to join.
    #[error("there are no results to join")]
    Nothing,
    /// They are results of different things.
    #[error(
        "{first} and {second} differ in the {what}: `{one}` and `{other}`; run both with the same, then join them"
    )]
    Mixed {
        /// One file.
        first: String,
        /// Another.
        second: String,
        /// In what they differ.
        what: &'static str,
        /// What the first says.
        one: String,
        /// What the second says.
        other: String,
    },
    /// A part of a selection was not given.
    #[error(
        "shard {missing} of {count} is missing: {path} and those with it are not the whole; give its results too"
    )]
    Missing {
        /// The shards, as `2, 3`.
        missing: String,
        /// Of how many.
        count: u32,
        /// A file that there is.
        path: String,
    },
    /// A selection has a case that no file reports.
    #[error("{path} should report `{case}`, and does not: is the file complete?")]
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
        /// What the first says.
        one: String,
        /// What the second says.
        other: String,
    },
}

/// Joins results, each with the path that messages call it by. The reports come in the order of the selection; of
/// several selections, in the order in which they are given. A case that occurs more than once must have the same
/// verdict; a verdict replaces a skip, which is none.
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
        Selection::new(reports.iter().map(|report| (report.case(), report.plan.clone())))
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

/// Of two reports of one case the one that stands.
fn agree<'a>(
    one: (&'a str, &'a Report),
    other: (&'a str, &'a Report),
) -> Result<(&'a str, &'a Report), JoinError> {
    let found = |report: &Report| -> Vec<Property> {
        report.findings.iter().map(|finding| finding.violation.property).collect()
    };
    let verdict = |report: &Report| (report.status, report.as_expected, found(report), report.plan.clone());
    match (one.1.status, other.1.status) {
        (_, Status::Skipped) => Ok(one),
        (Status::Skipped, _) => Ok(other),
        _ if verdict(one.1) == verdict(other.1) => Ok(one),
        _ => {
            let say = |report: &Report| {
                let names: Vec<&str> = found(report).iter().map(|property| property.name()).collect();
                let plan = report.plan.get(..12).unwrap_or("none");
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
