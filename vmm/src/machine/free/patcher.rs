//! What a patcher does to a running machine: stores, messages, waits, and a look at the counters.

use std::sync::atomic::{Ordering, compiler_fence};
use std::time::{Duration, Instant};

use crossmod_abi::va;
use kvm_bindings::kvm_msi;
use kvm_ioctls::VmFd;

use super::APIC;
use super::rig::{HOLD, SYNC, common, own};
use super::window::Window;
use crate::machine::{MachineError, stop_requested};

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
    /// NMIs from beside.
    pub strays: u64,
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
}

impl<'a> Patcher<'a> {
    pub(super) fn new(window: Window, vm: &'a VmFd, executors: usize) -> Patcher<'a> {
        Patcher { window, vm, executors, acks: 0, holds: 0, epochs: 0 }
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

    /// Ends the executors' loops.
    pub(super) fn stop(&self) {
        self.window.set_shared(common::RELEASE, self.holds);
        self.window.set_shared(common::STOP, 1);
    }

    /// Stores to the site pages in one instruction.
    pub fn store(&self, at: usize, bytes: &[u8]) {
        let target = self.window.text(at);
        compiler_fence(Ordering::SeqCst);
        // SAFETY: inside the site pages, whose only other users are guests; volatile, no reference. x86 takes
        // unaligned words.
        unsafe {
            match *bytes {
                [byte] => std::ptr::write_volatile(target as *mut u8, byte),
                [a, b, c, d] => {
                    core::arch::asm!("mov [{}], {:e}", in(reg) target, in(reg) u32::from_le_bytes([a, b, c, d]))
                }
                [a, b, c, d, e, f, g, h] => {
                    let word = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
                    core::arch::asm!("mov [{}], {}", in(reg) target, in(reg) word);
                }
                _ => unreachable!("protocols store 1, 4 or 8 bytes"),
            }
        }
        compiler_fence(Ordering::SeqCst);
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
            // Delivery mode NMI (SDM vol. 3, 11.11.2).
            Signal::Nmi => 4 << 8,
        };
        for executor in 0..self.executors {
            let address_lo = APIC as u32 | (executor as u32) << 12;
            let message = kvm_msi { address_lo, data, ..kvm_msi::default() };
            let sent = self.vm.signal_msi(message).map_err(MachineError::kvm("KVM_SIGNAL_MSI"))?;
            if sent <= 0 {
                let what = format!("a message to executor {executor} was not delivered");
                return Err(MachineError::Contract { rip: va::SITE, what });
            }
        }
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
        self.until("the epoch is not seen", |executor| self.own(executor, own::EPOCH_SEEN) == self.epochs)
    }

    /// Waits for two more passes of every executor, and returns the longest time between two of them since
    /// [`begin`](Patcher::begin), of any executor, in TSC ticks.
    pub fn end(&self) -> Result<u64, MachineError> {
        let passes: Vec<u64> = (0..self.executors).map(|cpu| self.own(cpu, own::PASSES)).collect();
        self.until("it does not run", |executor| self.own(executor, own::PASSES) >= passes[executor] + 2)?;
        Ok((0..self.executors).map(|cpu| self.own(cpu, own::LONGEST)).max().unwrap_or_default())
    }

    /// What executors have counted so far.
    pub fn counted(&self) -> Counted {
        let sum = |offset| (0..self.executors).map(|cpu| self.own(cpu, offset)).sum();
        Counted {
            passes: sum(own::PASSES),
            traps: sum(own::TRAPS),
            ipis: sum(own::IPIS),
            nmis: sum(own::NMIS),
            strays: sum(own::STRAYS),
        }
    }
}
