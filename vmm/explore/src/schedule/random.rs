//! A seeded random walk: every transition of a state is as likely as any other.

use super::{Bound, Strategy};
use crate::state::Transition;

/// The walk. It promises nothing about what it finds.
#[derive(Debug)]
pub struct Random(fastrand::Rng);

impl Random {
    /// A walk that is the same for the same seed.
    pub fn new(seed: u64) -> Random {
        Random(fastrand::Rng::with_seed(seed))
    }
}

impl Strategy for Random {
    fn begin(&mut self) {}

    fn choose(&mut self, transitions: &[Transition]) -> usize {
        self.0.usize(..transitions.len())
    }

    fn spins(&mut self, _: Transition) {}

    fn bound(&self) -> Option<Bound> {
        None
    }
}
