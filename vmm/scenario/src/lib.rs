//! Scenarios: what a user writes, and how it becomes a [`Plan`].
//!
//! A scenario is a TOML file. Unknown keys are errors, and every error points at its place and says what to
//! change. Parsing needs neither KVM nor files: the protocols that a scenario may name are part of the
//! program.
//!
//! # The language
//!
//! ```toml
//! title = "int3 protocol without its first round"   # required, one line
//! tags = ["mutant"]                                  # optional: words to select by, of a-z, 0-9 and -
//! protocol = "text_poke_fixup"                       # optional: steps and handler of a shipped protocol, or
//!                                                    #   of a file: "mine.toml", from where the scenario stands
//! without = ["sync-int3"]                            #   drops steps, by label
//! order = ["arm", "int3", "..."]                     #   or gives all labels in a new order
//! expect = ["unserialised"]                          # properties violated, or "safe"
//! fetch = ["coherent", "amd"]                        # optional: fetch models; or one name, or "all"
//! rule = "intel"                                     # or "amd": which vendor's promises are in force
//! ```
//!
//! `fetch` names presets (see [`crossmod_model::fetch`]), or gives the parameters of one model: `{ atom = 16, stale = true,
//! order = "block" }`. Each model is a search and a report of its own; without the key it is `coherent`. Where
//! verdicts differ, `expect` is a table with an entry for each model, and `default` for the others:
//! `expect = { default = "safe", intel = ["torn"] }`. What is not named is expected to be safe. `rule` is
//! that of the vendor after whom the model is named, unless it is given; else Intel's.
//!
//! ## `[site]`
//!
//! | key | meaning |
//! |---|---|
//! | `old`, `new` | bytes in hex (`"0f 1f 44 00 00"`), the name of an instruction, or a list of both: `["xor-ecx-ecx", "nop3"]`. Names: `nop1` to `nop9`, `jmp8`, `jmp32`, `call`, `ret`, `int3`, `self-loop`, `endbr64`, `push-rbp`, `pop-rbp`, `mov-rbp-rsp`, `xor-eax-eax`, `xor-ecx-ecx`, `xor-edx-edx`, `lfence`, `mfence`. Both versions have the same length, at most 32 bytes |
//! | `offset` | page offset of the first byte, 0 to 0xfff; the site may run into the next page |
//! | `old-target`, `new-target` | where named branches go, in bytes from the site's first byte; hex bytes keep their own displacement. Unless given, `jmp32` and `call` go far away, and `jmp8` into the same page |
//! | `intermediates` | other instructions that may stand at the first byte for a while, as in `["eb fe"]`. An int3 is one of them if a step stores it there |
//!
//! Wherever a branch leads out of the site, and right after the site, stands a *landing pad*: four bytes that
//! add a mark of their own to EAX and return. A pass is recognised by the sum. Outside of the site's
//! two pages all addresses share one physical page, so that two targets there must differ in their low 12
//! bits, by the length of a pad. Every pass must leave the stack as deep as it found it.
//!
//! Several sites are a list, `[[site]]`, two or three within 32 bytes, each with a `name`; a step says which one it is
//! about with `site = "name"` (the one with the lowest address unless it does). One may begin where another ends, and
//! one may jump to another's first byte. `forbid = [{ bypass = "new", target = "old" }]` lists combinations of versions
//! that no pass may show (`multi-site`); any other is as good as all old or all new.
//!
//! ## `[words]`, `[each]`
//!
//! Data beside the text: `guard = 1` under `[words]` is a shared `u32` with what it holds at the start, at most eight;
//! under `[each]` every executor has one of its own, at most six. Built in are `arrived`, `release`, `flag`, `lock`,
//! `armed` (the handler may claim) and `hits`.
//!
//! ## `[program]`
//!
//! What vCPUs run, as lists of steps, compiled to guest code and stepped like any other:
//!
//! ```toml
//! [program]
//! reader = [
//!     { wait = { guard = 0 } },
//!     { serialise = {} },
//!     { pass = {} },
//! ]
//! ```
//!
//! An executor whose `role` is the name of a program runs it once for each of its `passes`. A program may also be the
//! function of a broadcast (`broadcast = { run = "name" }`), what the NMI or interrupt handler runs (`nmi-runs = "name"`),
//! or the #BP handler (`[handler] run = "name"`).
//!
//! | step of a program | meaning |
//! |---|---|
//! | `pass = {}` | a pass through the site, with EAX = 0; flags are left as they are |
//! | `serialise = {}` | a serialising instruction: MOV to CR2, at ring 3 an IRET to the next instruction; `{ by = "iret" }` is that at ring 0, too, and ends the blocking of NMIs |
//! | `load = { a = "guard" }` | into register `a`, `b` or `c`: a word, a register, a number, or `{ text = 1, size = 4 }`: 1, 2 or 4 bytes of the site read as data |
//! | `set = { guard = 0 }`, `add = { count = 1 }` | stores a number, a word or a register; adds by one locked instruction. `add = { count = 1, unless = 0, goto = "label" }` does not add, and goes there, if the word holds that |
//! | `wait = { guard = 0 }` | spins until a word is equal to a number, word or register |
//! | `if = { guard = 0, goto = "label" }`, `unless = ...` | goes on at the step with that label, or behind the last with `"end"`; also compares registers |
//! | `goto = "label"` | always |
//! | `check = { a = 1, else = "text-data" }` | the scenario's own property: that property is violated here unless they are equal |
//! | `fail = "stale"` | it is violated if this step is reached |
//! | `take = "lock"`, `drop = "lock"` | spins for a lock; lets it go |
//! | `trap = {}` | an INT3 that is none of the site's; whoever owns it goes on behind it, unless the site's handler claims it (`foreign-trap`) |
//! | `interrupts = "off"`, `"on"` | executors at ring 0 |
//! | `flags = { zf = 1 }` | status flags before a pass: `cf`, `pf`, `zf`, `sf`, `of`; the others are 0 |
//! | `acknowledge = {}` | in a function: what the host's `wait = { acks = ... }` waits for |
//! | `pause = {}` | one instruction that does nothing |
//! | `store`, `arm`, `disarm`, `broadcast`, `done` | as the host's patcher has them, below: then this vCPU patches |
//!
//! After a pass, `went` compares with `"old"` or `"new"`: by which target it went. In the #BP handler's program `ip` is the
//! trapped address, to be compared with the name of a site, `"site"`, or a word that holds one (`set = { entry = "site" }`);
//! `opcode` is the byte that stands there as data; `zf` to `pf` are the interrupted flags; and it ends with
//! `resume = "new"` (or any other resume of `[handler]`; of the part that `site = "name"` says), or `decline = {}`, which
//! hands the trap on, as its end does.
//!
//! A vCPU that patches is an executor like others: it takes interrupts and NMIs between any two of its instructions, may
//! run the site itself, and must serialise for its own stores under Intel's rule (under AMD's a CPU sees its own stores).
//! What it broadcasts it waits for by a word that the function counts up. One step may be several stores: each is one
//! instruction of 1, 2, 4 or 8 bytes. Several programs may patch; the host's `[[step]]`s may be missing then.
//!
//! ## `[executors]`, or one `[[executor]]` for each
//!
//! | key | default | meaning |
//! |---|---|---|
//! | `count` | 2 | how many, 1 to 8 (only in `[executors]`) |
//! | `passes` | 2 | passes through the site, 1 to 8 |
//! | `ring` | 0 | 0 or 3 |
//! | `role` | `"loop"` | `"lock"`: holds a shared lock around each pass; `"lock-irqs-off"`: the same, interrupts off from before it waits for the lock (ring 0 only); or the name of a program |
//! | `start` | `"outside"` | or `{ interior = 2 }`: stands before the old instruction at byte 2; or `"handler"`: at the first instruction of the #BP handler, an earlier modification's INT3 having trapped; or `{ step = "label" }` of its program |
//! | `interrupts` | `"on"` | or `"off"` at the start (ring 0 only) |
//!
//! ## `[handler]`
//!
//! What the #BP handler does with a trap of the site. Without this table none is ever armed.
//!
//! | key | default | meaning |
//! |---|---|---|
//! | `resume` | `"new"` | `"new"` or `"old"`: emulate that version (a jump continues at its target, a NOP after the site, a call also pushes the address after the site, a return returns); `"next"`: continue after the site; `"retry"`: at the site; `{ at = n }`: *n* bytes from its first byte |
//! | `variant` | `"plain"` | `"counting"`: also writes a shared statistics word; `"traced"`: runs the site itself |
//! | `armed` | `false` | armed before the patcher begins |
//! | `run` | | a program instead: who claims, and what happens then. `armed` is a word that it may ask |
//!
//! `"new"` and `"old"` can be emulated if they are a NOP or one jump, call, conditional jump or return.
//!
//! ## `[events]`
//!
//! `nmi`, `irq`, `mce` (machine checks) and `smi` are budgets over all executors, 0 unless given; `nmi-runs`,
//! `irq-runs` and `mce-runs` are `"site"` (the handler runs the patch site) or `"nothing"`; the first two may be programs.
//!
//! `nmi-nest` says how the NMI handler stands another NMI, which a trap's IRET lets in: `"fixed"`, the default, not at all
//! (`nmi-frame`); `"safe"` copies its frame, notes requests, and looks for one that comes in its last instructions;
//! `"flag"` is the same without that look.
//!
//! Interrupts-off holds neither machine checks nor SMIs back, nor does an NMI that is being handled. A machine check
//! during another would shut the CPU down: none comes then. An SMI runs no code of the guest; all that is visible of
//! it is that its RSM serialises. Where KVM has no SMM, it is modelled as just that, and the report says so.
//!
//! ## `[[step]]`
//!
//! What the patcher does, in order. A step has an optional `label`, used in reports and by `without` and
//! `order` (else its kind with a number), and exactly one operation. Where `to` may stand, `"all"` is the
//! default; a list of executor numbers narrows it.
//!
//! | operation | meaning |
//! |---|---|
//! | `store = { what = "int3" }` | plain store; also `new`, `old`, `new-first`, `new-tail`, `old-first`, `old-tail`; `each = 1` makes it as many stores of so many bytes |
//! | `store = { at = 1, bytes = "00 00" }` | plain store of any bytes |
//! | `arm = {}`, `disarm = {}` | describe (for the `site` of the step) and arm the handler; withdraw the claim |
//! | `sync = { ack = "after" }` | broadcast and wait: receivers acknowledge `after` they serialised, `before`, or acknowledge `only` |
//! | `broadcast = { run = "hold" }` | broadcast without a wait: `sync`, `ack-first`, `ack-only` as above; `hold`: serialise, arrive, wait interrupts-off for `release`, acknowledge; `stop`: arrive, wait for `release`, serialise, acknowledge; `early`: serialise, arrive, acknowledge; `nmi`: an NMI, whose handler may `acknowledge`; or a program, which acknowledges if it says so |
//! | `wait = { arrived = "all" }` | wait until so many have arrived (`"all"`: everyone that the last such broadcast went to), or `{ acks = "all" }`, or until a word has a value, `{ flag = 1 }`; a word under `[each]` at 0 in every executor |
//! | `set = { release = 1 }` | store a word; one under `[each]` in all executors |
//! | `add = { count = -1 }` | add to a shared word |
//! | `take = "lock"`, `drop = "lock"` | wait until a word is 0 and make it 1 at once; make it 0 |
//! | `assume-synchronised = {}` | the hardware is assumed to show everybody everything stored so far; nothing is sent |
//! | `quiesce = {}` | a grace period: wait until each executor has been seen outside of the site, saved instruction pointers included; `{ of = "targets" }`: outside of the code at targets, too; `{ of = "nest" }`: with that word of its own (under `[each]`) at 0 |
//! | `delay = { moves = 8 }` | the patcher is away for so many moves |
//! | `free = { what = "descriptor" }` | withdraw the handler's memory, or the code at `old-target` or `new-target` |
//! | `done = {}` | the modification (of the `site` of the step, or of all) is declared complete; stands at the end unless given |
//! | `abandon = {}` | last step of a modification that is given up: nothing is declared complete |
//!
//! # Protocols
//!
//! A protocol file holds `[[step]]`s, a `[handler]` with defaults, what its handlers run (`[events]`, without budgets),
//! `[words]`, `[each]`, `[program]`s and an optional `summary`. A scenario that names one takes them over. It may drop
//! steps, and add steps of its own if `order` says where they stand; its own `[handler]` and `[events]` override key by
//! key, its own words and programs name by name.

mod error;
mod executors;
mod file;
mod forms;
mod instruction;
mod models;
mod mutants;
mod names;
mod pads;
mod program;
mod programs;
mod resolve;
mod site;
mod steps;
mod syntax;
mod tags;
#[cfg(test)]
mod tests;
mod value;
mod words;

use std::borrow::Cow;

use serde::de::DeserializeOwned;

pub use error::{ErrorKind, ScenarioError, nearest};
pub use file::load;
pub use mutants::Mutant;
pub use tags::is_tag;

use crossmod_model::fetch::FetchModel;
use crossmod_model::plan::{Plan, Ring};

use error::Source;

/// The text of a scenario, not yet parsed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scenario {
    /// `group/stem`.
    pub name: String,
    /// The TOML.
    pub text: String,
    /// Where it came from, for messages.
    pub path: String,
}

/// What may be decided from outside of a scenario.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// All executors run at this ring, whatever the scenario says.
    pub ring: Option<Ring>,
    /// The fetch model; else the first that the scenario asks for.
    pub fetch: Option<FetchModel>,
}

impl Scenario {
    /// Resolves the scenario.
    ///
    /// # Errors
    ///
    /// See [`parse`].
    pub fn plan(&self, options: &Options) -> Result<Plan, ScenarioError> {
        parse_as(&self.name, &self.path, &self.text, options)
    }

    /// The scenario with every single step of its patcher changed in turn; the first one is the scenario as it
    /// is, with the steps of its protocol written out.
    ///
    /// # Errors
    ///
    /// See [`parse`]. That a mutant makes no sense is told when it is parsed.
    pub fn mutants(&self) -> Result<Vec<Mutant>, ScenarioError> {
        mutants::of(self)
    }

    /// The scenario in one piece: if it names a protocol's file, with what that says written in.
    ///
    /// # Errors
    ///
    /// See [`parse`].
    pub fn in_one_piece(&self) -> Result<Scenario, ScenarioError> {
        let source = Source::new(&self.path, &self.text);
        let file: syntax::File = read(&source, &self.text)?;
        let borrows = file.protocol.is_some_and(|name| name.get_ref().ends_with(".toml"));
        if borrows { mutants::written(self) } else { Ok(self.clone()) }
    }

    /// The fetch models that the scenario asks for; one at least.
    ///
    /// # Errors
    ///
    /// See [`parse`].
    pub fn models(&self) -> Result<Vec<FetchModel>, ScenarioError> {
        let source = Source::new(&self.path, &self.text);
        let file: syntax::File = read(&source, &self.text)?;
        models::asked(&source, file.fetch.as_ref())
    }

    /// The tags of the scenario, in their order.
    ///
    /// # Errors
    ///
    /// See [`parse`].
    pub fn tags(&self) -> Result<Vec<String>, ScenarioError> {
        let source = Source::new(&self.path, &self.text);
        let file: syntax::File = read(&source, &self.text)?;
        tags::resolve(&source, &file.tags)
    }

    /// The comment at the head of the file, without its marks; empty if there is none.
    pub fn comment(&self) -> String {
        comment(&self.text)
    }
}

/// The reference of the language, with examples, as Markdown.
pub const REFERENCE: &str = include_str!("../../scenarios/LANGUAGE.md");

/// The shipped scenarios, sorted by name.
pub fn library() -> Vec<Scenario> {
    let mut library: Vec<_> = crossmod_scenarios::scenarios()
        .map(|(name, text)| Scenario { path: format!("{name}.toml"), name, text: text.to_owned() })
        .collect();
    library.sort_by(|a, b| a.name.cmp(&b.name));
    library
}

/// A group, tag or scenario by the name that it has today: `museum` became `bugs`.
pub fn current_name(name: &str) -> Cow<'_, str> {
    match name.strip_prefix("museum") {
        Some(rest) if rest.is_empty() || rest.starts_with('/') => Cow::Owned(format!("bugs{rest}")),
        _ => Cow::Borrowed(name),
    }
}

/// Bytes as a scenario may give them: in hex, or by names of instructions without a displacement (`nop5`, `ret`), one
/// after the other. `None` for anything else.
pub fn bytes(text: &str) -> Option<Vec<u8>> {
    site::bytes(text)
}

/// Names and texts of the shipped protocols, sorted by name.
pub fn protocols() -> Vec<(String, &'static str)> {
    let mut protocols: Vec<_> = crossmod_scenarios::protocols().collect();
    protocols.sort();
    protocols
}

/// The comment at the head of a TOML text, line by line without its marks; empty if there is none.
pub fn comment(text: &str) -> String {
    let lines = text.lines().map_while(|line| line.strip_prefix('#'));
    lines.map(|line| line.strip_prefix(' ').unwrap_or(line)).collect::<Vec<_>>().join("\n")
}

/// Parses a scenario and resolves it. `name` becomes the plan's name and, with `.toml`, stands in messages.
///
/// # Errors
///
/// Of kind [`ErrorKind::Syntax`] or [`ErrorKind::Invalid`] with the place and a remedy;
/// [`ErrorKind::Unsupported`] if only `options` make the scenario impossible.
pub fn parse(name: &str, text: &str, options: &Options) -> Result<Plan, ScenarioError> {
    parse_as(name, &format!("{name}.toml"), text, options)
}

fn parse_as(name: &str, path: &str, text: &str, options: &Options) -> Result<Plan, ScenarioError> {
    let source = Source::new(path, text);
    let file = read(&source, text)?;
    resolve::plan(name, &source, file, options)
}

/// Reads TOML, and turns its errors into ours.
fn read<T: DeserializeOwned>(source: &Source, text: &str) -> Result<T, ScenarioError> {
    toml::from_str(text).map_err(|error| {
        let message = error.message().to_owned();
        let span = error.span().unwrap_or(0..0);
        let help = if text.trim().is_empty() {
            "the file is empty: start from a copy of a shipped scenario".to_owned()
        } else {
            remedy(&message, span.start >= text.trim_end().len())
        };
        source.at(span).error(message, "here", help).of_kind(ErrorKind::Syntax)
    })
}

/// What to change after an error of the TOML reader, whose messages name things in backquotes.
fn remedy(message: &str, at_end: bool) -> String {
    let quoted: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    if let Some((wrong, known)) = quoted
        .split_first()
        .filter(|_| message.starts_with("unknown field") || message.starts_with("unknown variant"))
    {
        return match nearest(wrong, known.iter().copied()) {
            Some(name) => format!("did you mean `{name}`?"),
            None => format!("remove it, or use one of {}", known.join(", ")),
        };
    }
    if message.starts_with("missing field") {
        return format!("add {}", quoted.first().map_or("it".into(), |name| format!("`{name} = ...`")));
    }
    if message.starts_with("invalid type") || message.starts_with("invalid value") {
        return "write the value in the form that is expected here".to_owned();
    }
    if message.starts_with("duplicate key") {
        return "give each key once".to_owned();
    }
    if at_end {
        return "the file seems to end too early: is it complete?".to_owned();
    }
    "correct the TOML here; https://toml.io has the grammar".to_owned()
}
