//! The shape of a step.
//!
//! A step is a table with one optional field an operation, not a tagged enum: with `toml`, an internally
//! tagged or an untagged enum would lose the spans of everything inside.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Broadcast, Delay, Empty, Free, Quiesce, Resume, Serialise, Store, Switch, Sync, Text, Values};
use crate::spanned::Spanned;

/// A step is a table with exactly one operation. `[[step]]` lists those of the patcher, which is the host unless
/// `patcher` says otherwise; the lists under `[program]` are those of vCPUs. An operation of the host is one atomic transition unless its entry says otherwise; an
/// operation of a program is one or a few instructions.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Step {
    /// The name of the step, in reports and for `without`, `order`, `goto` and `start`.
    ///
    /// Default: the operation with a number, such as `sync-1`.
    ///
    /// Constraint: one word of at most 40 characters, used once in a list.
    ///
    /// ```toml
    /// [[step]]
    /// label = "tail"
    /// store = { what = "new-tail" }
    /// ```
    pub label: Option<Text>,
    /// The site that the operation changes, if there are several.
    ///
    /// Default: the site at the lowest address; for `done`, all sites.
    ///
    /// ```toml
    /// [site]
    /// name = "bypass"
    ///
    /// [[step]]
    /// site = "bypass"
    /// store = { what = "new" }
    /// ```
    pub site: Option<Text>,
    /// Stores bytes to the site with plain stores.
    ///
    /// The host stores in as many transitions as the fetch model has blocks that the bytes meet. A program stores by
    /// instructions of 1, 2, 4 or 8 bytes, and that makes its executor a patcher.
    ///
    /// Constraint: either `what`, or `at` and `bytes`.
    ///
    /// ```toml
    /// [[step]]
    /// store = { what = "int3" }
    ///
    /// [[step]]
    /// store = { at = 1, bytes = "00 00" }
    /// ```
    pub store: Option<Spanned<Store>>,
    /// Describes what the #BP handler does for the site, and arms it.
    ///
    /// In a program it only sets the word `armed`.
    ///
    /// Constraint: the host needs a `[handler]`.
    ///
    /// ```toml
    /// [[step]]
    /// arm = {}
    /// ```
    pub arm: Option<Empty>,
    /// Disarms the #BP handler: it claims no trap any more.
    ///
    /// ```toml
    /// [[step]]
    /// disarm = {}
    /// ```
    pub disarm: Option<Empty>,
    /// Sends an IPI whose receivers serialise and acknowledge, and waits for the acknowledgements.
    ///
    /// ```toml
    /// [[step]]
    /// sync = {}
    ///
    /// [[step]]
    /// sync = { ack = "before", to = [0] }
    /// ```
    pub sync: Option<Spanned<Sync>>,
    /// Sends an IPI or NMI to executors, and does not wait.
    ///
    /// A program waits for a broadcast by means of a word that the function increments.
    ///
    /// ```toml
    /// [[step]]
    /// broadcast = { run = "stop" }
    /// ```
    pub broadcast: Option<Spanned<Broadcast>>,
    /// Waits until a word has a value.
    ///
    /// The host waits for one of these: `acks = "all"`, until the executors have acknowledged the last broadcast (or a list
    /// of executors); `arrived = "all"`, until everyone has arrived to whom the last `hold`, `stop` or `early` went (or a
    /// number); or a word, with a number. A word under `[each]` it waits for at 0 only, in every executor. A program
    /// spins until a word or register is equal to a number, a word or a register.
    ///
    /// Constraint: one condition. The host refuses a wait that cannot end.
    ///
    /// ```toml
    /// [[step]]
    /// broadcast = { run = "hold", to = [0] }
    ///
    /// [[step]]
    /// wait = { arrived = "all" }
    ///
    /// [[step]]
    /// set = { release = 1 }
    ///
    /// [[step]]
    /// wait = { acks = [0] }
    /// ```
    pub wait: Option<Spanned<Values>>,
    /// Stores a value to a word.
    ///
    /// The host stores a number, or the address of a site by its name; a word under `[each]` it stores in every executor.
    /// A program stores a number, a word, a register or the address of a site.
    ///
    /// Constraint: one word. The host stores numbers from 0 to 1000000.
    ///
    /// ```toml
    /// [[step]]
    /// set = { guard = 0 }
    /// ```
    pub set: Option<Spanned<Values>>,
    /// Adds a number to a word.
    ///
    /// A program adds by one locked instruction. There, `add = { count = 1, unless = 0, goto = "label" }` does not add,
    /// and continues at the label, if the word holds that value; it compares and adds atomically.
    ///
    /// Constraint: one word, and a number from -1000 to 1000. The host adds to a shared word only.
    ///
    /// ```toml
    /// [[step]]
    /// add = { count = 1 }
    /// ```
    pub add: Option<Spanned<Values>>,
    /// Takes a lock: waits until the word is 0 and makes it 1.
    ///
    /// The host waits and stores in one transition; a program spins on a locked exchange, or on a compare-and-exchange if
    /// programs also add to the word.
    ///
    /// Constraint: the host takes a shared word only.
    ///
    /// ```toml
    /// [[step]]
    /// take = "lock"
    /// ```
    pub take: Option<Text>,
    /// Drops a lock: makes the word 0.
    ///
    /// Constraint: the host drops a shared word only.
    ///
    /// ```toml
    /// [[step]]
    /// drop = "lock"
    /// ```
    pub drop: Option<Text>,
    /// Assumes that every fetch sees everything stored so far, although nothing is sent.
    ///
    /// ```toml
    /// [[step]]
    /// assume-synchronised = {}
    /// ```
    pub assume_synchronised: Option<Empty>,
    /// Waits for a grace period: until each executor has been seen quiet at least once.
    ///
    /// It takes one transition an executor, and one to continue. Quiet means that neither the instruction pointer nor a
    /// saved one is inside the site; `of` asks for something else.
    ///
    /// ```toml
    /// [[step]]
    /// quiesce = { of = "targets" }
    /// ```
    pub quiesce: Option<Spanned<Quiesce>>,
    /// Keeps the patcher away for a number of transitions, as an interrupt on its CPU would.
    ///
    /// ```toml
    /// [[step]]
    /// delay = { moves = 8 }
    /// ```
    pub delay: Option<Spanned<Delay>>,
    /// Withdraws memory: whoever uses it afterwards violates `lifetime`.
    ///
    /// ```toml
    /// [[step]]
    /// free = { what = "descriptor" }
    /// ```
    pub free: Option<Spanned<Free>>,
    /// Declares the modification complete.
    ///
    /// From then on, a pass that begins and runs the old version is `stale`. Without this step the last step of the host
    /// declares completion.
    ///
    /// Constraint: once for each site.
    ///
    /// ```toml
    /// [[step]]
    /// store = { what = "new" }
    ///
    /// [[step]]
    /// done = {}
    ///
    /// [[step]]
    /// set = { guard = 0 }
    /// ```
    pub done: Option<Empty>,
    /// Gives the modification up: nothing is declared complete, and either version may run from then on.
    ///
    /// Constraint: the last step, and not after `done`.
    ///
    /// ```toml
    /// [[step]]
    /// store = { what = "int3" }
    ///
    /// [[step]]
    /// abandon = {}
    /// ```
    pub abandon: Option<Empty>,
    /// Passes through the site once, with EAX = 0.
    ///
    /// Flags are left as they are. Afterwards `went` compares with `"old"` or `"new"`: by which target the pass went.
    ///
    /// ```toml
    /// [program]
    /// reader = [{ pass = {} }]
    /// ```
    pub pass: Option<Empty>,
    /// Executes a serialising instruction: MOV to CR2, or at ring 3 an IRET to the next instruction.
    ///
    /// ```toml
    /// [program]
    /// reader = [{ serialise = {} }, { pass = {} }]
    /// ```
    pub serialise: Option<Spanned<Serialise>>,
    /// Loads a value into the register `a`, `b` or `c`.
    ///
    /// The value is a word, a register, a number, or a table with `text` and `size`: bytes of the site, read as data.
    ///
    /// Constraint: one register.
    ///
    /// ```toml
    /// [program]
    /// reader = [{ load = { a = "guard" } }, { pass = {} }]
    /// ```
    pub load: Option<Spanned<Values>>,
    /// Continues at the step with the label `goto` if two values are equal.
    ///
    /// Compares a word, a register, `went`, or in the #BP handler `ip`, `opcode` or a flag, with a number, a name or a
    /// register. The label `"end"` is after the last step.
    ///
    /// Constraint: one condition, and `goto`.
    ///
    /// ```toml
    /// [program]
    /// reader = [{ if = { guard = 1, goto = "end" } }, { pass = {} }]
    /// ```
    #[serde(rename = "if")]
    pub when: Option<Spanned<Values>>,
    /// Continues at the step with the label `goto` unless two values are equal.
    ///
    /// Constraint: one condition, and `goto`.
    ///
    /// ```toml
    /// [program]
    /// reader = [{ unless = { guard = 0, goto = "end" } }, { pass = {} }]
    /// ```
    pub unless: Option<Spanned<Values>>,
    /// Continues at the step with this label.
    ///
    /// Constraint: a label of the same program, or `"end"`.
    ///
    /// ```toml
    /// [program]
    /// reader = [{ pass = {} }, { goto = "end" }]
    /// ```
    pub goto: Option<Text>,
    /// States a property of the scenario's own: the property `else` is violated here unless two values are equal.
    ///
    /// A report names the steps that no schedule reached: such a check has checked nothing.
    ///
    /// Constraint: one condition, and `else` with the name of a property.
    ///
    /// ```toml
    /// [program]
    /// reader = [{ load = { a = "guard" } }, { check = { a = 1, else = "text-data" } }, { pass = {} }]
    /// ```
    pub check: Option<Spanned<Values>>,
    /// Violates this property if the step is reached.
    ///
    /// Constraint: the name of a property.
    ///
    /// ```toml
    /// [program]
    /// reader = [{ if = { guard = 1, goto = "end" } }, { fail = "stale" }]
    /// ```
    pub fail: Option<Text>,
    /// Executes an INT3 that does not belong to the site.
    ///
    /// Its owner continues after it, unless the handler of the site claims the trap (`foreign-trap`).
    ///
    /// ```toml
    /// [program]
    /// probed = [{ trap = {} }]
    /// ```
    pub trap: Option<Empty>,
    /// Switches interrupts on or off.
    ///
    /// Constraint: ring 0.
    ///
    /// ```toml
    /// [program]
    /// masked = [{ interrupts = "off" }, { pass = {} }, { interrupts = "on" }]
    /// ```
    pub interrupts: Option<Spanned<Switch>>,
    /// Sets the status flags with which the next pass begins.
    ///
    /// The flags are `cf`, `pf`, `zf`, `sf` and `of`, each 0 or 1. Those that are not named become 0.
    ///
    /// Constraint: interrupts are on, because all flags are loaded.
    ///
    /// ```toml
    /// [program]
    /// both-ways = [{ flags = { zf = 1 } }, { pass = {} }, { flags = {} }, { pass = {} }]
    /// ```
    pub flags: Option<Spanned<Values>>,
    /// Acknowledges a broadcast: what `wait = { acks = ... }` of the host waits for.
    ///
    /// ```toml
    /// [program]
    /// tell = [{ serialise = {} }, { acknowledge = {} }]
    ///
    /// [[step]]
    /// broadcast = { run = "tell" }
    ///
    /// [[step]]
    /// wait = { acks = "all" }
    /// ```
    pub acknowledge: Option<Empty>,
    /// Executes one instruction that does nothing.
    ///
    /// ```toml
    /// [program]
    /// reader = [{ pause = {} }, { pass = {} }]
    /// ```
    pub pause: Option<Empty>,
    /// Waits until everything that the program has stored is in memory, by MFENCE.
    ///
    /// Under x86-TSO a load may otherwise come before an older store (see `memory`).
    ///
    /// ```toml
    /// [words]
    /// ready = 0
    ///
    /// [program]
    /// reader = [{ set = { ready = 1 } }, { fence = {} }, { pass = {} }]
    /// ```
    pub fence: Option<Empty>,
    /// Claims the trap and ends the handler: the interrupted executor continues as the value says.
    ///
    /// ```toml
    /// [handler]
    /// run = "poke"
    ///
    /// [program]
    /// poke = [{ unless = { ip = "site", goto = "end" } }, { resume = "new" }]
    /// ```
    pub resume: Option<Spanned<Resume>>,
    /// Does not claim the trap, and ends the handler: the trap goes to its owner.
    ///
    /// The end of the program does the same.
    ///
    /// ```toml
    /// [handler]
    /// run = "poke"
    ///
    /// [program]
    /// poke = [{ if = { opcode = 0xcc, goto = "ours" } }, { decline = {} }, { label = "ours", resume = "retry" }]
    /// ```
    pub decline: Option<Empty>,
}
