//! Scenarios that test nothing: their *safe* would say nothing, either.

use crossmod_explore::Model;
use crossmod_model::plan::{OpKind, Plan};

/// What never happened in any schedule of a finished search, and leaves a verdict of no violation without content. The
/// words of `[final]` are a test of their own, and so is a patcher that refuses to patch.
pub(super) fn reasons(model: &Model<'_>) -> Vec<String> {
    let plan = model.plan();
    let unreached = model.unreached();
    let mut reasons: Vec<String> = Vec::new();
    let stores = stores(plan);
    let ended = !model.outcomes().is_empty();
    let checks = plan.programs.checks.iter().filter_map(|check| check.step.as_deref());
    let checked = checks.clone().any(|step| !unreached.contains(step));
    let unchecked = checks.filter(|step| unreached.contains(step));
    reasons.extend(unchecked.map(|step| format!("no schedule reaches the check `{step}`")));
    if !ended && !checked && plan.finals.is_none() {
        reasons.push("no pass through the site ends".into());
    }
    if !ended && !plan.forbidden.is_empty() {
        reasons.push("no pass shows a combination that `forbid` could name".into());
    }
    let seen = model.outcomes().iter().any(|outcome| outcome.trapped || !outcome.old);
    let performed = model.stores_to_the_site();
    if ended && performed && !seen && !checked && plan.finals.is_none() && visible(plan) {
        reasons.push("no pass sees a store to the site".into());
    }
    for part in plan.site.parts.iter().filter(|_| !stores.is_empty()) {
        let range = part.offset..part.offset + part.len;
        let changes = plan.site.old.bytes[range.clone()] != plan.site.new.bytes[range.clone()];
        let stored = stores.iter().any(|&(offset, len)| offset < range.end && range.start < offset + len);
        if changes && !stored {
            reasons.push(format!("no step stores to the site `{}`", part.name));
        }
    }
    reasons
}

/// Offset and length of every store of the plan.
fn stores(plan: &Plan) -> Vec<(usize, usize)> {
    let own = plan.programs.stores.iter().map(|(_, op)| op);
    let store = |kind: &OpKind| match kind {
        OpKind::Store { offset, bytes } => Some((*offset, bytes.len())),
        _ => None,
    };
    plan.program.iter().chain(own).filter_map(|op| store(&op.kind)).collect()
}

/// A pass can tell the versions apart.
fn visible(plan: &Plan) -> bool {
    plan.site.old.bytes != plan.site.new.bytes
}
