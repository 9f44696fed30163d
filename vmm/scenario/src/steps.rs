//! Which steps the patcher performs, in which order: the scenario's own, a protocol's, or a protocol's with
//! changes.

use std::collections::HashSet;

use super::error::{Place, ScenarioError, Source, nearest};
use super::syntax::{File, Protocol, Step, Text, What};

/// A step with its label and the file it stands in.
#[derive(Debug)]
pub(super) struct Item {
    pub label: String,
    /// Its place among the protocol's steps followed by the scenario's own.
    pub index: usize,
    pub step: Step,
    pub source: Source,
    pub place: Place,
}

/// The kind of a step, as its key is spelt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Store,
    Arm,
    Disarm,
    Sync,
    Broadcast,
    Wait,
    Set,
    AssumeSynchronised,
    Quiesce,
    Delay,
    Free,
    Done,
    Abandon,
    Take,
    Drop,
    Pass,
    Trap,
    Serialise,
    Interrupts,
    Load,
    Add,
    If,
    Unless,
    Goto,
    Check,
    Fail,
    Resume,
    Decline,
    Acknowledge,
    Flags,
    Pause,
}

const KINDS: [(Kind, &str); 31] = [
    (Kind::Store, "store"),
    (Kind::Arm, "arm"),
    (Kind::Disarm, "disarm"),
    (Kind::Sync, "sync"),
    (Kind::Broadcast, "broadcast"),
    (Kind::Wait, "wait"),
    (Kind::Set, "set"),
    (Kind::AssumeSynchronised, "assume-synchronised"),
    (Kind::Quiesce, "quiesce"),
    (Kind::Delay, "delay"),
    (Kind::Free, "free"),
    (Kind::Done, "done"),
    (Kind::Abandon, "abandon"),
    (Kind::Take, "take"),
    (Kind::Drop, "drop"),
    (Kind::Pass, "pass"),
    (Kind::Trap, "trap"),
    (Kind::Serialise, "serialise"),
    (Kind::Interrupts, "interrupts"),
    (Kind::Load, "load"),
    (Kind::Add, "add"),
    (Kind::If, "if"),
    (Kind::Unless, "unless"),
    (Kind::Goto, "goto"),
    (Kind::Check, "check"),
    (Kind::Fail, "fail"),
    (Kind::Resume, "resume"),
    (Kind::Decline, "decline"),
    (Kind::Acknowledge, "acknowledge"),
    (Kind::Flags, "flags"),
    (Kind::Pause, "pause"),
];

impl Kind {
    /// As its key is spelt.
    pub fn name(self) -> &'static str {
        KINDS.iter().find(|(kind, _)| *kind == self).map_or("step", |(_, name)| name)
    }
}

impl Step {
    fn has(&self, kind: Kind) -> bool {
        match kind {
            Kind::Store => self.store.is_some(),
            Kind::Arm => self.arm.is_some(),
            Kind::Disarm => self.disarm.is_some(),
            Kind::Sync => self.sync.is_some(),
            Kind::Broadcast => self.broadcast.is_some(),
            Kind::Wait => self.wait.is_some(),
            Kind::Set => self.set.is_some(),
            Kind::AssumeSynchronised => self.assume_synchronised.is_some(),
            Kind::Quiesce => self.quiesce.is_some(),
            Kind::Delay => self.delay.is_some(),
            Kind::Free => self.free.is_some(),
            Kind::Done => self.done.is_some(),
            Kind::Abandon => self.abandon.is_some(),
            Kind::Take => self.take.is_some(),
            Kind::Drop => self.drop.is_some(),
            Kind::Pass => self.pass.is_some(),
            Kind::Trap => self.trap.is_some(),
            Kind::Serialise => self.serialise.is_some(),
            Kind::Interrupts => self.interrupts.is_some(),
            Kind::Load => self.load.is_some(),
            Kind::Add => self.add.is_some(),
            Kind::If => self.when.is_some(),
            Kind::Unless => self.unless.is_some(),
            Kind::Goto => self.goto.is_some(),
            Kind::Check => self.check.is_some(),
            Kind::Fail => self.fail.is_some(),
            Kind::Resume => self.resume.is_some(),
            Kind::Decline => self.decline.is_some(),
            Kind::Acknowledge => self.acknowledge.is_some(),
            Kind::Flags => self.flags.is_some(),
            Kind::Pause => self.pause.is_some(),
        }
    }
}

impl Item {
    /// True if this step puts an int3 over the first byte.
    pub fn plants_int3(&self) -> bool {
        let Some(store) = self.step.store.as_ref().map(|store| store.get_ref()) else {
            return false;
        };
        let named = store.what.as_ref().is_some_and(|what| *what.get_ref() == What::Int3);
        let first = store.at.as_ref().is_some_and(|at| *at.get_ref() == 0);
        let bytes = store.bytes.as_ref().and_then(|text| super::site::hex(text.get_ref()));
        named || (first && bytes.is_some_and(|bytes| bytes.starts_with(&[0xcc])))
    }

    /// The one operation of the step.
    pub fn kind(&self) -> Result<Kind, ScenarioError> {
        one_kind(&self.step, &self.place)
    }
}

fn one_kind(step: &Step, place: &Place) -> Result<Kind, ScenarioError> {
    let set: Vec<_> = KINDS.iter().filter(|(kind, _)| step.has(*kind)).collect();
    match set.as_slice() {
        [(kind, _)] => Ok(*kind),
        [] => Err(place.error(
            "a step without an operation",
            "nothing to do",
            format!("add one of {}", KINDS.map(|(_, name)| name).join(", ")),
        )),
        [_, (_, second), ..] => Err(place.error(
            format!("a step with {} operations", set.len()),
            "more than one operation",
            format!("give each operation a [[step]] of its own: move `{second}` to the next one"),
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
            "where in the protocol does this step stand?",
            "a step of its own besides those of the protocol",
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
            "the patcher has nothing to do",
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
    steps: Vec<toml::Spanned<Step>>,
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
                let kind = one_kind(step.get_ref(), &place)?;
                let name = kind.name();
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
    let help = match nearest(label, labels.iter().copied()) {
        Some(name) => format!("did you mean `{name}`?"),
        None => format!("the labels are {}", labels.join(", ")),
    };
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
                format!("the step `{}` stands twice in the order", label.get_ref()),
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
            format!("the order does not say where `{}` stands", left.label),
            "incomplete",
            format!("add \"{0}\", or drop the step: `without = [\"{0}\"]`", left.label),
        ));
    }
    Ok(ordered)
}
