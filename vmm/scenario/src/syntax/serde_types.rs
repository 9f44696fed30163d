//! Values that may be written in two forms. Read by visitors of their own: an untagged enum would lose spans.

use std::borrow::Cow;
use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use super::{Int, Text};
use crate::error::Place;
use crate::spanned::Spanned;

/// `x` or `[x, y]`. A single one has the span of the whole.
#[derive(Debug, JsonSchema)]
#[schemars(untagged)]
pub(crate) enum OneOrMore {
    One(String),
    More(Vec<Text>),
}

impl OneOrMore {
    /// Each with its place.
    pub fn items<'a>(&'a self, whole: &'a Place) -> Vec<(&'a str, &'a Place)> {
        match self {
            OneOrMore::One(text) => vec![(text, whole)],
            OneOrMore::More(list) => list.iter().map(|text| (text.as_str(), &text.place)).collect(),
        }
    }
}

/// An expectation: for every fetch model, or one by one.
#[derive(Debug, JsonSchema)]
#[schemars(untagged)]
pub(crate) enum Expect {
    All(OneOrMore),
    Each(BTreeMap<Text, Spanned<OneOrMore>>),
}

/// `"all"` or a list of executor numbers.
#[derive(Debug)]
pub(crate) enum Mask {
    All,
    These(Vec<Int>),
}

impl JsonSchema for Mask {
    fn schema_name() -> Cow<'static, str> {
        "Mask".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "anyOf": [
                { "const": "all", "description": "All executors." },
                { "type": "array", "items": { "type": "integer" }, "description": "Executors by number, at least one." },
            ]
        })
    }
}

/// Reads a type from the forms that a value of it may have, in this order: a text, which may be refused, a number, a list,
/// a table.
macro_rules! forms {
    (
        $type:ident, $expected:literal
        $(, text: $text:expr)? $(, number: $number:expr)? $(, list: $list:expr)? $(, table: $table:expr)?
    ) => {
        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Forms;
                impl<'de> serde::de::Visitor<'de> for Forms {
                    type Value = $type;

                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str($expected)
                    }
                    $(fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<$type, E> {
                        let refused = || E::invalid_value(serde::de::Unexpected::Str(text), &self);
                        ($text)(text.to_owned()).ok_or_else(refused)
                    })?
                    $(fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<$type, E> {
                        Ok($number(number))
                    })?
                    $(fn visit_seq<A: serde::de::SeqAccess<'de>>(self, list: A) -> Result<$type, A::Error> {
                        let list = serde::de::value::SeqAccessDeserializer::new(list);
                        serde::Deserialize::deserialize(list).map($list)
                    })?
                    $(fn visit_map<A: serde::de::MapAccess<'de>>(self, table: A) -> Result<$type, A::Error> {
                        let table = serde::de::value::MapAccessDeserializer::new(table);
                        serde::Deserialize::deserialize(table).map($table)
                    })?
                }
                deserializer.deserialize_any(Forms)
            }
        }
    };
}
pub(super) use forms;

forms!(
    OneOrMore, "a string or a list of strings",
    text: |text| Some(OneOrMore::One(text)),
    list: OneOrMore::More
);
forms!(
    Expect, "\"safe\", a property, a list of them, or a table with one of these for each fetch model",
    text: |text| Some(Expect::All(OneOrMore::One(text))),
    list: |list| Expect::All(OneOrMore::More(list)),
    table: Expect::Each
);
forms!(
    Mask, "\"all\" or a list of executor numbers such as [0, 1]",
    text: |text: String| (text == "all").then_some(Mask::All),
    list: Mask::These
);
