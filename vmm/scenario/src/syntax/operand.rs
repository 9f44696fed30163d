//! The shapes of what the operations of steps take.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::serde_types::{Mask, forms};
use super::{Int, Text, choice};
use crate::built_in::{FUNCTIONS, GRACE, LARGEST_PIECE, LONGEST_DELAY};
use crate::spanned::Spanned;

/// The value of `load` for bytes of the site.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct DataRead {
    /// The offset of the first byte to read, from the first byte of the site.
    ///
    /// The bytes are read as data, as translators, debuggers and collectors do.
    ///
    /// Constraint: the bytes lie inside the site.
    ///
    /// ```toml
    /// [program]
    /// reader = [{ load = { a = { text = 1, size = 4 } } }]
    /// ```
    pub text: Int,
    /// How many bytes to read.
    ///
    /// ```toml
    /// [program]
    /// reader = [{ load = { a = { text = 0, size = 2 } } }]
    /// ```
    #[schemars(extend("default" = 1, "enum" = [1, 2, 4]))]
    pub size: Option<Int>,
}

/// What a word is compared with, or set to: a number, a name, `"all"`, executor numbers, or a table.
#[derive(Debug, JsonSchema)]
#[schemars(untagged)]
pub(crate) enum Operand {
    Number(i64),
    Name(String),
    List(Vec<Int>),
    Text(DataRead),
}

forms!(
    Operand, "a number, a name, \"all\", a list of executor numbers, or { text = ..., size = ... }",
    text: |name| Some(Operand::Name(name)),
    number: Operand::Number,
    list: Operand::List,
    table: Operand::Text
);

/// What a grace period waits for.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Quiesce {
    /// What has to be quiet.
    ///
    /// ```toml
    /// [[step]]
    /// quiesce = { of = "nest" }
    /// ```
    #[schemars(extend("default" = "site", "anyOf" = choice(
        GRACE, "A word under `[each]`: the executor's own word is 0."
    )))]
    pub of: Option<Text>,
}

/// How a program serialises.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Serialise {
    /// The serialising instruction.
    ///
    /// Constraint: `"iret"` needs interrupts on, because it loads all flags.
    ///
    /// ```toml
    /// [program]
    /// reader = [{ serialise = { by = "iret" } }, { pass = {} }]
    /// ```
    #[serde(default)]
    pub by: SerialiseBy,
}

/// A serialising instruction.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum SerialiseBy {
    /// MOV to CR2 at ring 0; at ring 3 an IRET, since MOV to CR2 is privileged.
    #[default]
    Cr2,
    /// An IRET to the next instruction at ring 0, too. It also ends the blocking of NMIs.
    Iret,
}

/// `{}`: the operation has no settings.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Empty {}

/// What is stored.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Store {
    /// Which bytes are stored, by name.
    ///
    /// Constraint: not together with `at` and `bytes`.
    ///
    /// ```toml
    /// [[step]]
    /// store = { what = "new-tail" }
    /// ```
    pub what: Option<Spanned<What>>,
    /// The offset of the first byte that is stored, from the first byte of the site.
    ///
    /// Constraint: together with `bytes`; the bytes lie inside the site.
    ///
    /// ```toml
    /// [[step]]
    /// store = { at = 3, bytes = "22 22" }
    /// ```
    pub at: Option<Int>,
    /// The bytes that are stored, in hex.
    ///
    /// Constraint: together with `at`.
    ///
    /// ```toml
    /// [[step]]
    /// store = { at = 0, bytes = "cc" }
    /// ```
    pub bytes: Option<Text>,
    /// Splits the store into pieces of this many bytes, in ascending order.
    ///
    /// Default: one store.
    ///
    /// ```toml
    /// [[step]]
    /// store = { what = "new", each = 1 }
    /// ```
    #[schemars(extend("minimum" = 1, "maximum" = LARGEST_PIECE))]
    pub each: Option<Int>,
}

/// Bytes by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum What {
    /// INT3 at the first byte.
    Int3,
    /// The whole new version.
    New,
    /// The whole old version.
    Old,
    /// The first byte of the new version.
    NewFirst,
    /// The new version without its first byte.
    NewTail,
    /// The first byte of the old version.
    OldFirst,
    /// The old version without its first byte.
    OldTail,
}

/// A round: a broadcast and the wait for its acknowledgements.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Sync {
    /// When a receiver acknowledges.
    ///
    /// ```toml
    /// [[step]]
    /// sync = { ack = "only" }
    /// ```
    #[serde(default)]
    pub ack: Ack,
    /// The executors that receive the IPI.
    ///
    /// An executor that is not listed learns nothing of the modification.
    ///
    /// ```toml
    /// [[step]]
    /// sync = { to = [0] }
    /// ```
    #[schemars(extend("default" = "all"))]
    pub to: Option<Spanned<Mask>>,
}

/// When a receiver acknowledges.
#[derive(Debug, Default, Clone, Copy, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Ack {
    /// After it has serialised.
    #[default]
    After,
    /// Before it serialises.
    Before,
    /// It acknowledges and does not serialise; the IRET of the interrupt does, a little later.
    Only,
}

/// A message to executors.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Broadcast {
    /// What the receivers run.
    ///
    /// ```toml
    /// [[step]]
    /// broadcast = { run = "early", to = [1] }
    ///
    /// [[step]]
    /// wait = { arrived = 1 }
    /// ```
    #[schemars(extend("anyOf" = choice(
        FUNCTIONS.map(|(function, meaning)| (function.name(), meaning)),
        "The name of a program under `[program]`, which acknowledges only if it says so."
    )))]
    pub run: Text,
    /// The executors that receive the message.
    ///
    /// ```toml
    /// [[step]]
    /// broadcast = { run = "hold", to = [0, 1] }
    /// ```
    #[schemars(extend("default" = "all"))]
    pub to: Option<Spanned<Mask>>,
    /// Whether the message waits for what its sender has stored before.
    ///
    /// Only a program's message can overtake its stores: the host's steps take effect one after the other.
    ///
    /// ```toml
    /// [words]
    /// work = 0
    ///
    /// [program]
    /// tell = [{ acknowledge = {} }]
    /// patcher = [{ set = { work = 1 } }, { broadcast = { run = "tell", to = [1], send = "x2apic" } }]
    /// reader = [{ pass = {} }]
    ///
    /// [[executor]]
    /// role = "patcher"
    /// passes = 1
    ///
    /// [[executor]]
    /// role = "reader"
    /// passes = 1
    /// ```
    #[schemars(extend("default" = "fenced"))]
    pub send: Option<Send>,
}

/// How a program sends a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Send {
    /// Behind all older stores: through the xAPIC, or with a fence before the x2APIC's register is written.
    Fenced,
    /// Without waiting: the x2APIC's register without a fence.
    X2apic,
}

/// A delay.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Delay {
    /// How many transitions.
    ///
    /// ```toml
    /// [[step]]
    /// delay = { moves = 2 }
    /// ```
    #[schemars(extend("minimum" = 0, "maximum" = LONGEST_DELAY))]
    pub moves: Int,
}

/// Memory that is withdrawn.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Free {
    /// What is withdrawn.
    ///
    /// Constraint: `"descriptor"` needs a built-in handler or none, a target a version that branches to one.
    ///
    /// ```toml
    /// [site]
    /// old = "call"
    /// new = "nop5"
    ///
    /// [[step]]
    /// free = { what = "old-target" }
    /// ```
    pub what: Withdrawn,
}

/// What can be withdrawn.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Withdrawn {
    /// The memory that tells the built-in handler what to do.
    Descriptor,
    /// The code at the target of the old version.
    OldTarget,
    /// The code at the target of the new version.
    NewTarget,
}
