//! Waits and shared words: what the patcher waits for must be able to happen.

use crossmod_model::plan::{OpKind, Word};

use super::Patcher;
use crate::context::Context;
use crate::error::ScenarioError;
use crate::spanned::Spanned;
use crate::symbols::Home;
use crate::syntax::{Operand, Text, Values};
use crate::value;

/// Largest value that a step may give a shared word.
const LARGEST_WORD: i64 = 1_000_000;

impl Patcher<'_> {
    /// What a `wait` waits for; refused if it can never hold.
    pub(super) fn wait(&self, wait: &Spanned<Values>) -> Result<OpKind, ScenarioError> {
        let help = "give exactly one of acks, arrived, or a word";
        let (name, operand) = value::only(wait, &[], "a wait waits for one thing", help)?;
        let place = &operand.place;
        let never = |message: &str, help: &str| Err(place.error(message, "never holds", help));
        let (context, progress) = (self.context, &self.progress);
        let everyone = (1u32 << context.executors) - 1;
        let all = matches!(&operand.value, Operand::Name(all) if all == "all");
        if name == "acks" {
            let mask = acknowledged(operand, context.executors)?;
            let unreached = mask & !progress.reached;
            if unreached != 0 {
                return never(
                    &format!("executor {} gets no broadcast before this wait", unreached.trailing_zeros()),
                    "put a `broadcast` to it in front, or take it out of the list",
                );
            }
            return Ok(OpKind::WaitAcks { mask });
        }
        let programs = context.library.any();
        if name == "arrived" && !programs {
            let value = if all { progress.counted } else { number(operand)? };
            if !(0..=progress.arrivals).contains(&value) {
                return never(
                    &format!("the broadcasts before this wait count at most {} arrivals", progress.arrivals),
                    "broadcast `hold`, `stop` or `early` to enough executors in front of it",
                );
            }
            if all && value == 0 {
                return never(
                    "no broadcast before this wait counts arrivals",
                    "put a broadcast of `hold`, `stop` or `early` in front of it",
                );
            }
            return Ok(OpKind::WaitWord { word: Word::Arrived, value: value as u32 });
        }
        let home = context.names.word(name, place)?;
        let value = if all { i64::from(everyone.count_ones()) } else { number(operand)? };
        let word = match home {
            Home::Shared(word) => word,
            Home::Each(word) if value == 0 => return Ok(OpKind::WaitEach { word, mask: everyone }),
            Home::Each(_) => {
                return Err(place.error(
                    format!("`{name}` is a word of every executor; all of them can be waited for only at 0"),
                    "not 0",
                    "let it count down to 0, or use a shared word",
                ));
            }
        };
        let known = match word {
            Word::Release => Some(progress.release),
            Word::Flag => Some(progress.flag),
            _ => None,
        };
        if !programs && known.is_some_and(|known| known != value) {
            return never(
                "only the patcher writes this word, and it holds another value here",
                "wait for `arrived` or `acks`, which executors change, or `set` the word before",
            );
        }
        Ok(OpKind::WaitWord { word, value: value as u32 })
    }

    /// What a `set` stores.
    pub(super) fn set(&mut self, set: &Spanned<Values>) -> Result<OpKind, ScenarioError> {
        let (name, operand) = value::only(set, &[], "a set writes one word", "give exactly one word")?;
        let Context { site, names, .. } = self.context;
        let value = match &operand.value {
            // The low half of a site's address: what the handler's program knows as `ip`.
            Operand::Name(part) => {
                let part = site.find(part).map_or_else(|| site.part(part, &operand.place), Ok)?;
                i64::from(site.begin(part) as u32)
            }
            _ => number(operand)?,
        };
        let word = match names.word(name, &operand.place)? {
            Home::Shared(word) => word,
            Home::Each(word) => return Ok(OpKind::SetEach { word, value: value as u32 }),
        };
        match word {
            Word::Arrived => self.progress.arrivals = value,
            Word::Release => self.progress.release = value,
            Word::Flag => self.progress.flag = value,
            _ => {}
        }
        Ok(OpKind::SetWord { word, value: value as u32 })
    }

    /// What an `add` adds.
    pub(super) fn add(&self, add: &Spanned<Values>) -> Result<OpKind, ScenarioError> {
        let (name, operand) = value::only(add, &[], "the patcher adds to one word", "give exactly one word")?;
        let (Operand::Number(number @ -1000..=1000), Home::Shared(word)) =
            (&operand.value, self.context.names.word(name, &operand.place)?)
        else {
            return Err(operand.place.error(
                "the patcher adds a small number to a shared word",
                "neither",
                "give 1 or -1; a word under [each] is `set`",
            ));
        };
        Ok(OpKind::AddWord { word, number: *number as i32 })
    }

    /// The shared word of a `take` or `drop`.
    pub(super) fn lock(&self, name: &Text) -> Result<Word, ScenarioError> {
        match self.context.names.word(name, &name.place)? {
            Home::Shared(word) => Ok(word),
            Home::Each(_) => Err(name.place.error(
                "a word under [each] cannot be a lock",
                "not shared",
                "name a lock under [words]",
            )),
        }
    }
}

/// Whose acknowledgements `acks` names.
pub(super) fn acknowledged(operand: &Spanned<Operand>, executors: usize) -> Result<u32, ScenarioError> {
    match &operand.value {
        Operand::Name(all) if all == "all" => Ok((1 << executors) - 1),
        Operand::List(list) => value::these(&operand.place, list, executors),
        _ => Err(operand.place.error(
            "a wait for acknowledgements names executors",
            "not a mask",
            "write \"all\" or [0, 1]",
        )),
    }
}

fn number(operand: &Spanned<Operand>) -> Result<i64, ScenarioError> {
    match operand.value {
        Operand::Number(number) if (0..=LARGEST_WORD).contains(&number) => Ok(number),
        Operand::Number(number) => Err(operand.place.error(
            format!("{number} is not a valid value for a shared word"),
            "out of range",
            format!("choose a number from 0 to {LARGEST_WORD}"),
        )),
        _ => {
            Err(operand.place.error("a patcher's step needs a number here", "not a number", "give a number"))
        }
    }
}
