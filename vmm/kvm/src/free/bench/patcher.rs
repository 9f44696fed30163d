//! Stores, messages, waits and measurements of the patcher.

use std::time::Duration;

use crossmod_abi::{va, vector};
use derive_more::{AddAssign, Sub};

use super::layout::{TRAP_LOG, common, own};
use crate::free::executors::own::{ACK, ARRIVED};
use crate::free::executors::{Signals, Waited};
use crate::free::message::NMI;
use crate::{MachineError, Result, stop_requested};

/// A wait that takes longer is an error.
const PATIENCE: Duration = Duration::from_secs(5);

/// The message of a broadcast.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// An IPI whose handler serialises.
    Sync,
    /// An IPI whose handler waits for [`BenchPatcher::release`].
    Hold,
    /// An NMI whose handler serialises.
    Nmi,
}

/// Counters of all executors, added up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, AddAssign, Sub)]
pub struct Counted {
    /// Passes through the site.
    pub passes: u64,
    /// #BPs.
    pub traps: u64,
    /// IPIs.
    pub ipis: u64,
    /// NMIs of broadcasts.
    pub nmis: u64,
}

/// The patcher's access to a running [`BenchVm`](super::BenchVm).
pub struct BenchPatcher<'a> {
    signals: Signals<'a>,
    /// Broadcasts so far, each of which each executor acknowledges.
    acks: u64,
    epochs: u64,
    /// Passes with a trap of each executor at the last [`begin`](BenchPatcher::begin).
    trapped: Vec<u64>,
}

impl<'a> BenchPatcher<'a> {
    pub(super) fn new(signals: Signals<'a>) -> BenchPatcher<'a> {
        let trapped = vec![0; signals.executors];
        BenchPatcher { signals, acks: 0, epochs: 0, trapped }
    }

    fn own(&self, executor: usize, offset: u64) -> u64 {
        self.signals.words.own(executor, offset)
    }

    fn until(&self, what: &str, done: impl Fn(usize) -> bool) -> Result<()> {
        for executor in 0..self.signals.executors {
            match self.signals.wait(PATIENCE, stop_requested, || done(executor)) {
                Waited::Done => {}
                Waited::Interrupted => return Err(MachineError::Interrupted),
                Waited::NotRun => return Err(MachineError::NotAnswered),
                Waited::Stuck => {
                    let what = format!("executor {executor} does not answer: {what}");
                    return Err(MachineError::Contract { rip: va::SITE, what });
                }
            }
        }
        Ok(())
    }

    /// Waits until every executor has passed through the site.
    pub(super) fn ready(&self) -> Result<()> {
        self.until("it does not run", |executor| self.own(executor, own::PASSES) > 1)
    }

    /// Stores to the site pages in one instruction.
    pub fn store(&self, at: usize, bytes: &[u8]) {
        self.signals.words.store(at, bytes);
    }

    /// Sends one message to each executor. Returns how many were sent.
    pub fn signal(&mut self, signal: Signal) -> Result<u64> {
        self.acks += 1;
        let data = match signal {
            Signal::Sync => u32::from(vector::IPI_SYNC),
            Signal::Hold => {
                self.signals.hold();
                u32::from(vector::IPI_HOLD)
            }
            Signal::Nmi => NMI,
        };
        (0..self.signals.executors).try_for_each(|executor| self.signals.send(executor, data))?;
        Ok(self.signals.executors as u64)
    }

    /// Waits until every executor has acknowledged the last broadcast.
    pub fn acknowledged(&self) -> Result<()> {
        self.until("no acknowledgement", |executor| self.own(executor, ACK) == self.acks)
    }

    /// Waits until every executor is held.
    pub fn held(&self) -> Result<()> {
        self.until("it is not held", |executor| self.own(executor, ARRIVED) == self.signals.holds)
    }

    /// Releases held executors.
    pub fn release(&self) {
        self.signals.release();
    }

    /// Starts a measurement of the longest time between two passes.
    pub fn begin(&mut self) -> Result<()> {
        self.epochs += 1;
        self.signals.words.set_shared(common::EPOCH, self.epochs);
        self.trapped = self.signals.each(own::TRAPPED).collect();
        self.until("the epoch is not seen", |executor| self.own(executor, own::EPOCH_SEEN) == self.epochs)
    }

    /// Waits for two more passes of every executor. Returns the longest time between two passes of an executor since
    /// [`begin`](BenchPatcher::begin), in TSC ticks.
    pub fn end(&self) -> Result<u64> {
        let passes: Vec<u64> = self.signals.each(own::PASSES).collect();
        self.until("it does not run", |executor| self.own(executor, own::PASSES) >= passes[executor] + 2)?;
        Ok(self.signals.each(own::LONGEST).max().unwrap_or_default())
    }

    /// The additional time of each pass with a trap since [`begin`](BenchPatcher::begin), compared with its executor's
    /// last pass without one, in TSC ticks; of each executor at most the last 128.
    pub fn trapped(&self) -> Vec<u64> {
        let of = |cpu: usize| {
            let (now, usual) = (self.own(cpu, own::TRAPPED), self.own(cpu, own::UNTRAPPED));
            let first = self.trapped[cpu].max(now.saturating_sub(TRAP_LOG));
            let time = move |pass| self.own(cpu, own::TRAP_LOG + 8 * (pass % TRAP_LOG));
            (first..now).map(move |pass| time(pass).saturating_sub(usual))
        };
        (0..self.signals.executors).flat_map(of).collect()
    }

    /// The counters of executors.
    pub fn counted(&self) -> Counted {
        let sum = |offset| self.signals.each(offset).sum();
        Counted {
            passes: sum(own::PASSES),
            traps: sum(own::TRAPS),
            ipis: sum(own::IPIS),
            nmis: sum(own::NMIS),
        }
    }
}

impl Drop for BenchPatcher<'_> {
    /// Ends the loops of executors. Dropping the signals releases those that are held.
    fn drop(&mut self) {
        self.signals.words.set_shared(common::STOP, 1);
    }
}
