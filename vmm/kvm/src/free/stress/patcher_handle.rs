//! Stores, broadcasts and waits of the patcher of a running [`StressVm`](super::StressVm).

use std::sync::atomic::Ordering;
use std::time::Duration;

use crossmod_model::plan::Function;

use super::layout::common;
use crate::free::executors::{Signals, Waited, own};
use crate::{Result, stop_requested};

/// A wait that takes longer counts as a deadlock, if all executors have run meanwhile.
const PATIENCE: Duration = Duration::from_secs(3);

/// The patcher's access to a running machine.
pub struct PatcherHandle<'a> {
    signals: Signals<'a>,
    /// Acknowledgements of each executor before its last broadcast.
    acks: Vec<u64>,
    /// Arrivals of each executor at the last reset of the count.
    arrivals: Vec<u64>,
}

impl<'a> PatcherHandle<'a> {
    pub(super) fn new(signals: Signals<'a>) -> PatcherHandle<'a> {
        let none = vec![0; signals.executors];
        PatcherHandle { signals, acks: none.clone(), arrivals: none }
    }

    /// True once a signal has asked to stop, or an executor has failed.
    pub fn stopped(&self) -> bool {
        stop_requested() || self.signals.stop.load(Ordering::Relaxed)
    }

    /// Bit *i* = executor *i*.
    pub fn everyone(&self) -> u32 {
        (1 << self.signals.executors) - 1
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
            (0..len).for_each(|offset| word[offset] = self.signals.words.text_byte(first + offset));
            word[at + done - first..][..take].copy_from_slice(&rest[..take]);
            self.signals.words.store(first, &word[..len]);
            done += take;
        }
    }

    /// Publishes the version that is about to be stored.
    pub fn begun(&self, version: u64) {
        self.signals.words.set_shared(common::BEGUN, version);
    }

    /// Publishes the version that is complete.
    pub fn done(&self, version: u64) {
        self.signals.words.set_shared(common::DONE, version);
    }

    /// Sends a broadcast to the executors of a mask.
    pub fn broadcast(&mut self, function: Function, mask: u32) -> Result<()> {
        if matches!(function, Function::Hold | Function::Stop) {
            self.signals.hold();
        }
        for executor in self.members(mask) {
            self.acks[executor] = self.signals.words.own(executor, own::ACK);
            self.signals.send(executor, u32::from(function.vector()))?;
        }
        Ok(())
    }

    fn members(&self, mask: u32) -> impl Iterator<Item = usize> + use<> {
        (0..self.signals.executors).filter(move |executor| mask >> executor & 1 != 0)
    }

    /// Waits until the executors of a mask have acknowledged their last broadcast.
    pub fn wait_acks(&self, mask: u32) -> Waited {
        let acks = |cpu| self.signals.words.own(cpu, own::ACK);
        self.until(|| self.members(mask).all(|cpu| acks(cpu) != self.acks[cpu]))
    }

    /// Waits for `count` arrivals since the count was reset.
    pub fn wait_arrived(&self, count: u64) -> Waited {
        let arrived = || self.signals.each(own::ARRIVED).zip(&self.arrivals).map(|(now, then)| now - then);
        self.until(|| arrived().sum::<u64>() >= count)
    }

    /// Resets the count of arrivals.
    pub fn reset_arrivals(&mut self) {
        self.arrivals = self.signals.each(own::ARRIVED).collect();
    }

    /// Releases held executors.
    pub fn release(&self) {
        self.signals.release();
    }

    fn until(&self, done: impl Fn() -> bool) -> Waited {
        self.signals.wait(PATIENCE, || self.stopped(), done)
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
