//! Scenarios that test nothing: their *safe* would say nothing, either.

use crossmod_explore::Model;
use crossmod_model::plan::{OpKind, Plan};

/// What never happened in any schedule of a finished search, and leaves a verdict of no violation without content. The
/// words of `[final]` and steps that fail are tests of their own.
pub(super) fn reasons(model: &Model<'_>) -> Vec<String> {
    let plan = model.plan();
    let unreached = model.unreached();
    let checks = || plan.programs.checks.iter();
    let compares = || checks().filter_map(|check| check.step.as_deref());
    let mut reasons: Vec<String> = compares()
        .filter(|step| unreached.contains(step))
        .map(|step| format!("no schedule reaches the check `{step}`"))
        .collect();
    let tests_otherwise = plan.finals.is_some() || !checks().all(|check| check.step.is_some());
    let checked = tests_otherwise || compares().any(|step| !unreached.contains(step));
    if !model.fetches_the_site() && !checked {
        reasons.push("nobody runs the site".into());
    }
    if model.outcomes().is_empty() && !plan.forbidden.is_empty() {
        reasons.push("no pass ends that `forbid` could forbid".into());
    }
    let unseen = model.fetches_the_site() && model.stores_to_the_site() && !model.fetches_a_store();
    if unseen && !checked {
        reasons.push("nobody who runs the site meets what the steps have stored".into());
    }
    if let [first, ..] = &plan.unnamed_stores[..] {
        for name in never_stored(plan) {
            reasons.push(format!(
                "no step stores to the site `{name}`, and step `{first}` does not say which it means"
            ));
        }
    }
    reasons
}

/// The sites that a modification would change and no step stores to.
fn never_stored(plan: &Plan) -> impl Iterator<Item = &str> {
    let own = plan.programs.stores.iter().map(|(_, op)| op);
    let stores: Vec<(usize, usize)> = plan
        .program
        .iter()
        .chain(own)
        .filter_map(|op| match &op.kind {
            OpKind::Store { offset, bytes } => Some((*offset, offset + bytes.len())),
            _ => None,
        })
        .collect();
    let never = move |range: std::ops::Range<usize>| {
        !stores.iter().any(|&(start, end)| start < range.end && range.start < end)
    };
    let (old, new) = (&plan.site.old.bytes, &plan.site.new.bytes);
    let parts = plan.site.parts.iter().filter(move |part| {
        let range = part.offset..part.offset + part.len;
        old[range.clone()] != new[range.clone()] && never(range)
    });
    parts.map(|part| part.name.as_str())
}
