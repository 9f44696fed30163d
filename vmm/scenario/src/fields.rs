//! The keys of a table, in the order in which its struct declares them, from the code that serde derives.

use std::cell::Cell;

use serde::de::value::Error;
use serde::de::{Deserialize, Deserializer, Error as _, Visitor};

/// The keys that a table takes.
pub(super) fn fields<'de, T: Deserialize<'de>>() -> &'static [&'static str] {
    let names = Cell::new(&[][..]);
    // There is no value: the deserializer only records which fields the struct asks for.
    let _ = T::deserialize(Asked { names: &names });
    names.get()
}

struct Asked<'a> {
    names: &'a Cell<&'static [&'static str]>,
}

impl<'de> Deserializer<'de> for Asked<'_> {
    type Error = Error;

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Error> {
        self.names.set(fields);
        Err(Error::custom("no value"))
    }

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Error> {
        Err(Error::custom("no struct"))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(serde::Deserialize)]
    #[serde(rename_all = "kebab-case")]
    struct Two {
        #[expect(dead_code, reason = "only its name counts")]
        the_second: Option<u8>,
        #[expect(dead_code, reason = "only its name counts")]
        a: u8,
    }

    #[test]
    fn fields_are_those_of_the_struct_in_its_order() {
        assert_eq!(fields::<Two>(), ["the-second", "a"]);
        assert!(fields::<u8>().is_empty());
    }
}
