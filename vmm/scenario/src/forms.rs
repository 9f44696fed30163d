//! Values that may be written in two forms. Read by visitors of their own: an untagged enum would lose spans.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use toml::Spanned;

use super::syntax::{Custom, DataRead, Int, Site, Text};

/// `x` or `[x, y]`. A single one has the span of the whole.
#[derive(Debug)]
pub(super) enum OneOrMore {
    One(String),
    More(Vec<Text>),
}

/// An expectation: for every fetch model, or one by one.
#[derive(Debug)]
pub(super) enum Expect {
    All(OneOrMore),
    Each(Vec<(Text, Spanned<OneOrMore>)>),
}

/// Fetch models: a name, the parameters of one, or a list of names.
#[derive(Debug)]
pub(super) enum Fetch {
    Names(OneOrMore),
    Custom(Custom),
}

/// `"all"` or a list of executor numbers.
#[derive(Debug)]
pub(super) enum Mask {
    All,
    These(Vec<Int>),
}

/// What a word is compared with, or set to: a number, a name, `"all"`, executor numbers, or a table.
#[derive(Debug)]
pub(super) enum Operand {
    Number(i64),
    Name(String),
    List(Vec<Int>),
    Text(DataRead),
}

/// One table `[site]`, or a list `[[site]]`.
#[derive(Debug)]
pub(super) enum Sites {
    One(Box<Site>),
    Several(Vec<Spanned<Site>>),
}

struct OneOrMoreVisitor;

impl<'de> Visitor<'de> for OneOrMoreVisitor {
    type Value = OneOrMore;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string or a list of strings")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(OneOrMore::One(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = seq.next_element()? {
            list.push(item);
        }
        Ok(OneOrMore::More(list))
    }
}

impl<'de> Deserialize<'de> for OneOrMore {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(OneOrMoreVisitor)
    }
}

struct ExpectVisitor;

impl<'de> Visitor<'de> for ExpectVisitor {
    type Value = Expect;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\"safe\", a property, a list of them, or a table with one of these for each fetch model")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Expect, E> {
        OneOrMoreVisitor.visit_str(text).map(Expect::All)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Expect, A::Error> {
        OneOrMoreVisitor.visit_seq(seq).map(Expect::All)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Expect, A::Error> {
        let mut each = Vec::new();
        while let Some(entry) = map.next_entry()? {
            each.push(entry);
        }
        Ok(Expect::Each(each))
    }
}

impl<'de> Deserialize<'de> for Expect {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ExpectVisitor)
    }
}

struct FetchVisitor;

impl<'de> Visitor<'de> for FetchVisitor {
    type Value = Fetch;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a fetch model, \"all\", a list of names, or { atom = ..., stale = ..., order = ... }")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Fetch, E> {
        OneOrMoreVisitor.visit_str(text).map(Fetch::Names)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Fetch, A::Error> {
        OneOrMoreVisitor.visit_seq(seq).map(Fetch::Names)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Fetch, A::Error> {
        Custom::deserialize(serde::de::value::MapAccessDeserializer::new(map)).map(Fetch::Custom)
    }
}

impl<'de> Deserialize<'de> for Fetch {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(FetchVisitor)
    }
}

struct MaskVisitor;

impl<'de> Visitor<'de> for MaskVisitor {
    type Value = Mask;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\"all\" or a list of executor numbers such as [0, 1]")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Mask, E> {
        if text == "all" {
            Ok(Mask::All)
        } else {
            Err(E::invalid_value(serde::de::Unexpected::Str(text), &self))
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Mask, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = seq.next_element()? {
            list.push(item);
        }
        Ok(Mask::These(list))
    }
}

impl<'de> Deserialize<'de> for Mask {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(MaskVisitor)
    }
}

struct OperandVisitor;

impl<'de> Visitor<'de> for OperandVisitor {
    type Value = Operand;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number, a name, \"all\", a list of executor numbers, or { text = ..., size = ... }")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Operand, E> {
        Ok(Operand::Name(text.to_owned()))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Operand, E> {
        Ok(Operand::Number(number))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Operand, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = seq.next_element()? {
            list.push(item);
        }
        Ok(Operand::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Operand, A::Error> {
        DataRead::deserialize(serde::de::value::MapAccessDeserializer::new(map)).map(Operand::Text)
    }
}

impl<'de> Deserialize<'de> for Operand {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(OperandVisitor)
    }
}

struct SitesVisitor;

impl<'de> Visitor<'de> for SitesVisitor {
    type Value = Sites;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a table [site], or a list of them, [[site]]")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Sites, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = seq.next_element()? {
            list.push(item);
        }
        Ok(Sites::Several(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Sites, A::Error> {
        let one = Site::deserialize(serde::de::value::MapAccessDeserializer::new(map))?;
        Ok(Sites::One(Box::new(one)))
    }
}

impl<'de> Deserialize<'de> for Sites {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SitesVisitor)
    }
}
