//! A value with its place in the file.

use std::borrow::Cow;
use std::cell::RefCell;
use std::ops::Deref;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer};

use super::error::{Place, Source};

thread_local! {
    /// The text that is being read: a deserializer knows offsets, but not in which file.
    static READ: RefCell<Source> = RefCell::default();
}

/// Reads values from this text, in which their places are.
pub(super) fn reading<T>(source: &Source, read: impl FnOnce() -> T) -> T {
    let before = READ.replace(source.clone());
    let value = read();
    READ.set(before);
    value
}

/// [`toml::Spanned`] that knows its file, and has a schema: that of the value.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Spanned<T> {
    pub value: T,
    pub place: Place,
}

impl<T> Deref for Spanned<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Spanned<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let read = toml::Spanned::deserialize(deserializer)?;
        let place = READ.with_borrow(|source| source.at(read.span()));
        Ok(Spanned { value: read.into_inner(), place })
    }
}

impl<T: JsonSchema> JsonSchema for Spanned<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }

    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }

    fn schema_id() -> Cow<'static, str> {
        T::schema_id()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}
