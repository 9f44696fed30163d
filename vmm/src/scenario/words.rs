//! Waits and shared words: what the patcher waits for must be able to happen.

use super::error::{Place, ScenarioError};
use super::forms::Count;
use super::steps::Item;
use super::{syntax, value};
use crate::plan::{OpKind, Word};

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
    pub abandoned: bool,
}

/// What a `wait` waits for; refused if it can never hold.
pub(super) fn waits(
    executors: usize,
    progress: &Progress,
    item: &Item,
    wait: &syntax::Wait,
    place: &Place,
) -> Result<OpKind, ScenarioError> {
    let never = |place: Place, message: String, help: &str| Err(place.error(message, "never holds", help));
    let set = [
        wait.acks.is_some(),
        wait.arrived.is_some(),
        wait.release.is_some(),
        wait.flag.is_some(),
        wait.lock.is_some(),
    ];
    if set.iter().filter(|set| **set).count() != 1 {
        return Err(place.error(
            "a wait waits for one thing",
            "none or several",
            "give exactly one of acks, arrived, release, flag, lock",
        ));
    }
    if let Some(acks) = &wait.acks {
        let place = item.source.at(acks.span());
        let mask = value::mask(&item.source, &place, acks.get_ref(), executors)?;
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
    if let Some(arrived) = &wait.arrived {
        let place = item.source.at(arrived.span());
        let value = match arrived.get_ref() {
            Count::All => progress.counted,
            Count::Number(value) => *value,
        };
        if !(0..=progress.arrivals).contains(&value) {
            return never(
                place,
                format!("the broadcasts before this wait count at most {} arrivals", progress.arrivals),
                "broadcast `hold`, `stop` or `early` to enough executors in front of it",
            );
        }
        if matches!(arrived.get_ref(), Count::All) && value == 0 {
            return never(
                place,
                "no broadcast before this wait counts arrivals".into(),
                "put a broadcast of `hold`, `stop` or `early` in front of it",
            );
        }
        return Ok(OpKind::WaitWord { word: Word::Arrived, value: value as u32 });
    }
    let (word, number, known) = match (&wait.release, &wait.flag, &wait.lock) {
        (Some(number), ..) => (Word::Release, number, Some(progress.release)),
        (_, Some(number), _) => (Word::Flag, number, Some(progress.flag)),
        (_, _, Some(number)) => (Word::Lock, number, None),
        _ => return Err(place.error("a wait without a word", "nothing", "name a word")),
    };
    let value = value::ranged(&item.source, number, "a shared word", 0, LARGEST_WORD)?;
    if known.is_some_and(|known| known != value) {
        return never(
            item.source.at(number.span()),
            "only the patcher writes this word, and it holds another value here".into(),
            "wait for `arrived` or `acks`, which executors change, or `set` the word before",
        );
    }
    Ok(OpKind::WaitWord { word, value: value as u32 })
}

/// What a `set` stores.
pub(super) fn sets(
    progress: &mut Progress,
    item: &Item,
    set: &syntax::Set,
    place: &Place,
) -> Result<OpKind, ScenarioError> {
    let words = [
        (Word::Arrived, &set.arrived),
        (Word::Release, &set.release),
        (Word::Flag, &set.flag),
        (Word::Lock, &set.lock),
    ];
    let mut given = words.iter().filter_map(|(word, number)| number.as_ref().map(|number| (*word, number)));
    let (Some((word, number)), None) = (given.next(), given.next()) else {
        return Err(place.error(
            "a set writes one word",
            "none or several",
            "give exactly one of arrived, release, flag, lock",
        ));
    };
    let value = value::ranged(&item.source, number, "a shared word", 0, LARGEST_WORD)?;
    match word {
        Word::Arrived => progress.arrivals = value,
        Word::Release => progress.release = value,
        Word::Flag => progress.flag = value,
        Word::Lock => {}
    }
    Ok(OpKind::SetWord { word, value: value as u32 })
}
