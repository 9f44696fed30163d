//! The shape of `fetch`.

use crossmod_model::fetch::{FetchModel, Order};
use schemars::JsonSchema;
use serde::Deserialize;

use super::Int;
use super::serde_types::{OneOrMore, forms};

/// Fetch models: a name, the parameters of one, or a list of names.
#[derive(Debug, JsonSchema)]
#[schemars(untagged)]
pub(crate) enum Fetch {
    Names(OneOrMore),
    Custom(Custom),
}

/// `fetch` as a table: the parameters of one fetch model.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Custom {
    /// The size in bytes of the aligned block that a store writes, and a fetch reads, at once.
    ///
    /// A store that meets several blocks is committed block by block.
    ///
    /// ```toml
    /// fetch = { atom = 16, stale = false }
    /// ```
    #[schemars(extend("enum" = FetchModel::ATOMS.to_vec()))]
    pub atom: Int,
    /// Whether a fetch may miss stores made since the vCPU last serialised.
    ///
    /// ```toml
    /// fetch = { atom = 8, stale = true, order = "program" }
    /// ```
    pub stale: bool,
    /// Which stores a fetch may miss.
    ///
    /// Constraint: required if `stale` is true, refused if it is false.
    ///
    /// ```toml
    /// fetch = { atom = 16, stale = true, order = "block" }
    /// ```
    pub order: Option<Order>,
}

forms!(
    Fetch, "the name of a fetch model, \"all\", a list of names, or { atom = ..., stale = ..., order = ... }",
    text: |text| Some(Fetch::Names(OneOrMore::One(text))),
    list: |list| Fetch::Names(OneOrMore::More(list)),
    table: Fetch::Custom
);
