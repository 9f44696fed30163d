//! Which steps the patcher performs, in which order: the scenario's own, a protocol's, or a protocol's with
//! changes.

use std::collections::HashSet;

use super::error::{ScenarioError, suggest};
use super::operation::Operation;
use super::site::Resolved;
use super::spanned::Spanned;
use super::syntax::{File, Protocol, Serialise, SerialiseBy, Step, Text, What};

/// A step with its label.
#[derive(Debug)]
pub(super) struct Item {
    pub label: String,
    /// Its place among the protocol's steps followed by the scenario's own.
    pub index: usize,
    pub step: Spanned<Step>,
}

impl Item {
    /// True for steps that load RFLAGS whole, with interrupts on.
    pub fn switches_on(&self) -> bool {
        let iret = |how: &Serialise| how.by == SerialiseBy::Iret;
        self.step.flags.is_some() || self.step.serialise.as_ref().is_some_and(|how| iret(&how.value))
    }

    /// True if this step puts an int3 over the first byte.
    pub fn plants_int3(&self) -> bool {
        let Some(store) = &self.step.store else { return false };
        let named = store.what.as_ref().is_some_and(|what| what.value == What::Int3);
        let first = store.at.as_ref().is_some_and(|at| at.value == 0);
        let bytes = store.bytes.as_ref().and_then(|text| super::value::hex(text));
        named || (first && bytes.is_some_and(|bytes| bytes.starts_with(&[0xcc])))
    }

    /// The part of the site that it names; else the first.
    pub fn part(&self, site: &Resolved) -> Result<usize, ScenarioError> {
        self.step.site.as_ref().map_or(Ok(0), |name| site.part(name, &name.place))
    }
}

impl Spanned<Step> {
    /// The one operation of the step.
    pub fn operation(&self) -> Result<Operation<'_>, ScenarioError> {
        match self.operations()[..] {
            [operation] => Ok(operation),
            [] => Err(self.place.error(
                "a step without an operation",
                "nothing to do",
                format!("add one of {}", crate::operations().join(", ")),
            )),
            [_, second, ..] => Err(self.place.error(
                format!("a step with {} operations", self.operations().len()),
                "more than one operation",
                format!(
                    "give each operation a [[step]] of its own: move `{}` to the next one",
                    second.name()
                ),
            )),
        }
    }
}

/// Takes the steps out of the scenario and its protocol and puts them in order.
pub(super) fn collect(file: &mut File, protocol: &mut Protocol) -> Result<Vec<Item>, ScenarioError> {
    let mut items = Vec::new();
    append(&mut items, std::mem::take(&mut protocol.step))?;
    let own = std::mem::take(&mut file.step);
    if let (Some(_), None, Some(step)) = (&file.protocol, &file.order, own.first()) {
        return Err(step.place.error(
            "the scenario adds a step to the protocol without saying where",
            "position unknown",
            "add `order = [...]` with all labels, those of the protocol and those of this file",
        ));
    }
    append(&mut items, own)?;
    for label in &file.without {
        take(&mut items, label)?;
    }
    if let Some(order) = &file.order {
        items = reorder(items, order)?;
    }
    if items.is_empty() && file.program.is_empty() && protocol.program.is_empty() {
        return Err(file.title.place.top().error(
            "the patcher has no steps",
            "no steps",
            "add a [[step]], or name a `protocol`",
        ));
    }
    Ok(items)
}

/// Gives each step its label, and puts it behind the others.
pub(super) fn append(items: &mut Vec<Item>, steps: Vec<Spanned<Step>>) -> Result<(), ScenarioError> {
    let mut taken: HashSet<String> = items.iter().map(|item| item.label.clone()).collect();
    let given = steps.iter().filter_map(|step| step.label.as_ref());
    let given: HashSet<String> = given.map(|label| label.value.clone()).collect();
    for step in steps {
        let label = match &step.label {
            Some(Spanned { value: text, place }) => {
                if text.is_empty() || text.len() > 40 || text.chars().any(|c| c.is_control() || c == ' ') {
                    return Err(place.error(
                        "a label is one word of at most 40 characters",
                        "not a label",
                        "use a short name such as \"sync-tail\"",
                    ));
                }
                if taken.contains(text) {
                    return Err(place.error(
                        format!("two steps have the label `{text}`"),
                        "used before",
                        "give each step a label of its own",
                    ));
                }
                text.clone()
            }
            None => {
                let name = step.operation()?.name();
                (1..)
                    .map(|number| format!("{name}-{number}"))
                    .find(|label| !taken.contains(label) && !given.contains(label))
                    .unwrap_or_default()
            }
        };
        taken.insert(label.clone());
        items.push(Item { label, index: items.len(), step });
    }
    Ok(())
}

/// Takes the step with a label out of the list.
fn take(items: &mut Vec<Item>, label: &Text) -> Result<Item, ScenarioError> {
    if let Some(index) = items.iter().position(|item| item.label == label.value) {
        return Ok(items.remove(index));
    }
    let labels: Vec<_> = items.iter().map(|item| item.label.as_str()).collect();
    let help = suggest(label, &labels, &format!("the labels are {}", labels.join(", ")));
    Err(label.place.error(format!("there is no step `{}`", label.value), "unknown label", help))
}

fn reorder(mut items: Vec<Item>, order: &Spanned<Vec<Text>>) -> Result<Vec<Item>, ScenarioError> {
    let mut ordered: Vec<Item> = Vec::new();
    for label in &order.value {
        if ordered.iter().any(|item| item.label == label.value) {
            return Err(label.place.error(
                format!("the order names the step `{}` twice", label.value),
                "again",
                "name each step once; for a second one like it add a [[step]]",
            ));
        }
        ordered.push(take(&mut items, label)?);
    }
    if let Some(left) = items.first() {
        return Err(order.place.error(
            format!("the order does not name the step `{}`", left.label),
            "incomplete",
            format!("add \"{0}\", or drop the step: `without = [\"{0}\"]`", left.label),
        ));
    }
    Ok(ordered)
}
