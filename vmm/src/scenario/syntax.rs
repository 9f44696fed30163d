//! The shape of a scenario file, as TOML gives it. Nothing is checked here but keys and types.
//!
//! A step is a table with one optional field an operation, not a tagged enum: with `toml`, an internally
//! tagged or an untagged enum would lose the spans of everything inside.

use serde::Deserialize;
use toml::Spanned;

use super::forms::{Count, Expect, Fetch, Mask, OneOrMore};

pub(super) type Int = Spanned<i64>;
pub(super) type Text = Spanned<String>;

/// A scenario.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct File {
    pub title: Text,
    #[serde(default)]
    pub tags: Vec<Text>,
    pub protocol: Option<Text>,
    #[serde(default)]
    pub without: Vec<Text>,
    pub order: Option<Spanned<Vec<Text>>>,
    pub expect: Spanned<Expect>,
    pub fetch: Option<Spanned<Fetch>>,
    pub rule: Option<Rule>,
    pub site: Spanned<Site>,
    pub executors: Option<Spanned<Executors>>,
    pub executor: Option<Vec<Spanned<Executor>>>,
    pub handler: Option<Spanned<Handler>>,
    #[serde(default)]
    pub events: Events,
    #[serde(default)]
    pub step: Vec<Spanned<Step>>,
}

/// A protocol: what a scenario may take over.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Protocol {
    #[expect(dead_code, reason = "for people")]
    pub summary: Option<String>,
    pub handler: Option<Spanned<Handler>>,
    pub step: Vec<Spanned<Step>>,
}

/// Parameters of a fetch model.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Custom {
    pub atom: Int,
    pub stale: bool,
    pub order: Option<Order>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Order {
    Block,
    Program,
    Any,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Rule {
    Intel,
    Amd,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Site {
    pub old: Spanned<OneOrMore>,
    pub new: Spanned<OneOrMore>,
    pub offset: Int,
    pub old_target: Option<Int>,
    pub new_target: Option<Int>,
    #[serde(default)]
    pub intermediates: Vec<Text>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Executors {
    pub count: Option<Int>,
    pub passes: Option<Int>,
    pub ring: Option<Int>,
    pub role: Option<Spanned<Role>>,
    pub start: Option<Spanned<Start>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Executor {
    pub passes: Option<Int>,
    pub ring: Option<Int>,
    pub role: Option<Spanned<Role>>,
    pub start: Option<Spanned<Start>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Role {
    Loop,
    Lock,
    LockIrqsOff,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Start {
    Outside,
    Interior(i64),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Handler {
    pub resume: Option<Spanned<Resume>>,
    pub variant: Option<Variant>,
    pub armed: Option<bool>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Resume {
    New,
    Old,
    Next,
    Retry,
    At(i64),
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Variant {
    Plain,
    Counting,
    Traced,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Events {
    pub nmi: Option<Int>,
    pub nmi_runs: Option<Runs>,
    pub irq: Option<Int>,
    pub irq_runs: Option<Runs>,
    pub smi: Option<Int>,
    pub mce: Option<Int>,
    pub mce_runs: Option<Runs>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Runs {
    Site,
    Nothing,
}

/// One step; exactly one of the operations is set.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Step {
    pub label: Option<Text>,
    pub store: Option<Spanned<Store>>,
    pub arm: Option<Empty>,
    pub disarm: Option<Empty>,
    pub sync: Option<Spanned<Sync>>,
    pub broadcast: Option<Spanned<Broadcast>>,
    pub wait: Option<Spanned<Wait>>,
    pub set: Option<Spanned<Set>>,
    pub assume_synchronised: Option<Empty>,
    pub quiesce: Option<Empty>,
    pub delay: Option<Spanned<Delay>>,
    pub free: Option<Spanned<Free>>,
    pub done: Option<Empty>,
    pub abandon: Option<Empty>,
}

/// `{}`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Empty {}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Store {
    pub what: Option<Spanned<What>>,
    pub at: Option<Int>,
    pub bytes: Option<Text>,
    pub each: Option<Int>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum What {
    Int3,
    New,
    Old,
    NewFirst,
    NewTail,
    OldFirst,
    OldTail,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Sync {
    #[serde(default)]
    pub ack: Ack,
    pub to: Option<Spanned<Mask>>,
}

#[derive(Debug, Default, Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Ack {
    #[default]
    After,
    Before,
    Only,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Broadcast {
    pub run: Run,
    pub to: Option<Spanned<Mask>>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Run {
    Sync,
    AckFirst,
    AckOnly,
    Hold,
    Stop,
    Early,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wait {
    pub acks: Option<Spanned<Mask>>,
    pub arrived: Option<Spanned<Count>>,
    pub release: Option<Int>,
    pub flag: Option<Int>,
    pub lock: Option<Int>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Set {
    pub arrived: Option<Int>,
    pub release: Option<Int>,
    pub flag: Option<Int>,
    pub lock: Option<Int>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Delay {
    pub moves: Int,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Free {
    pub what: Withdrawn,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Withdrawn {
    Descriptor,
    OldTarget,
    NewTarget,
}
