//! Stores, broadcasts and waits of the patcher of a running [`StressVm`](super::StressVm).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crossmod_model::plan::Function;
use kvm_ioctls::VmFd;

use super::layout::{common, own};
use crate::free::guest_words::GuestWords;
use crate::free::message::send;
use crate::{MachineError, stop_requested};

/// A wait that takes longer counts as a deadlock.
const PATIENCE: Duration = Duration::from_secs(3);

/// How a wait ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waited {
    /// The condition came true.
    Done,
    /// It did not within three seconds.
    Stuck,
    /// A signal asked to stop, or an executor failed.
    Interrupted,
}

/// The patcher's access to a running machine.
pub struct PatcherHandle<'a> {
    words: GuestWords,
    vm: &'a VmFd,
    executors: usize,
    stop: Arc<AtomicBool>,
    /// Acknowledgements of each executor before its last broadcast.
    acks: Vec<u64>,
    /// Arrivals of each executor at the last reset of the count.
    arrivals: Vec<u64>,
    holds: u64,
}

impl<'a> PatcherHandle<'a> {
    pub(super) fn new(words: GuestWords, vm: &'a VmFd, executors: usize) -> PatcherHandle<'a> {
        let stop = Arc::new(AtomicBool::new(false));
        PatcherHandle {
            words,
            vm,
            executors,
            stop,
            acks: vec![0; executors],
            arrivals: vec![0; executors],
            holds: 0,
        }
    }

    pub(super) fn stop_flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.stop)
    }

    /// True once a signal has asked to stop, or an executor has failed.
    pub fn stopped(&self) -> bool {
        stop_requested() || self.stop.load(Ordering::Relaxed)
    }

    /// Bit *i* = executor *i*.
    pub fn everyone(&self) -> u32 {
        (1 << self.executors) - 1
    }

    /// Stores to the site pages. Up to 16 bytes are stored by one instruction, which for lengths other than 1, 2, 4, 8
    /// and 16 also rewrites neighbouring bytes with what they hold; more bytes are stored eight at a time.
    pub fn store(&self, at: usize, bytes: &[u8]) {
        let mut done = 0;
        while done < bytes.len() {
            let rest = &bytes[done..];
            let take = if rest.len() > 16 { 8 } else { rest.len() };
            let (first, len) = cover(at + done, take);
            // Only this thread stores to the site pages.
            let mut word = [0; 16];
            (0..len).for_each(|offset| word[offset] = self.words.text_byte(first + offset));
            word[at + done - first..][..take].copy_from_slice(&rest[..take]);
            self.words.store(first, &word[..len]);
            done += take;
        }
    }

    /// Publishes the version that is about to be stored.
    pub fn begun(&self, version: u64) {
        self.words.set_shared(common::BEGUN, version);
    }

    /// Publishes the version that is complete.
    pub fn done(&self, version: u64) {
        self.words.set_shared(common::DONE, version);
    }

    /// Sends a broadcast to the executors of a mask.
    pub fn broadcast(&mut self, function: Function, mask: u32) -> Result<(), MachineError> {
        let vector = function.vector();
        if matches!(function, Function::Hold | Function::Stop) {
            self.holds += 1;
            self.words.set_shared(common::TARGET, self.holds);
        }
        for executor in self.members(mask) {
            self.acks[executor] = self.words.own(executor, own::ACK);
            send(self.vm, executor, u32::from(vector))?;
        }
        Ok(())
    }

    fn members(&self, mask: u32) -> impl Iterator<Item = usize> + use<> {
        (0..self.executors).filter(move |executor| mask >> executor & 1 != 0)
    }

    /// Waits until the executors of a mask have acknowledged their last broadcast.
    pub fn wait_acks(&self, mask: u32) -> Waited {
        self.until(|| self.members(mask).all(|cpu| self.words.own(cpu, own::ACK) != self.acks[cpu]))
    }

    /// Waits for `count` arrivals since the count was reset.
    pub fn wait_arrived(&self, count: u64) -> Waited {
        let arrived =
            || (0..self.executors).map(|cpu| self.words.own(cpu, own::ARRIVED) - self.arrivals[cpu]);
        self.until(|| arrived().sum::<u64>() >= count)
    }

    /// Resets the count of arrivals.
    pub fn reset_arrivals(&mut self) {
        self.arrivals = (0..self.executors).map(|cpu| self.words.own(cpu, own::ARRIVED)).collect();
    }

    /// Releases held executors.
    pub fn release(&self) {
        self.words.set_shared(common::RELEASE, self.holds);
    }

    fn until(&self, done: impl Fn() -> bool) -> Waited {
        let (began, mut spins) = (Instant::now(), 0u32);
        while !done() {
            spins += 1;
            std::hint::spin_loop();
            if spins.is_multiple_of(1 << 12) {
                std::thread::yield_now();
                if self.stopped() {
                    return Waited::Interrupted;
                }
                if began.elapsed() > PATIENCE {
                    return Waited::Stuck;
                }
            }
        }
        Waited::Done
    }
}

impl Drop for PatcherHandle<'_> {
    /// Releases held executors, and stops all of them.
    fn drop(&mut self) {
        self.release();
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// First byte and length of one store that covers `len` bytes at an offset of the site pages: of the shortest length
/// that an instruction can store, across the smallest possible boundary.
fn cover(at: usize, len: usize) -> (usize, usize) {
    let whole = len.next_power_of_two();
    let crossed = |first: usize| {
        let last = first + whole - 1;
        [8, 16, 32, 64, 4096].into_iter().filter(|block| first / block != last / block).max().unwrap_or(0)
    };
    let first =
        ((at + len).saturating_sub(whole)..=at).rev().min_by_key(|&first| crossed(first)).unwrap_or(at);
    (first, whole)
}

#[cfg(test)]
mod tests {
    use super::cover;

    #[test]
    fn a_store_crosses_the_smallest_possible_boundary() {
        assert_eq!(cover(0x100, 5), (0x100, 8));
        assert_eq!(cover(0x103, 5), (0x100, 8));
        assert_eq!(cover(0x101, 4), (0x101, 4));
        // 58 to 62 of a line: eight bytes from there would cross it.
        assert_eq!(cover(0x13a, 5), (0x138, 8));
        // 62 to 66: every store of eight bytes crosses it.
        let (first, len) = cover(0x13e, 5);
        assert!(first <= 0x13e && first + len >= 0x143 && len == 8);
        assert_eq!(cover(0x13f, 1), (0x13f, 1));
        for at in 0..300 {
            for len in 1..=16 {
                let (first, whole) = cover(at, len);
                assert!(first <= at && first + whole >= at + len && whole <= 16, "{at} {len}");
            }
        }
    }
}
