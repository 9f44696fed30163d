//! Waits and shared words: what the patcher waits for must be able to happen.

use crossmod_model::plan::{OpKind, Word};

use super::Context;
use crate::error::{Place, ScenarioError};
use crate::steps::Item;
use crate::symbols::Home;
use crate::syntax::{Operand, Text, Values};
use crate::value;

/// Largest value that a step may give a shared word.
const LARGEST_WORD: i64 = 1_000_000;

/// What has happened so far, as far as waits depend on it.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// Executors that got a broadcast.
    pub reached: u32,
    /// The most that `arrived` can have counted.
    pub arrivals: i64,
    /// Executors in the mask of the last broadcast that counts arrivals.
    pub counted: i64,
    pub release: i64,
    pub flag: i64,
    pub done: bool,
    /// Parts that were declared complete, one bit each.
    pub completed: u8,
    pub abandoned: bool,
}

/// What a `wait` waits for; refused if it can never hold.
pub(super) fn waits(
    context: &Context<'_>,
    progress: &Progress,
    item: &Item,
    wait: &Values,
    place: &Place,
) -> Result<OpKind, ScenarioError> {
    let never = |place: Place, message: String, help: &str| Err(place.error(message, "never holds", help));
    let (Some((name, operand)), 1) = (wait.iter().next(), wait.len()) else {
        return Err(place.error(
            "a wait waits for one thing",
            "none or several",
            "give exactly one of acks, arrived, or a word",
        ));
    };
    let place = item.source.at(operand.span());
    let everyone = (1u32 << context.executors) - 1;
    if name == "acks" {
        let mask = match operand.get_ref() {
            Operand::Name(all) if all == "all" => everyone,
            Operand::List(list) => value::these(&item.source, &place, list, context.executors)?,
            _ => {
                return Err(place.error(
                    "a wait for acknowledgements names executors",
                    "not a mask",
                    "write \"all\" or [0, 1]",
                ));
            }
        };
        let unreached = mask & !progress.reached;
        if unreached != 0 {
            return never(
                place,
                format!("executor {} gets no broadcast before this wait", unreached.trailing_zeros()),
                "put a `broadcast` to it in front, or take it out of the list",
            );
        }
        return Ok(OpKind::WaitAcks { mask });
    }
    let all = matches!(operand.get_ref(), Operand::Name(all) if all == "all");
    let programs = context.programs.any();
    if name == "arrived" && !programs {
        let value = if all { progress.counted } else { number(operand.get_ref(), &place)? };
        if !(0..=progress.arrivals).contains(&value) {
            return never(
                place,
                format!("the broadcasts before this wait count at most {} arrivals", progress.arrivals),
                "broadcast `hold`, `stop` or `early` to enough executors in front of it",
            );
        }
        if all && value == 0 {
            return never(
                place,
                "no broadcast before this wait counts arrivals".into(),
                "put a broadcast of `hold`, `stop` or `early` in front of it",
            );
        }
        return Ok(OpKind::WaitWord { word: Word::Arrived, value: value as u32 });
    }
    let home = context.names.word(name, &place)?;
    let value = if all { i64::from(everyone.count_ones()) } else { number(operand.get_ref(), &place)? };
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
            place,
            "only the patcher writes this word, and it holds another value here".into(),
            "wait for `arrived` or `acks`, which executors change, or `set` the word before",
        );
    }
    Ok(OpKind::WaitWord { word, value: value as u32 })
}

fn number(operand: &Operand, place: &Place) -> Result<i64, ScenarioError> {
    match operand {
        Operand::Number(number) if (0..=LARGEST_WORD).contains(number) => Ok(*number),
        Operand::Number(number) => Err(place.error(
            format!("{number} is not a valid value for a shared word"),
            "out of range",
            format!("choose a number from 0 to {LARGEST_WORD}"),
        )),
        _ => Err(place.error("a patcher's step needs a number here", "not a number", "give a number")),
    }
}

/// What a `set` stores.
pub(super) fn sets(
    context: &Context<'_>,
    progress: &mut Progress,
    item: &Item,
    set: &Values,
    place: &Place,
) -> Result<OpKind, ScenarioError> {
    let (Some((name, operand)), 1) = (set.iter().next(), set.len()) else {
        return Err(place.error("a set writes one word", "none or several", "give exactly one word"));
    };
    let place = item.source.at(operand.span());
    let value = match operand.get_ref() {
        // The low half of a site's address: what the handler's program knows as `ip`.
        Operand::Name(site) => i64::from(context.site.low_address(site, &place)?),
        other => number(other, &place)?,
    };
    let word = match context.names.word(name, &place)? {
        Home::Shared(word) => word,
        Home::Each(word) => return Ok(OpKind::SetEach { word, value: value as u32 }),
    };
    match word {
        Word::Arrived => progress.arrivals = value,
        Word::Release => progress.release = value,
        Word::Flag => progress.flag = value,
        _ => {}
    }
    Ok(OpKind::SetWord { word, value: value as u32 })
}

/// What an `add` adds.
pub(super) fn adds(
    context: &Context<'_>,
    item: &Item,
    add: &Values,
    place: &Place,
) -> Result<OpKind, ScenarioError> {
    let (Some((name, operand)), 1) = (add.iter().next(), add.len()) else {
        return Err(place.error("the patcher adds to one word", "none or several", "give exactly one word"));
    };
    let place = item.source.at(operand.span());
    let (Operand::Number(number @ -1000..=1000), Home::Shared(word)) =
        (operand.get_ref(), context.names.word(name, &place)?)
    else {
        return Err(place.error(
            "the patcher adds a small number to a shared word",
            "neither",
            "give 1 or -1; a word under [each] is `set`",
        ));
    };
    Ok(OpKind::AddWord { word, number: *number as i32 })
}

/// The shared word of a `take` or `drop`.
pub(super) fn lock(context: &Context<'_>, item: &Item, name: &Text) -> Result<Word, ScenarioError> {
    let place = item.source.at(name.span());
    match context.names.word(name.get_ref(), &place)? {
        Home::Shared(word) => Ok(word),
        Home::Each(_) => Err(place.error(
            "a word under [each] cannot be a lock",
            "not shared",
            "name a lock under [words]",
        )),
    }
}
