//! The shape of sites.

use schemars::JsonSchema;
use serde::Deserialize;

use super::serde_types::{OneOrMore, forms};
use super::{Int, Text};
use crate::built_in::LAST_OFFSET;
use crate::spanned::Spanned;

/// Wherever a branch leads out of the site, and right after the site, lies a *landing pad*: four bytes that add a mark of
/// their own to EAX and return. A pass is recognised by the sum. All addresses outside the two pages of the site share one
/// physical page, so two targets there must differ in their low 12 bits by at least the length of a pad. Every pass must
/// leave the stack as deep as it found it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Site {
    /// The name of the site, by which steps, programs and `forbid` refer to it.
    ///
    /// Constraint: required if there are several sites. Lower-case words of a-z and 0-9, joined by hyphens; not
    /// `a`, `b`, `c`, `all`, `site`, `old`, `new` or `next`.
    ///
    /// ```toml
    /// [site]
    /// name = "tracepoint"
    /// ```
    pub name: Option<Text>,
    /// The version at the start.
    ///
    /// Bytes in hex, the name of an instruction, or a list of both. The names are listed under
    /// [Instructions](#instructions); named branches go to `old-target`.
    ///
    /// Constraint: as long as `new`, at most 32 bytes. The reference of instructions says what can be explored.
    ///
    /// ```toml
    /// [site]
    /// old = ["xor-ecx-ecx", "nop3"]      # or bytes: "31 c9 0f 1f 00"
    /// new = "jmp32"
    /// ```
    pub old: Spanned<OneOrMore>,
    /// The version that the patcher installs, written like `old`.
    ///
    /// `old = "call"` and `new = "call"` call different functions.
    ///
    /// Constraint: as long as `old`.
    ///
    /// ```toml
    /// [site]
    /// old = "0f 1f 44 00 00"
    /// new = "call"
    /// ```
    pub new: Spanned<OneOrMore>,
    /// The page offset of the first byte.
    ///
    /// It decides which aligned quadwords and cache lines the site lies in. The site may run into the next page.
    ///
    /// ```toml
    /// [site]
    /// offset = 0x7e         # two bytes in one cache line, three in the next
    /// ```
    #[schemars(extend("minimum" = 0, "maximum" = LAST_OFFSET))]
    pub offset: Int,
    /// Where the named branches of `old` go, in bytes from the first byte of the site.
    ///
    /// Bytes in hex keep their own displacement.
    ///
    /// Default: far away for `jmp32` and `call`, in the same page for `jmp8`.
    ///
    /// Constraint: `old` has a named branch, and the branch reaches the target.
    ///
    /// ```toml
    /// [site]
    /// old = "jmp32"
    /// new = "nop5"
    /// old-target = 0x40
    /// ```
    pub old_target: Option<Int>,
    /// Where the named branches of `new` go, in bytes from the first byte of the site.
    ///
    /// Default: as for `old-target`, at another address.
    ///
    /// Constraint: `new` has a named branch, and the branch reaches the target.
    ///
    /// ```toml
    /// [site]
    /// new-target = 0x40
    /// ```
    pub new_target: Option<Int>,
    /// Other instructions that may be at the first byte for a while.
    ///
    /// A fetch of one of them is not `torn`. INT3 is one of them without being listed if a step stores it there.
    ///
    /// Constraint: one instruction each, within the length of the site.
    ///
    /// ```toml
    /// [site]
    /// intermediates = ["eb fe"]      # a jump to itself
    /// ```
    #[serde(default)]
    pub intermediates: Vec<Text>,
}

/// One table `[site]`, or a list `[[site]]`.
#[derive(Debug, JsonSchema)]
#[schemars(untagged)]
pub(crate) enum Sites {
    One(Box<Site>),
    Several(Vec<Spanned<Site>>),
}

forms!(
    Sites, "a table [site], or a list of them, [[site]]",
    list: Sites::Several,
    table: Sites::One
);
