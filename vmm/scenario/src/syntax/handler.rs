//! The shape of the #BP handler and of events.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Int, Switch, Text, choice};
use crate::built_in::{MOST_EVENTS, RUNS};
use crate::spanned::Spanned;

/// The #BP handler. `"new"` and `"old"` emulate a version that is NOPs or one jump, call, conditional jump or return: a
/// jump continues at its target, a NOP after the site, a call also pushes the address after the site, and a return returns.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Handler {
    /// How the interrupted executor continues after a trap that the handler claims.
    ///
    /// ```toml
    /// [handler]
    /// resume = "retry"
    /// ```
    #[schemars(extend("default" = "new"))]
    pub resume: Option<Spanned<Resume>>,
    /// Which of the built-in handlers it is.
    ///
    /// Constraint: not together with `run`.
    ///
    /// ```toml
    /// [handler]
    /// variant = "traced"
    /// ```
    #[schemars(extend("default" = "plain"))]
    pub variant: Option<Spanned<Variant>>,
    /// The program that is the handler, in place of a built-in one.
    ///
    /// The program decides which traps it claims, and what happens then: it ends with `resume`, or with `decline`. In it,
    /// `ip` is the address of the trapped INT3, to be compared with the name of a site, with `"site"`, or with a word
    /// that holds one; `opcode` is the byte that is there now, read as data; and `zf`, `sf`, `of`, `cf` and `pf` are the
    /// interrupted flags. It may read the built-in word `armed`.
    ///
    /// ```toml
    /// [handler]
    /// run = "retry"
    ///
    /// [program]
    /// retry = [
    ///     { unless = { ip = "site", goto = "foreign" } },
    ///     { resume = "retry" },
    ///     { label = "foreign", decline = {} },
    /// ]
    /// ```
    pub run: Option<Text>,
    /// Whether the handler is armed before the patcher begins.
    ///
    /// ```toml
    /// [handler]
    /// armed = true
    /// ```
    #[schemars(extend("default" = false))]
    pub armed: Option<bool>,
    /// Whether interrupts are delivered while the handler runs.
    ///
    /// A kernel handles #BP with interrupts off, so that a round waits until the handler has returned. The handler of a
    /// user program is a signal handler or a stop of a debugger: the kernel has switched interrupts on before it runs, and
    /// a round reaches into it.
    ///
    /// ```toml
    /// [handler]
    /// interrupts = "on"
    /// ```
    #[schemars(extend("default" = "off"))]
    pub interrupts: Option<Switch>,
}

/// How an interrupted executor continues.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Resume {
    /// As if the new version had run.
    New,
    /// As if the old version had run.
    Old,
    /// After the site.
    Next,
    /// At the site, again.
    Retry,
    /// So many bytes from the first byte of the site: inside the site, or at a landing pad.
    At(i64),
}

/// A built-in #BP handler.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Variant {
    /// Claims the traps of the site while it is armed, and resumes.
    Plain,
    /// Also writes a shared statistics word, `hits`.
    Counting,
    /// Runs the site itself before it resumes.
    Traced,
}

/// Budgets count over all executors together.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Events {
    /// How many NMIs may arrive.
    ///
    /// ```toml
    /// [events]
    /// nmi = 2
    /// ```
    #[schemars(extend("default" = 0, "minimum" = 0, "maximum" = MOST_EVENTS))]
    pub nmi: Option<Int>,
    /// What the NMI handler runs.
    ///
    /// ```toml
    /// [events]
    /// nmi = 1
    /// nmi-runs = "nothing"
    /// ```
    #[schemars(extend("default" = "site", "anyOf" = choice(RUNS, "The name of a program under `[program]`.")))]
    pub nmi_runs: Option<Text>,
    /// How the NMI handler copes with another NMI.
    ///
    /// A trap in the handler ends with an IRET, which opens NMIs again. The CPU puts the frame of every NMI at the same
    /// place.
    ///
    /// ```toml
    /// [events]
    /// nmi = 2
    /// nmi-nest = "safe"
    /// ```
    #[schemars(extend("default" = Nest::default()))]
    pub nmi_nest: Option<Nest>,
    /// How many device interrupts may arrive.
    ///
    /// ```toml
    /// [events]
    /// irq = 1
    /// ```
    #[schemars(extend("default" = 0, "minimum" = 0, "maximum" = MOST_EVENTS))]
    pub irq: Option<Int>,
    /// What the handler of device interrupts runs.
    ///
    /// ```toml
    /// [events]
    /// irq = 1
    /// irq-runs = "count"
    ///
    /// [program]
    /// count = [{ add = { count = 1 } }]
    /// ```
    #[schemars(extend("default" = "site", "anyOf" = choice(RUNS, "The name of a program under `[program]`.")))]
    pub irq_runs: Option<Text>,
    /// How many system-management interrupts may arrive.
    ///
    /// ```toml
    /// [events]
    /// smi = 1
    /// ```
    #[schemars(extend("default" = 0, "minimum" = 0, "maximum" = MOST_EVENTS))]
    pub smi: Option<Int>,
    /// How many machine checks may arrive.
    ///
    /// ```toml
    /// [events]
    /// mce = 1
    /// ```
    #[schemars(extend("default" = 0, "minimum" = 0, "maximum" = MOST_EVENTS))]
    pub mce: Option<Int>,
    /// What the machine-check handler runs.
    ///
    /// Constraint: not a program.
    ///
    /// ```toml
    /// [events]
    /// mce = 1
    /// mce-runs = "nothing"
    /// ```
    #[schemars(extend("default" = "site", "enum" = RUNS.map(|(name, _)| name)))]
    pub mce_runs: Option<Text>,
}

/// How an NMI handler copes with being interrupted by another NMI.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Nest {
    /// Not at all: the second frame overwrites the first (`nmi-frame`).
    #[default]
    Fixed,
    /// Like `"safe"`, but it does not look for an NMI that arrives in its last instructions.
    Flag,
    /// It copies its frame away, notes requests, and looks for an NMI that arrives in its last instructions.
    Safe,
}
