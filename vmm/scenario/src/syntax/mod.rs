//! The shape of a scenario file, as TOML gives it. Nothing is checked here but keys and types.
//!
//! The doc comments are the text of the reference: the first paragraph of a key is its summary, a paragraph that
//! begins with `Constraint:` is listed as one, and the block is its example, which a test compiles. Types, defaults and
//! allowed values come from the same structs by their schema.

mod executors;
mod fetch;
mod handler;
mod operand;
mod serde_types;
mod site;
mod step;

use std::collections::BTreeMap;

use crossmod_model::memory::MemoryModel;
use crossmod_model::x86::VendorRule;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

pub(super) use self::executors::*;
pub(super) use self::fetch::*;
pub(super) use self::handler::*;
pub(super) use self::operand::*;
pub(super) use self::serde_types::*;
pub(super) use self::site::*;
pub(super) use self::step::*;
use super::spanned::Spanned;

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

/// A scenario file is a TOML table with these keys.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[schemars(title = "Crossmod scenario")]
pub(super) struct File {
    /// What the scenario asks, in one line.
    ///
    /// Reports show it beside the name. Longer text belongs in a comment at the head of the file, which
    /// `crossmod explain` prints.
    ///
    /// Constraint: one line of text, not empty.
    ///
    /// ```toml
    /// title = "int3 protocol without its first round"
    /// ```
    pub title: Text,
    /// Words to select scenarios by.
    ///
    /// `crossmod check --tag nmi` runs the scenarios that have the tag `nmi`.
    ///
    /// Constraint: lower-case words of a-z and 0-9, joined by hyphens, at most 40 characters, each once.
    ///
    /// ```toml
    /// tags = ["mutant", "nmi"]
    /// ```
    #[serde(default)]
    pub tags: Vec<Text>,
    /// The protocol whose steps, handler, words and programs the scenario takes over.
    ///
    /// The value is the name of a shipped protocol, or the path of a protocol file (see `summary`), relative to the
    /// directory of the scenario. The scenario's own `[handler]` and `[events]` override the protocol's key by key, its
    /// own words and programs name by name.
    ///
    /// Constraint: steps of the scenario's own need an `order` that says where they go.
    ///
    /// ```toml
    /// protocol = "text_poke_fixup"      # or a file of your own: "mine.toml"
    /// ```
    pub protocol: Option<Text>,
    /// Steps that are left out, by label.
    ///
    /// Constraint: each label exists.
    ///
    /// ```toml
    /// protocol = "text_poke_fixup"
    /// without = ["sync-first"]
    /// ```
    #[serde(default)]
    pub without: Vec<Text>,
    /// The order of the steps, by label.
    ///
    /// Without this key the steps run in the order in which they are written.
    ///
    /// Constraint: names every step once that `without` leaves.
    ///
    /// ```toml
    /// protocol = "plain_store"
    /// order = ["wait-a-little", "store"]
    ///
    /// [[step]]
    /// label = "wait-a-little"
    /// delay = { moves = 2 }
    /// ```
    pub order: Option<Spanned<Vec<Text>>>,
    /// The properties that the scenario violates, or `"safe"`.
    ///
    /// The verdict is as expected if each of these properties is violated and no other one is. Where the fetch models
    /// differ, a table has one entry for each model and `default` for the others; a model without an entry is expected
    /// to be safe.
    ///
    /// Constraint: each property once; a table names only models that `fetch` asks for.
    ///
    /// ```toml
    /// expect = { default = "safe", line = "stale", intel = ["torn", "unserialised"] }
    /// fetch = ["coherent", "line", "intel"]
    /// ```
    pub expect: Spanned<Expect>,
    /// The fetch models under which the scenario is checked.
    ///
    /// One name, a list of names, `"all"` for all of them, or a table with the parameters of one model. Each model
    /// is a search and a report of its own. `--fetch` of the command line overrides this key.
    ///
    /// ```toml
    /// fetch = ["coherent", "amd"]
    /// ```
    #[schemars(extend("default" = "coherent"))]
    pub fetch: Option<Spanned<Fetch>>,
    /// The vendor whose promises hold: what serialises, and which stores need no handshake.
    ///
    /// Default: the vendor after whom the fetch model is named, otherwise Intel.
    ///
    /// ```toml
    /// rule = "amd"
    /// ```
    pub rule: Option<VendorRule>,
    /// When other CPUs see what a program stores.
    ///
    /// The steps of `[[step]]` take effect at once under either model: the host's patcher is an ideal one.
    ///
    /// ```toml
    /// memory = "sc"
    /// ```
    #[schemars(extend("default" = "tso"))]
    pub memory: Option<MemoryModel>,
    /// Who performs the steps of `[[step]]`.
    ///
    /// As `"vcpu"` they become the program `patcher` of one more executor, behind the others: a store of at most 8 bytes is
    /// one instruction and waits in a store buffer, NMIs reach the patcher, and receivers count their
    /// acknowledgements in a word that the patcher reads. What no CPU does by itself stays with the host, which performs
    /// it when the program asks: `quiesce`, `free`, `assume-synchronised`, a word under `[each]`, and with several sites
    /// `arm`. The list may then also have steps of programs, such as `fence` and `serialise`.
    ///
    /// Constraint: `"vcpu"` needs steps, at most seven executors, no program of the name `patcher`, and waits for the
    /// acknowledgements of all receivers.
    ///
    /// ```toml
    /// patcher = "vcpu"
    /// ```
    #[schemars(extend("default" = "host"))]
    pub patcher: Option<Spanned<Patcher>>,
    /// The patch site in its two versions: the table `[site]`, or a list of them, `[[site]]`.
    ///
    /// With several sites a step names the one that it changes, as in `site = "bypass"`; without that key it changes the
    /// site at the lowest address. One site may begin where another ends, and one may jump to the first byte of
    /// another.
    ///
    /// Constraint: one to three sites within 32 bytes. Two sites lie next to each other or at least four bytes apart.
    ///
    /// ```toml
    /// [site]
    /// old = "nop5"
    /// new = "jmp32"
    /// offset = 0x100
    /// ```
    pub site: Spanned<Sites>,
    /// Combinations of versions of several sites that no pass may show.
    ///
    /// A pass that shows one violates `multi-site`. A site that is not named may have either version. All combinations
    /// that are not listed are allowed.
    ///
    /// ```toml
    /// forbid = [{ bypass = "new", target = "old" }]
    ///
    /// [[site]]
    /// name = "bypass"
    /// old = "jmp32"
    /// new = "nop5"
    /// offset = 0x100
    ///
    /// [[site]]
    /// name = "target"
    /// old = "nop5"
    /// new = "jmp32"
    /// offset = 0x105
    /// ```
    pub forbid: Option<Vec<Spanned<Combination>>>,
    /// Data beside the text: shared 32-bit words, each with its value at the start.
    ///
    /// Steps read and write a word by its name. The words that exist without being declared are listed under
    /// [Built-in words](#built-in-words).
    ///
    /// Constraint: at most eight, each with a value from 0 to 2147483647. Names are lower-case words of a-z and 0-9,
    /// joined by hyphens.
    ///
    /// ```toml
    /// [words]
    /// guard = 1
    /// ```
    #[serde(default)]
    pub words: Words,
    /// Words of which each executor has its own, with the value at the start.
    ///
    /// A program reads and writes the word of its own executor. The patcher of the host sets it in all executors, and
    /// waits until it is 0 in all of them, or until each executor has been seen with it at 0 (`quiesce`).
    ///
    /// Constraint: at most six, each with a value from 0 to 2147483647.
    ///
    /// ```toml
    /// [each]
    /// nest = 0
    /// ```
    #[serde(default)]
    pub each: Words,
    /// Programs that vCPUs run: a list of steps under each name.
    ///
    /// Programs are compiled to guest code and stepped like any other code. An executor whose `role` is the name of a
    /// program runs it once for each of its passes. A program may also be the function of a broadcast, the handler of
    /// NMIs or of interrupts, or the #BP handler.
    ///
    /// Constraint: every program is used. Together they compile to at most 16 KiB, and at most four are functions of
    /// broadcasts.
    ///
    /// ```toml
    /// [program]
    /// reader = [
    ///     { wait = { guard = 0 } },
    ///     { serialise = {} },
    ///     { pass = {} },
    /// ]
    /// ```
    #[serde(default)]
    pub program: Programs,
    /// The executors, if all of them are alike.
    ///
    /// Executors are the vCPUs that run through the site. They are numbered from 0. Without this table and without
    /// `[[executor]]`, two executors at ring 0 pass twice each.
    ///
    /// Constraint: not together with `[[executor]]`.
    ///
    /// ```toml
    /// [executors]
    /// count = 1
    /// passes = 2
    /// ```
    pub executors: Option<Spanned<Executors>>,
    /// The executors one by one, if they differ.
    ///
    /// Its keys are those of `[executors]` except `count`.
    ///
    /// Constraint: one to eight; not together with `[executors]`.
    ///
    /// ```toml
    /// [[executor]]
    /// passes = 1
    ///
    /// [[executor]]
    /// ring = 3
    /// ```
    pub executor: Option<Vec<Spanned<Executor>>>,
    /// What the #BP handler does with a trap at the site.
    ///
    /// Without this table no handler is ever armed, and a trap at the site is an `unclaimed-trap`.
    ///
    /// ```toml
    /// [handler]
    /// resume = "new"
    /// ```
    pub handler: Option<Spanned<Handler>>,
    /// How many asynchronous events may arrive, and what their handlers run.
    ///
    /// Each event may arrive at any executor, before any of its instructions. Disabled interrupts hold back
    /// neither machine checks nor SMIs, and neither does an NMI that is being handled. A machine check during another
    /// one would shut the CPU down, so none arrives then. An SMI runs no code of the guest; all that is visible of it is
    /// that its RSM serialises. Where KVM has no SMM, an SMI is modelled as just that, and the report says so.
    ///
    /// ```toml
    /// [events]
    /// nmi = 1
    /// ```
    #[serde(default)]
    pub events: Events,
    /// What shared words hold once everything is done.
    ///
    /// The report lists every combination of values with which some execution ends. The verdict is as expected only if
    /// these are the combinations that the table names.
    ///
    /// ```toml
    /// [words]
    /// x = 0
    ///
    /// [program]
    /// writer = [{ set = { x = 1 } }, { pass = {} }]
    ///
    /// [executors]
    /// role = "writer"
    ///
    /// [final]
    /// words = ["x"]
    /// exactly = [[1]]
    /// ```
    pub r#final: Option<Final>,
    /// The steps of the patcher, in order.
    ///
    /// The patcher is the host: each of its steps is atomic, except that a `store` is as many transitions as the fetch
    /// model has blocks that it meets, and everything else may happen between two steps. After the last step the
    /// modification is complete, unless a step said `done` or `abandon` before.
    ///
    /// Constraint: exactly one operation a step. Steps are needed unless a protocol or an executor's program patches.
    ///
    /// ```toml
    /// [[step]]
    /// store = { what = "new" }
    ///
    /// [[step]]
    /// sync = {}
    /// ```
    #[serde(default)]
    pub step: Vec<Spanned<Step>>,
}

/// A protocol file has no site and no executors: it holds what a scenario can take over by naming it as `protocol`. Its
/// keys are `summary` and, with the meaning that they have in a scenario, `step`, `handler`, `words`, `each`, `program`
/// and `events`. In `[events]` it says what the handlers run, not how many events arrive.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Protocol {
    /// What the protocol does, in one line.
    ///
    /// `crossmod explain` shows it beside the name of a shipped protocol.
    ///
    /// ```toml
    /// summary = "one store and one round"
    ///
    /// [[step]]
    /// store = { what = "new" }
    ///
    /// [[step]]
    /// sync = {}
    /// ```
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

/// What shared words hold at the end.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Final {
    /// The shared words whose values are listed.
    ///
    /// Constraint: shared words.
    ///
    /// ```toml
    /// [words]
    /// r0 = 0
    ///
    /// [final]
    /// words = ["r0"]
    /// exactly = [[0]]
    /// ```
    pub words: Vec<Text>,
    /// All combinations of values that these words may have, in the order of `words`.
    ///
    /// Constraint: one value for each word in each combination.
    ///
    /// ```toml
    /// [words]
    /// r0 = 0
    /// r1 = 2
    ///
    /// [final]
    /// words = ["r0", "r1"]
    /// exactly = [[0, 2]]
    /// ```
    pub exactly: Vec<Spanned<Vec<Int>>>,
}

/// A version of a site.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Side {
    /// The version that the modification replaces.
    Old,
    /// The version that the modification installs.
    New,
}

/// Who performs the steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Patcher {
    /// The host: each step takes effect at once.
    Host,
    /// One more vCPU.
    Vcpu,
}

/// The schema of a text that is one of some names, or something else.
fn choice<const N: usize>(known: [(&str, &str); N], other: &str) -> Value {
    let known = known.into_iter().map(|(name, meaning)| json!({ "const": name, "description": meaning }));
    let other = json!({ "type": "string", "description": other });
    Value::Array(known.chain([other]).collect())
}
