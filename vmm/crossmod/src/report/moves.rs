//! Schedules in JSON: each move as its text.

use serde::de::{Deserialize, Deserializer, Error};
use serde::ser::Serializer;

use crate::explore::Transition;

pub(super) fn serialize<S: Serializer>(moves: &[Transition], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(moves.iter().map(Transition::to_string))
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Transition>, D::Error> {
    let one = |text: &String| text.parse().map_err(|()| D::Error::custom(format!("`{text}` is no move")));
    Vec::<String>::deserialize(deserializer)?.iter().map(one).collect()
}
