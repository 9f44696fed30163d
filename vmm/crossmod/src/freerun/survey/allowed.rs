//! *Observed is allowed*: whether a fetch model allows an outcome, according to [`views`].
//!
//! The stores from the oldest generation in the outcome to the newest become commits, divided as the explorer divides
//! them, and the outcome is declared as another form of the instruction. A model allows it if one of the views at some
//! moment of that history shows it. The pieces of a store may be committed in any order, but those of a second half
//! come before those of the first. One order for all stores of a history suffices to show that a mix is allowed,
//! because a mix depends only on the order within the first and last store.

use crossmod_model::view::{Seen, views};

use super::cell::Cell;
use super::outcome::Odd;
use crate::fetch::FetchModel;
use crate::machine::free::survey::Length;
use crate::plan::{Code, Part, Site};

/// Most stores in a history that is searched.
const LONGEST: u8 = 24;

/// Whether a model allows an outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// It does.
    Allowed,
    /// It does not.
    Forbidden,
    /// Too many stores lie between its bytes.
    Unknown,
}

/// Decides whether a model allows an outcome at a place.
pub fn ask(model: FetchModel, cell: Cell, serialised: bool, odd: &Odd) -> Answer {
    let varied = cell.length.varied();
    let (ages, newest, clock, serialised_for) = match odd {
        Odd::Torn(ages) => {
            let newest = ages.iter().copied().max().unwrap_or_default();
            (ages.clone(), newest, 0, 0)
        }
        // The distance does not matter: a model that may miss one commit may miss all later ones.
        Odd::Stale(_) => (vec![0; varied], 1, u8::from(serialised), u8::from(serialised)),
        Odd::Order(_) => (vec![0; varied], 1, 1, 0),
    };
    if newest > LONGEST {
        return Answer::Unknown;
    }
    let from = if matches!(odd, Odd::Torn(_)) { 0 } else { usize::from(newest) };
    let history = History { model, cell, newest, clock, serialised: serialised_for };
    let observed = cell.instruction(&ages);
    let orders = orders(history.pieces().len());
    let mut possible = orders.iter().filter(|order| history.possible(order));
    if possible.any(|order| history.shows(order, &observed, from)) {
        Answer::Allowed
    } else {
        Answer::Forbidden
    }
}

struct History {
    model: FetchModel,
    cell: Cell,
    newest: u8,
    /// Stores that an earlier pass has shown.
    clock: u8,
    /// Stores before the executor last serialised.
    serialised: u8,
}

impl History {
    /// The pieces in which one store is committed, as offset and length in the instruction.
    fn pieces(&self) -> Vec<(usize, usize)> {
        let (start, len) = self.cell.stored();
        // REP MOVSB is one store for each byte.
        let atom = if self.cell.length == Length::Five { 1 } else { usize::from(self.model.atom) };
        let mut pieces: Vec<(usize, usize)> = Vec::new();
        for at in start..start + len {
            let block = |at: usize| ((self.cell.site() + at) / atom, self.second_half(at));
            match pieces.last_mut() {
                Some((from, length)) if block(*from) == block(at) => *length += 1,
                _ => pieces.push((at, 1)),
            }
        }
        pieces
    }

    /// True for the bytes of the instruction that are the second half of two.
    fn second_half(&self, at: usize) -> bool {
        let (start, len) = self.cell.stored();
        self.cell.length.halves() && at >= start + len / 2
    }

    /// True if the pieces of one store can be committed in this order.
    fn possible(&self, order: &[usize]) -> bool {
        let pieces = self.pieces();
        let first_half = |piece: &usize| !self.second_half(pieces[*piece].0);
        !self.cell.length.halves() || order.is_sorted_by_key(first_half)
    }

    /// True if a fetch may show the observed bytes after store `from` is complete, or later.
    fn shows(&self, order: &[usize], observed: &[u8], from: usize) -> bool {
        let pieces = self.pieces();
        let whole = |generation: u8| self.cell.instruction(&vec![generation; self.cell.length.varied()]);
        let (mut images, mut commits) = (vec![whole(0)], Vec::new());
        for generation in 1..=self.newest {
            let new = whole(generation);
            for &piece in order {
                let (start, len) = pieces[piece];
                let mut image = images[images.len() - 1].clone();
                image[start..start + len].copy_from_slice(&new[start..start + len]);
                images.push(image);
                commits.push((start, len));
            }
        }
        let address = crossmod_abi::va::SITE + self.cell.site() as u64;
        let code = |bytes: Vec<u8>| Code { bytes, boundaries: vec![0] };
        let site = Site {
            address,
            old: code(whole(0)),
            new: code(whole(self.newest)),
            intermediates: vec![observed.to_vec()],
            parts: vec![Part::whole(whole(0).len())],
        };
        let per_store = pieces.len();
        let clocks = vec![self.clock * per_store as u8; self.model.clocks(address, site.len())];
        let serialised = usize::from(self.serialised) * per_store;
        // A model without stale fetches shows only the current image, so that every later moment counts.
        let moments = (from * per_store).max(serialised)..=commits.len();
        moments.into_iter().rev().any(|moment| {
            let seen =
                Seen { images: &images[..=moment], commits: &commits[..moment], serialised, clocks: &clocks };
            views(self.model, &site, 0, seen).iter().any(|view| view.site == observed)
        })
    }
}

/// Orders of `pieces` pieces: all of them for up to five, otherwise only the ascending one. More pieces occur only in
/// models with `order = any`, where the order makes no difference to a fetch.
fn orders(pieces: usize) -> Vec<Vec<usize>> {
    if pieces > 5 {
        return vec![(0..pieces).collect()];
    }
    (0..pieces).fold(vec![Vec::new()], |orders, piece| {
        let places = orders.iter().flat_map(|order| (0..=order.len()).map(|at| order.split_at(at)));
        places.map(|(before, after)| [before, &[piece], after].concat()).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(model: &str, cell: Cell, serialised: bool, odd: Odd) -> Answer {
        super::ask(model.parse().unwrap(), cell, serialised, &odd)
    }

    #[test]
    fn a_tear_at_a_boundary_is_allowed_by_the_models_whose_blocks_end_there() {
        let inside = Cell::in_line(Length::Four, 0);
        let quadword = Cell::in_line(Length::Four, 6);
        let half = Cell::in_line(Length::Four, 30);
        let line = Cell::in_line(Length::Four, 62);
        let torn = || Odd::Torn(vec![0, 0, 1, 1]);
        for (cell, allowing) in [
            (inside, &["intel"][..]),
            (quadword, &["amd", "amd-block", "intel"]),
            (half, &["amd", "amd-block", "half-line", "half-line-block", "intel"]),
            (
                line,
                &[
                    "coherent",
                    "amd",
                    "amd-block",
                    "half-line",
                    "half-line-block",
                    "line",
                    "line-block",
                    "intel",
                ],
            ),
        ] {
            for model in FetchModel::preset_names() {
                let expected = if allowing.contains(&model) { Answer::Allowed } else { Answer::Forbidden };
                assert_eq!(ask(model, cell, false, torn()), expected, "{model} {cell:?}");
            }
        }
        // The tear is not at the boundary.
        assert_eq!(ask("line", line, false, Odd::Torn(vec![0, 1, 1, 1])), Answer::Forbidden);
    }

    #[test]
    fn an_older_second_block_is_allowed_only_while_one_store_is_under_way() {
        let line = Cell::in_line(Length::Four, 62);
        assert_eq!(ask("line", line, false, Odd::Torn(vec![1, 1, 0, 0])), Answer::Allowed);
        assert_eq!(ask("line", line, false, Odd::Torn(vec![2, 2, 0, 0])), Answer::Forbidden);
        assert_eq!(ask("line-block", line, false, Odd::Torn(vec![2, 2, 0, 0])), Answer::Allowed);
        assert_eq!(ask("line", line, false, Odd::Torn(vec![0, 0, 9, 9])), Answer::Allowed);
    }

    #[test]
    fn a_newer_first_half_is_allowed_where_blocks_have_no_order() {
        let ordered = ["coherent", "amd", "half-line", "line"];
        for (offset, allowing) in [
            (0, &["intel"][..]),
            (6, &["amd-block", "intel"]),
            (30, &["amd-block", "half-line-block", "intel"]),
            (62, &["amd-block", "half-line-block", "line-block", "intel"]),
        ] {
            let cell = Cell::in_line(Length::Halves, offset);
            for model in FetchModel::preset_names() {
                let expected = if allowing.contains(&model) { Answer::Allowed } else { Answer::Forbidden };
                for first in [1, 2] {
                    assert_eq!(
                        ask(model, cell, false, Odd::Torn(vec![first, first, 0, 0])),
                        expected,
                        "{model}"
                    );
                }
                assert!(expected == Answer::Forbidden || !ordered.contains(&model));
                // Between the two stores.
                assert_eq!(ask(model, cell, false, Odd::Torn(vec![0, 0, 1, 1])), Answer::Allowed, "{model}");
            }
        }
    }

    #[test]
    fn stale_is_for_models_that_say_so_and_only_without_serialising() {
        let cell = Cell::in_line(Length::Four, 0);
        for (model, stale, order) in [
            ("coherent", Answer::Forbidden, Answer::Forbidden),
            ("amd", Answer::Allowed, Answer::Forbidden),
            ("line", Answer::Allowed, Answer::Forbidden),
            ("line-block", Answer::Allowed, Answer::Forbidden),
            ("intel", Answer::Allowed, Answer::Allowed),
        ] {
            assert_eq!(ask(model, cell, false, Odd::Stale(3)), stale, "{model}");
            assert_eq!(ask(model, cell, true, Odd::Stale(3)), Answer::Forbidden, "{model}");
            assert_eq!(ask(model, cell, false, Odd::Order(3)), order, "{model}");
        }
    }

    #[test]
    fn a_copy_by_bytes_tears_under_every_model() {
        let cell = Cell::in_line(Length::Five, 0);
        for model in FetchModel::preset_names() {
            assert_eq!(ask(model, cell, false, Odd::Torn(vec![1, 1, 0, 0])), Answer::Allowed, "{model}");
        }
    }

    #[test]
    fn every_place_gets_an_answer() {
        for cell in Cell::all().into_iter().filter(|cell| cell.length.varied() > 1) {
            let mut ages = vec![1; cell.length.varied()];
            ages[0] = 0;
            for model in FetchModel::presets() {
                assert_ne!(super::ask(model, cell, false, &Odd::Torn(ages.clone())), Answer::Unknown);
            }
        }
    }
}
