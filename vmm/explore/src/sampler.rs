//! Executes a sample of what was looked up again, and compares.

use super::model::Model;
use super::table::Tables;
use super::visited::Visited;
use crate::error::EngineError;

/// Chooses lists of successors: each that was looked up with the same chance, the same ones for the same seed.
pub(super) struct Sampler {
    /// One list in this many; 0 = none.
    rate: u32,
    random: u64,
    owed: u64,
    /// Lists executed again.
    pub(super) rechecked: u64,
}

impl Sampler {
    pub(super) fn new(rate: u32, seed: u64) -> Sampler {
        Sampler { rate, random: seed | 1, owed: 0, rechecked: 0 }
    }

    /// Takes the share of a batch that was just expanded. A difference is an error.
    pub(super) fn recheck<const N: usize>(
        &mut self,
        model: &mut Model<'_>,
        tables: &mut Tables,
        visited: &Visited<N>,
        batch: &[u32],
    ) -> Result<(), EngineError> {
        if self.rate == 0 {
            return Ok(());
        }
        let slots = N - 1;
        let lookups = batch.len() * slots;
        self.owed += lookups as u64;
        let rate = u64::from(self.rate);
        for turn in 0..self.owed / rate {
            let chosen = if rate == 1 { turn } else { self.draw() % lookups as u64 } as usize;
            let state = visited.get(batch[chosen / slots]);
            let (global, executor) = (state[0], state[1 + chosen % slots]);
            tables.recheck(model, global, executor)?;
            self.rechecked += 1;
        }
        self.owed %= rate;
        Ok(())
    }

    /// xorshift64.
    fn draw(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }
}
