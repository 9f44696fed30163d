//! What words a scenario names: shared ones, and those of which every executor has one of its own.

use crossmod_model::plan::{Datum, Word};

use super::built_in::WORDS;
use super::error::{Place, ScenarioError, suggest};
use super::syntax::Words;
use super::tags::is_tag;
use super::value;

/// Names that a program has another use for.
const TAKEN: [&str; 18] = [
    "a", "b", "c", "ip", "opcode", "went", "acks", "goto", "else", "all", "zf", "sf", "of", "cf", "pf",
    "text", "site", "targets",
];
/// Most that a word may hold: what an instruction's immediate can say without a sign.
const LARGEST: i64 = i32::MAX as i64;

/// The words of a scenario.
#[derive(Debug, Default)]
pub(super) struct Names {
    pub words: Vec<Datum>,
    pub each: Vec<Datum>,
}

/// Where a word is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Home {
    Shared(Word),
    Each(u8),
}

impl Names {
    /// Adds the words of a file; words that exist already, from the scenario itself, take precedence.
    pub fn add(&mut self, words: &Words, each: &Words) -> Result<(), ScenarioError> {
        let lists = [(words, false, crossmod_abi::shared::WORDS), (each, true, crossmod_abi::private::WORDS)];
        for (table, own, most) in lists {
            for (name, number) in table {
                let text = &name.value;
                if !is_tag(text) || TAKEN.contains(&text.as_str()) {
                    return Err(name.place.error(
                        format!("`{text}` cannot be the name of a word"),
                        "not a name",
                        format!("use small letters, digits and `-`, and none of {}", TAKEN.join(", ")),
                    ));
                }
                let value = value::ranged(number, "a word", 0, LARGEST)? as u32;
                if let Some(home) = self.find(text) {
                    if own == matches!(home, Home::Each(_)) {
                        continue;
                    }
                    let message = format!("there is a word `{text}` of another kind");
                    return Err(name.place.error(message, "taken", "choose another name"));
                }
                let list = if own { &mut self.each } else { &mut self.words };
                if list.len() as u64 == most {
                    let message = format!("more than {most} words of this kind");
                    return Err(name.place.error(message, "one too many", "let several share a word"));
                }
                list.push(Datum { name: text.clone(), value });
            }
        }
        Ok(())
    }

    /// The word with a name.
    pub fn find(&self, name: &str) -> Option<Home> {
        let at = |list: &[Datum]| list.iter().position(|datum| datum.name == name).map(|at| at as u8);
        let built_in =
            WORDS.iter().find(|(known, ..)| *known == name).map(|(_, word, _)| Home::Shared(*word));
        built_in
            .or_else(|| at(&self.words).map(|number| Home::Shared(Word::Named(number))))
            .or_else(|| at(&self.each).map(Home::Each))
    }

    /// The word with a name, or an error that says which there are.
    pub fn word(&self, name: &str, place: &Place) -> Result<Home, ScenarioError> {
        self.find(name).ok_or_else(|| {
            let own = self.words.iter().chain(&self.each).map(|datum| datum.name.as_str());
            let known: Vec<&str> = WORDS.iter().map(|(name, ..)| *name).chain(own).collect();
            let otherwise = format!("name it under [words] or [each], or use one of {}", known.join(", "));
            let help = suggest(name, &known, &otherwise);
            place.error(format!("there is no word `{name}`"), "unknown word", help)
        })
    }
}
