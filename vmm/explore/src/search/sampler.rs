//! Computes a sample of the looked-up successors again, and compares.

use super::system::System;
use super::table::Tables;
use super::visited::Visited;
use crate::error::Result;

/// Chooses lists of successors: each that was looked up has the same chance, and the same seed chooses the same ones.
pub(super) struct Sampler {
    /// One list in this many; 0 = none.
    rate: u32,
    random: fastrand::Rng,
    owed: u64,
    /// Lists computed again.
    pub(super) rechecked: u64,
}

impl Sampler {
    pub(super) fn new(rate: u32, seed: u64) -> Sampler {
        Sampler { rate, random: fastrand::Rng::with_seed(seed), owed: 0, rechecked: 0 }
    }

    /// Takes the share of a batch that was just expanded. A difference is an error.
    pub(super) fn recheck<S: System, const N: usize>(
        &mut self,
        system: &mut S,
        tables: &Tables<S>,
        visited: &Visited<N>,
        batch: &[u32],
    ) -> Result<()> {
        if self.rate == 0 {
            return Ok(());
        }
        let slots = N - 1;
        let lookups = batch.len() * slots;
        self.owed += lookups as u64;
        let rate = u64::from(self.rate);
        for turn in 0..self.owed / rate {
            let chosen = if rate == 1 { turn as usize } else { self.random.usize(..lookups) };
            let state = visited.get(batch[chosen / slots]);
            tables.recheck(system, state[0], state[1 + chosen % slots])?;
            self.rechecked += 1;
        }
        self.owed %= rate;
        Ok(())
    }
}
