//! The most important findings of a survey, in words.

use crate::freerun::survey::{Crosses, PassCounts, Survey};

/// The most important findings: outcomes that a binding model does not allow, by boundary, and those that nothing
/// explains.
pub fn headlines(survey: &Survey) -> Vec<String> {
    let mut lines = Vec::new();
    let vendor = survey.host.vendor();
    for model in survey.models.iter().filter(|line| line.model == "line" || line.model == vendor) {
        for (&boundary, passes) in &model.forbidden_by_boundary {
            let places = survey.rows.iter().filter(|row| row.cell.crosses() == boundary).count();
            let promise = match (model.model.as_str(), boundary) {
                ("line", Crosses::Line | Crosses::Page) => "no vendor promises it",
                // Inside a line.
                ("line", _) => "what practice relies on; no vendor promises it",
                _ => "what the vendor promises",
            };
            lines.push(format!(
                "{passes} passes in the {places} places that cross {} showed what the `{}` model does not allow ({promise})",
                match boundary {
                    Crosses::Nothing => "nothing".into(),
                    Crosses::Line | Crosses::Page => format!("a {}", boundary.name()),
                    _ => format!("{} bytes inside a line", boundary.name()),
                },
                model.model,
            ));
        }
    }
    let sum = |what: fn(&PassCounts) -> u64| -> u64 {
        survey.rows.iter().flat_map(|row| &row.seen).map(|seen| what(&seen.counts)).sum()
    };
    let (mut exceptions, ahead) = (sum(|counts| counts.exceptions), sum(|counts| counts.ahead));
    let mut unexplained = 0;
    for row in &survey.pairs {
        exceptions += row.seen.iter().map(|seen| seen.exceptions).sum::<u64>();
        unexplained += row.seen.iter().map(|seen| seen.unexplained).sum::<u64>();
    }
    for (inside, within) in [(true, "an aligned quadword"), (false, "a line")] {
        let rows = || {
            let rows = survey.pairs.iter().filter(|row| row.crosses < Crosses::Line);
            rows.filter(|row| row.amd_promises_whole == inside)
        };
        let torn: u64 = rows().flat_map(|row| &row.seen).map(|seen| seen.torn).sum();
        let places = rows().filter(|row| row.seen.iter().any(|seen| seen.torn > 0)).count();
        if torn > 0 {
            lines.push(format!(
                "{torn} passes executed bytes of both instructions of a pair that lies inside {within}, at {places} of \
                 {} places",
                rows().count()
            ));
        }
    }
    if exceptions + ahead + unexplained > 0 {
        lines.push(format!(
            "unexplained: {exceptions} exceptions, {ahead} passes ahead of the writer, {unexplained} that no mix of \
             the bytes of a pair leads to"
        ));
    }
    lines
}
