//! What a patcher does to a running machine: stores, messages, waits, and a look at the counters.

use std::time::{Duration, Instant};

use crossmod_abi::va;
use kvm_ioctls::VmFd;

use super::message::{NMI, send};
use super::rig::{HOLD, SYNC, TRAP_LOG, common, own};
use super::window::Window;
use crate::{MachineError, stop_requested};

/// An answer that takes longer never comes.
const PATIENCE: Duration = Duration::from_secs(5);

/// How executors are told to serialise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// An IPI whose handler serialises.
    Sync,
    /// An IPI whose handler waits for [`Patcher::release`].
    Hold,
    /// An NMI whose handler serialises.
    Nmi,
}

/// What executors have counted, added up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
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

/// The host's hands on a running [`Rig`](super::Rig).
pub struct Patcher<'a> {
    window: Window,
    vm: &'a VmFd,
    executors: usize,
    /// Broadcasts so far; each executor acknowledges each.
    acks: u64,
    holds: u64,
    epochs: u64,
    /// Passes with a trap of each executor at the last [`begin`](Patcher::begin).
    trapped: Vec<u64>,
}

impl<'a> Patcher<'a> {
    pub(super) fn new(window: Window, vm: &'a VmFd, executors: usize) -> Patcher<'a> {
        Patcher { window, vm, executors, acks: 0, holds: 0, epochs: 0, trapped: vec![0; executors] }
    }

    fn own(&self, executor: usize, offset: u64) -> u64 {
        self.window.own(executor, offset)
    }

    /// Spins, and lets others run now and then: more executors than CPUs must get somewhere.
    fn until(&self, what: &str, done: impl Fn(usize) -> bool) -> Result<(), MachineError> {
        let began = Instant::now();
        for executor in 0..self.executors {
            let mut spins = 0u32;
            while !done(executor) {
                spins += 1;
                std::hint::spin_loop();
                if spins.is_multiple_of(1 << 12) {
                    std::thread::yield_now();
                    if stop_requested() {
                        return Err(MachineError::Interrupted);
                    }
                    if began.elapsed() > PATIENCE {
                        let what = format!("executor {executor} gives no answer: {what}");
                        return Err(MachineError::Contract { rip: va::SITE, what });
                    }
                }
            }
        }
        Ok(())
    }

    /// Waits until every executor has passed through the site.
    pub(super) fn ready(&self) -> Result<(), MachineError> {
        self.until("it does not run", |executor| self.own(executor, own::PASSES) > 1)
    }

    /// Stores to the site pages in one instruction.
    pub fn store(&self, at: usize, bytes: &[u8]) {
        self.window.store(at, bytes);
    }

    /// Sends one message to each executor. Returns how many were sent.
    pub fn signal(&mut self, signal: Signal) -> Result<u64, MachineError> {
        self.acks += 1;
        let data = match signal {
            Signal::Sync => u32::from(SYNC),
            Signal::Hold => {
                self.holds += 1;
                self.window.set_shared(common::TARGET, self.holds);
                u32::from(HOLD)
            }
            Signal::Nmi => NMI,
        };
        (0..self.executors).try_for_each(|executor| send(self.vm, executor, data))?;
        Ok(self.executors as u64)
    }

    /// Waits until every executor has acknowledged the last broadcast.
    pub fn acknowledged(&self) -> Result<(), MachineError> {
        self.until("no acknowledgement", |executor| self.own(executor, own::ACK) == self.acks)
    }

    /// Waits until every executor is held.
    pub fn held(&self) -> Result<(), MachineError> {
        self.until("it is not held", |executor| self.own(executor, own::ARRIVED) == self.holds)
    }

    /// Lets held executors go.
    pub fn release(&self) {
        self.window.set_shared(common::RELEASE, self.holds);
    }

    /// From here on executors look for their longest time between two passes anew.
    pub fn begin(&mut self) -> Result<(), MachineError> {
        self.epochs += 1;
        self.window.set_shared(common::EPOCH, self.epochs);
        self.trapped = (0..self.executors).map(|cpu| self.own(cpu, own::TRAPPED)).collect();
        self.until("the epoch is not seen", |executor| self.own(executor, own::EPOCH_SEEN) == self.epochs)
    }

    /// Waits for two more passes of every executor, and returns the longest time between two of them since
    /// [`begin`](Patcher::begin), of any executor, in TSC ticks.
    pub fn end(&self) -> Result<u64, MachineError> {
        let passes: Vec<u64> = (0..self.executors).map(|cpu| self.own(cpu, own::PASSES)).collect();
        self.until("it does not run", |executor| self.own(executor, own::PASSES) >= passes[executor] + 2)?;
        Ok((0..self.executors).map(|cpu| self.own(cpu, own::LONGEST)).max().unwrap_or_default())
    }

    /// How much longer than its executor's last pass without a trap each pass with one took since
    /// [`begin`](Patcher::begin), in TSC ticks: of each executor the last 128 of them.
    pub fn trapped(&self) -> Vec<u64> {
        let of = |cpu: usize| {
            let (now, usual) = (self.own(cpu, own::TRAPPED), self.own(cpu, own::UNTRAPPED));
            let first = self.trapped[cpu].max(now.saturating_sub(TRAP_LOG));
            let time = move |pass| self.own(cpu, own::TRAP_LOG + 8 * (pass % TRAP_LOG));
            (first..now).map(move |pass| time(pass).saturating_sub(usual))
        };
        (0..self.executors).flat_map(of).collect()
    }

    /// What executors have counted so far.
    pub fn counted(&self) -> Counted {
        let sum = |offset| (0..self.executors).map(|cpu| self.own(cpu, offset)).sum();
        Counted {
            passes: sum(own::PASSES),
            traps: sum(own::TRAPS),
            ipis: sum(own::IPIS),
            nmis: sum(own::NMIS),
        }
    }
}

impl Drop for Patcher<'_> {
    /// Lets held executors go, and ends their loops.
    fn drop(&mut self) {
        self.window.set_shared(common::RELEASE, self.holds);
        self.window.set_shared(common::STOP, 1);
    }
}
