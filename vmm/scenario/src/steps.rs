//! Which steps the patcher performs, in which order: the scenario's own, a protocol's, or a protocol's with
//! changes.

use std::collections::HashSet;

use super::error::{Place, ScenarioError, Source, suggest};
use super::operation::Operation;
use super::spanned::Spanned;
use super::syntax::{File, Protocol, Step, Text, What};

/// A step with its label and its file.
#[derive(Debug)]
pub(super) struct Item {
    pub label: String,
    /// Its place among the protocol's steps followed by the scenario's own.
    pub index: usize,
    pub step: Step,
    pub source: Source,
    pub place: Place,
}

impl Item {
    /// True if this step puts an int3 over the first byte.
    pub fn plants_int3(&self) -> bool {
        let Some(store) = self.step.store.as_ref().map(|store| store.get_ref()) else {
            return false;
        };
        let named = store.what.as_ref().is_some_and(|what| *what.get_ref() == What::Int3);
        let first = store.at.as_ref().is_some_and(|at| *at.get_ref() == 0);
        let bytes = store.bytes.as_ref().and_then(|text| super::value::hex(text.get_ref()));
        named || (first && bytes.is_some_and(|bytes| bytes.starts_with(&[0xcc])))
    }

    /// The one operation of the step.
    pub fn operation(&self) -> Result<Operation<'_>, ScenarioError> {
        one_operation(&self.step, &self.place)
    }
}

fn one_operation<'s>(step: &'s Step, place: &Place) -> Result<Operation<'s>, ScenarioError> {
    match step.operations()[..] {
        [operation] => Ok(operation),
        [] => Err(place.error(
            "a step without an operation",
            "nothing to do",
            format!("add one of {}", Operation::names().join(", ")),
        )),
        [_, second, ..] => Err(place.error(
            format!("a step with {} operations", step.operations().len()),
            "more than one operation",
            format!("give each operation a [[step]] of its own: move `{}` to the next one", second.name()),
        )),
    }
}

/// Takes the steps out of the scenario and its protocol and puts them in order.
pub(super) fn collect(
    source: &Source,
    file: &mut File,
    protocol: Option<(&Source, &mut Protocol)>,
) -> Result<Vec<Item>, ScenarioError> {
    let mut items = Vec::new();
    let borrowed = protocol.is_some();
    let programs = !file.program.is_empty()
        || protocol.as_ref().is_some_and(|(_, protocol)| !protocol.program.is_empty());
    if let Some((source, protocol)) = protocol {
        append(&mut items, source, std::mem::take(&mut protocol.step))?;
    }
    let own = std::mem::take(&mut file.step);
    if let (true, None, Some(step)) = (borrowed, &file.order, own.first()) {
        return Err(source.at(step.span()).error(
            "the scenario adds a step to the protocol without saying where",
            "position unknown",
            "add `order = [...]` with all labels, those of the protocol and those of this file",
        ));
    }
    append(&mut items, source, own)?;
    drop_steps(source, &mut items, &file.without)?;
    if let Some(order) = &file.order {
        items = reorder(source, items, order.get_ref(), &source.at(order.span()))?;
    }
    if items.is_empty() && !programs {
        return Err(source.at(0..1).error(
            "the patcher has no steps",
            "no steps",
            "add a [[step]], or name a `protocol`",
        ));
    }
    Ok(items)
}

/// Gives each step its label, and puts it behind the others.
pub(super) fn append(
    items: &mut Vec<Item>,
    source: &Source,
    steps: Vec<Spanned<Step>>,
) -> Result<(), ScenarioError> {
    let mut taken: HashSet<String> = items.iter().map(|item| item.label.clone()).collect();
    let given: HashSet<&str> = steps
        .iter()
        .filter_map(|step| step.get_ref().label.as_ref())
        .map(|label| label.get_ref().as_str())
        .collect();
    let mut labels = Vec::new();
    for step in &steps {
        let place = source.at(step.span());
        let label = match &step.get_ref().label {
            Some(label) => {
                let place = source.at(label.span());
                let text = label.get_ref();
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
                let name = one_operation(step.get_ref(), &place)?.name();
                (1..)
                    .map(|number| format!("{name}-{number}"))
                    .find(|label| !taken.contains(label) && !given.contains(label.as_str()))
                    .unwrap_or_default()
            }
        };
        taken.insert(label.clone());
        labels.push(label);
    }
    for (step, label) in steps.into_iter().zip(labels) {
        let place = source.at(step.span());
        let index = items.len();
        items.push(Item { label, index, step: step.into_inner(), source: source.clone(), place });
    }
    Ok(())
}

fn unknown_label(place: &Place, label: &str, items: &[Item]) -> ScenarioError {
    let labels: Vec<_> = items.iter().map(|item| item.label.as_str()).collect();
    let help = suggest(label, labels.iter().copied(), format!("the labels are {}", labels.join(", ")));
    place.error(format!("there is no step `{label}`"), "unknown label", help)
}

fn drop_steps(source: &Source, items: &mut Vec<Item>, without: &[Text]) -> Result<(), ScenarioError> {
    for label in without {
        let Some(index) = items.iter().position(|item| item.label == *label.get_ref()) else {
            return Err(unknown_label(&source.at(label.span()), label.get_ref(), items));
        };
        items.remove(index);
    }
    Ok(())
}

fn reorder(
    source: &Source,
    mut items: Vec<Item>,
    order: &[Text],
    whole: &Place,
) -> Result<Vec<Item>, ScenarioError> {
    let mut ordered: Vec<Item> = Vec::new();
    for label in order {
        let place = source.at(label.span());
        if ordered.iter().any(|item| item.label == *label.get_ref()) {
            return Err(place.error(
                format!("the order names the step `{}` twice", label.get_ref()),
                "again",
                "name each step once; for a second one like it add a [[step]]",
            ));
        }
        let Some(index) = items.iter().position(|item| item.label == *label.get_ref()) else {
            return Err(unknown_label(&place, label.get_ref(), &items));
        };
        ordered.push(items.remove(index));
    }
    if let Some(left) = items.first() {
        return Err(whole.error(
            format!("the order does not name the step `{}`", left.label),
            "incomplete",
            format!("add \"{0}\", or drop the step: `without = [\"{0}\"]`", left.label),
        ));
    }
    Ok(ordered)
}
