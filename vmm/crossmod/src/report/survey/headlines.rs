//! The most important findings of a survey, in words.

use std::collections::BTreeSet;

use crate::freerun::survey::{Crosses, ModelLine, Survey, SurveyRow};

/// The most important findings: blocks that are fetched in another order than their addresses'; outcomes that a binding
/// model does not allow, by boundary; torn pairs inside a line; and what nothing explains.
pub fn headlines(survey: &Survey) -> Vec<String> {
    let findings = forbidden(survey).chain(torn_pairs(survey)).chain(unexplained(survey));
    order(survey).into_iter().chain(findings).collect()
}

fn order(survey: &Survey) -> Option<String> {
    let newer =
        |row: &&SurveyRow| row.cell.shows_order() && row.seen.iter().any(|seen| seen.counts.first_newer > 0);
    let rows: Vec<&SurveyRow> = survey.rows.iter().filter(newer).collect();
    let crossed = rows.iter().map(|row| row.cell.crosses()).collect::<BTreeSet<_>>();
    let crossed: Vec<&str> = crossed.into_iter().map(Crosses::name).collect();
    let passes: u64 = rows.iter().flat_map(|row| &row.seen).map(|seen| seen.counts.first_newer).sum();
    (passes > 0).then(|| {
        format!(
            "the blocks of one instruction are not fetched in one order here: {passes} passes executed a newer first half \
             with an older second one, across {}: a protocol that stores the rest before the first byte needs a round \
             between the two",
            crossed.join(", ")
        )
    })
}

fn forbidden(survey: &Survey) -> impl Iterator<Item = String> {
    let binding = move |model: &&ModelLine| ["line", survey.host.vendor()].contains(&model.model.as_str());
    survey.models.iter().filter(binding).flat_map(move |model| {
        let boundaries = model.forbidden_by_boundary.iter();
        boundaries.map(move |(&boundary, &passes)| forbidden_at(survey, model, boundary, passes))
    })
}

fn forbidden_at(survey: &Survey, model: &ModelLine, boundary: Crosses, passes: u64) -> String {
    let places = survey.rows.iter().filter(|row| row.cell.crosses() == boundary).count();
    let promise = match (model.model.as_str(), boundary) {
        ("line", Crosses::Line | Crosses::Page) => "no vendor promises it",
        // Inside a line.
        ("line", _) => "what practice relies on; no vendor promises it",
        _ => "what the vendor promises",
    };
    let crossed = match boundary {
        Crosses::Nothing => "nothing".into(),
        Crosses::Line | Crosses::Page => format!("a {}", boundary.name()),
        _ => format!("{} bytes inside a line", boundary.name()),
    };
    let model = &model.model;
    format!(
        "{passes} passes in the {places} places that cross {crossed} showed what the `{model}` model does not allow \
         ({promise})"
    )
}

fn torn_pairs(survey: &Survey) -> impl Iterator<Item = String> {
    [(true, "an aligned quadword"), (false, "a line")].into_iter().filter_map(|(inside, within)| {
        let rows = || {
            let rows = survey.pairs.iter().filter(|row| row.crosses < Crosses::Line);
            rows.filter(|row| row.amd_promises_whole == inside)
        };
        let torn: u64 = rows().flat_map(|row| &row.seen).map(|seen| seen.torn).sum();
        let places = rows().filter(|row| row.seen.iter().any(|seen| seen.torn > 0)).count();
        (torn > 0).then(|| {
            let all = rows().count();
            format!(
                "{torn} passes executed bytes of both instructions of a pair that lies inside {within}, at {places} of \
                 {all} places"
            )
        })
    })
}

fn unexplained(survey: &Survey) -> Option<String> {
    let places = || survey.rows.iter().flat_map(|row| &row.seen).map(|seen| &seen.counts);
    let pairs = || survey.pairs.iter().flat_map(|row| &row.seen);
    let exceptions = places().map(|counts| counts.exceptions).sum::<u64>()
        + pairs().map(|seen| seen.exceptions).sum::<u64>();
    let ahead: u64 = places().map(|counts| counts.ahead).sum();
    let unexplained: u64 = pairs().map(|seen| seen.unexplained).sum();
    (exceptions + ahead + unexplained > 0).then(|| {
        format!(
            "unexplained: {exceptions} exceptions, {ahead} passes ahead of the writer, {unexplained} that no mix of \
             the bytes of a pair explains"
        )
    })
}
