//! The shape of executors.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Int, Text, choice};
use crate::built_in::{EXECUTORS, MOST_EXECUTORS, PASSES, ROLES};
use crate::spanned::Spanned;

/// The keys that `[executors]` and `[[executor]]` have in common.
macro_rules! executor_table {
    ($(#[$table:meta])* $name:ident { $($first:tt)* }) => {
        $(#[$table])*
        #[derive(Debug, Default, Deserialize, JsonSchema)]
        #[serde(deny_unknown_fields)]
        pub(in crate) struct $name {
            $($first)*
            /// How often an executor passes through the site, or runs its program.
            ///
            /// ```toml
            /// [executors]
            /// passes = 1
            /// ```
            #[schemars(extend("default" = PASSES, "minimum" = 1, "maximum" = MOST_EXECUTORS))]
            pub passes: Option<Int>,
            /// The privilege level of the executor's own code.
            ///
            /// `--ring` of the command line overrides this key.
            ///
            /// ```toml
            /// [executors]
            /// ring = 3
            /// ```
            #[schemars(extend("default" = 0, "enum" = [0, 3]))]
            pub ring: Option<Int>,
            /// What an executor does around its passes.
            ///
            /// Constraint: `"lock-irqs-off"` needs ring 0.
            ///
            /// ```toml
            /// [executors]
            /// role = "lock"
            /// ```
            #[schemars(extend("default" = "loop", "anyOf" = choice(
                ROLES.map(|(name, _, meaning)| (name, meaning)), "The name of a program under `[program]`."
            )))]
            pub role: Option<Text>,
            /// Where an executor is when the patcher begins.
            ///
            /// Constraint: `interior` and `"handler"` need the role `"loop"`, and `step` needs a program as the role.
            ///
            /// ```toml
            /// [site]
            /// old = ["xor-ecx-ecx", "nop3"]
            ///
            /// [executors]
            /// start = { interior = 2 }
            /// ```
            #[schemars(extend("default" = "outside"))]
            pub start: Option<Spanned<Start>>,
            /// Whether interrupts are on at the start.
            ///
            /// Constraint: `"off"` needs ring 0.
            ///
            /// ```toml
            /// [executors]
            /// interrupts = "off"
            /// ```
            #[schemars(extend("default" = "on"))]
            pub interrupts: Option<Spanned<Switch>>,
        }
    };
}

executor_table! {
    /// What runs through the site. `[[executor]]` has the same keys, except `count`, for one executor.
    Executors {
        /// How many executors there are.
        ///
        /// ```toml
        /// [executors]
        /// count = 3
        /// ```
        #[schemars(extend("default" = EXECUTORS, "minimum" = 1, "maximum" = MOST_EXECUTORS))]
        pub count: Option<Int>,
    }
}

executor_table! {
    /// One executor.
    Executor {}
}

/// Whether interrupts are delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Switch {
    /// Interrupts are delivered.
    On,
    /// Interrupts are held back until they are on again.
    Off,
}

/// Where an executor begins.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Start {
    /// Before its loop or program.
    Outside,
    /// At the first instruction of the #BP handler: an INT3 of an earlier modification has trapped, and is gone by now.
    Handler,
    /// Inside the old version, before its instruction at this byte.
    Interior(i64),
    /// Before the step of its program with this label.
    Step(String),
}
