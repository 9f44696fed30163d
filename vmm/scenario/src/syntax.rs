//! The shape of a scenario file, as TOML gives it. Nothing is checked here but keys and types.
//!
//! A step is a table with one optional field an operation, not a tagged enum: with `toml`, an internally
//! tagged or an untagged enum would lose the spans of everything inside.

use std::collections::BTreeMap;

use crossmod_model::x86::VendorRule;
use serde::Deserialize;
use toml::Spanned;

use super::forms::{Expect, Fetch, Mask, OneOrMore, Operand, Sites};

pub(super) type Int = Spanned<i64>;
pub(super) type Text = Spanned<String>;
/// Words or registers, each with a value.
pub(super) type Values = BTreeMap<String, Spanned<Operand>>;
/// `name = initial value`.
pub(super) type Words = BTreeMap<Spanned<String>, Int>;
/// `name = [steps]`.
pub(super) type Programs = BTreeMap<Spanned<String>, Vec<Spanned<Step>>>;

/// Versions of sites, by name.
pub(super) type Combination = BTreeMap<Spanned<String>, Spanned<Side>>;

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
    pub rule: Option<VendorRule>,
    pub site: Spanned<Sites>,
    pub forbid: Option<Vec<Spanned<Combination>>>,
    #[serde(default)]
    pub words: Words,
    #[serde(default)]
    pub each: Words,
    #[serde(default)]
    pub program: Programs,
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
    #[serde(default)]
    pub words: Words,
    #[serde(default)]
    pub each: Words,
    #[serde(default)]
    pub program: Programs,
    pub handler: Option<Spanned<Handler>>,
    #[serde(default)]
    pub events: Events,
    #[serde(default)]
    pub step: Vec<Spanned<Step>>,
}

/// A version of a site.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Side {
    Old,
    New,
}

/// The site read as data.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DataRead {
    pub text: Int,
    pub size: Option<Int>,
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

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Site {
    pub name: Option<Text>,
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
    pub role: Option<Text>,
    pub start: Option<Spanned<Start>>,
    pub interrupts: Option<Spanned<Switch>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Executor {
    pub passes: Option<Int>,
    pub ring: Option<Int>,
    pub role: Option<Text>,
    pub start: Option<Spanned<Start>>,
    pub interrupts: Option<Spanned<Switch>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Switch {
    On,
    Off,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Start {
    Outside,
    Handler,
    Interior(i64),
    Step(String),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Handler {
    pub resume: Option<Spanned<Resume>>,
    pub variant: Option<Spanned<Variant>>,
    pub run: Option<Text>,
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
    pub nmi_runs: Option<Text>,
    pub nmi_nest: Option<Nest>,
    pub irq: Option<Int>,
    pub irq_runs: Option<Text>,
    pub smi: Option<Int>,
    pub mce: Option<Int>,
    pub mce_runs: Option<Text>,
}

/// How an NMI handler stands being interrupted by another NMI.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Nest {
    #[default]
    Fixed,
    Flag,
    Safe,
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
    pub wait: Option<Spanned<Values>>,
    pub set: Option<Spanned<Values>>,
    pub take: Option<Text>,
    pub drop: Option<Text>,
    pub assume_synchronised: Option<Empty>,
    pub quiesce: Option<Spanned<Quiesce>>,
    pub delay: Option<Spanned<Delay>>,
    pub free: Option<Spanned<Free>>,
    pub done: Option<Empty>,
    pub abandon: Option<Empty>,
    pub pass: Option<Empty>,
    pub trap: Option<Empty>,
    pub serialise: Option<Spanned<Serialise>>,
    pub interrupts: Option<Spanned<Switch>>,
    pub load: Option<Spanned<Values>>,
    pub add: Option<Spanned<Values>>,
    #[serde(rename = "if")]
    pub when: Option<Spanned<Values>>,
    pub unless: Option<Spanned<Values>>,
    pub goto: Option<Text>,
    pub check: Option<Spanned<Values>>,
    pub fail: Option<Text>,
    pub resume: Option<Spanned<Resume>>,
    pub decline: Option<Empty>,
    pub acknowledge: Option<Empty>,
    pub flags: Option<Spanned<Values>>,
    pub pause: Option<Empty>,
    /// Which of several sites the operation is about.
    pub site: Option<Text>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Quiesce {
    pub of: Option<Text>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Serialise {
    #[serde(default)]
    pub by: SerialiseBy,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum SerialiseBy {
    #[default]
    Cr2,
    Iret,
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
    pub run: Text,
    pub to: Option<Spanned<Mask>>,
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
