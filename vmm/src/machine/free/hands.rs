//! What a host does to a running [`Course`](super::Course): the patcher's operations, and messages from a thread of
//! their own.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, compiler_fence};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crossmod_abi::vector;
use kvm_bindings::kvm_msi;
use kvm_ioctls::VmFd;

use super::APIC;
use super::course::{common, own};
use super::window::Window;
use crate::machine::{MachineError, stop_requested};
use crate::plan::Function;

/// A wait that takes longer never ends.
const PATIENCE: Duration = Duration::from_secs(3);

/// How a wait ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waited {
    /// With what was waited for.
    Done,
    /// Nothing came within three seconds.
    Stuck,
    /// A signal asked to stop, or an executor has failed.
    Interrupted,
}

/// The patcher's hands.
pub struct Hands<'a> {
    window: Window,
    vm: &'a VmFd,
    executors: usize,
    stop: Arc<AtomicBool>,
    /// Acknowledgements of each executor when it was last sent a broadcast.
    acks: Vec<u64>,
    /// Arrivals of each executor at the last reset of the count.
    arrivals: Vec<u64>,
    holds: u64,
}

impl<'a> Hands<'a> {
    pub(super) fn new(window: Window, vm: &'a VmFd, executors: usize) -> Hands<'a> {
        let stop = Arc::new(AtomicBool::new(false));
        Hands {
            window,
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

    /// Lets held executors go, and ends all.
    pub(super) fn stop(&self) {
        self.release();
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Bit *i* = executor *i*.
    pub fn everyone(&self) -> u32 {
        (1 << self.executors) - 1
    }

    /// Stores to the site pages: one instruction for 1, 2, 4, 8 or 16 bytes; for as many others as fit, the one that
    /// also stores what stands beside them; for more than 16, one for each 8.
    pub fn store(&self, at: usize, bytes: &[u8]) {
        compiler_fence(Ordering::SeqCst);
        let mut done = 0;
        while done < bytes.len() {
            let rest = &bytes[done..];
            let take = if rest.len() > 16 { 8 } else { rest.len() };
            let (first, len) = cover(at + done, take);
            let mut word = [0; 16];
            for (offset, byte) in word[..len].iter_mut().enumerate() {
                let address = self.window.text(first + offset);
                // SAFETY: inside the guest memory; volatile, no reference. Nobody else stores to the site pages.
                *byte = unsafe { std::ptr::read_volatile(address as *const u8) };
            }
            word[at + done - first..][..take].copy_from_slice(&rest[..take]);
            self.store_word(first, len, word);
            done += take;
        }
        compiler_fence(Ordering::SeqCst);
    }

    fn store_word(&self, at: usize, len: usize, word: [u8; 16]) {
        let target = self.window.text(at);
        let low = u64::from_le_bytes(word[..8].try_into().expect("eight bytes"));
        // SAFETY: inside the guest memory (`cover` stays within the site pages); no reference to it exists, and x86
        // takes unaligned words.
        unsafe {
            match len {
                1 => core::arch::asm!("mov [{}], {}", in(reg) target, in(reg_byte) low as u8),
                2 => core::arch::asm!("mov [{}], {:x}", in(reg) target, in(reg) low as u16),
                4 => core::arch::asm!("mov [{}], {:e}", in(reg) target, in(reg) low as u32),
                8 => core::arch::asm!("mov [{}], {}", in(reg) target, in(reg) low),
                _ => {
                    let value = core::arch::x86_64::_mm_loadu_si128(word.as_ptr().cast());
                    core::arch::asm!("movups [{}], {}", in(reg) target, in(xmm_reg) value);
                }
            }
        }
    }

    /// The version that is about to be stored.
    pub fn begun(&self, version: u64) {
        self.window.set_shared(common::BEGUN, version);
    }

    /// The version that is complete.
    pub fn done(&self, version: u64) {
        self.window.set_shared(common::DONE, version);
    }

    /// Sends a broadcast to the executors of a mask.
    pub fn broadcast(&mut self, function: Function, mask: u32) -> Result<(), MachineError> {
        let vector = crate::explore::monitor::function_vector(function);
        if matches!(function, Function::Hold | Function::Stop) {
            self.holds += 1;
            self.window.set_shared(common::TARGET, self.holds);
        }
        for executor in self.members(mask) {
            self.acks[executor] = self.window.own(executor, own::ACK);
            send(self.vm, executor, u32::from(vector))?;
        }
        Ok(())
    }

    fn members(&self, mask: u32) -> impl Iterator<Item = usize> + use<> {
        (0..self.executors).filter(move |executor| mask >> executor & 1 != 0)
    }

    /// Waits for the acknowledgements of a mask.
    pub fn wait_acks(&self, mask: u32) -> Waited {
        self.until(|| self.members(mask).all(|cpu| self.window.own(cpu, own::ACK) != self.acks[cpu]))
    }

    /// Waits for so many arrivals since the count was reset.
    pub fn wait_arrived(&self, count: u64) -> Waited {
        let arrived =
            || (0..self.executors).map(|cpu| self.window.own(cpu, own::ARRIVED) - self.arrivals[cpu]);
        self.until(|| arrived().sum::<u64>() >= count)
    }

    /// Resets the count of arrivals.
    pub fn reset_arrivals(&mut self) {
        self.arrivals = (0..self.executors).map(|cpu| self.window.own(cpu, own::ARRIVED)).collect();
    }

    /// Lets held executors go.
    pub fn release(&self) {
        self.window.set_shared(common::RELEASE, self.holds);
    }

    fn until(&self, done: impl Fn() -> bool) -> Waited {
        let (began, mut spins) = (Instant::now(), 0u32);
        while !done() {
            spins += 1;
            std::hint::spin_loop();
            if spins.is_multiple_of(1 << 12) {
                std::thread::yield_now();
                if stop_requested() || self.stop.load(Ordering::Relaxed) {
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

/// What became of the messages to one executor: NMIs, device interrupts.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    sent: [AtomicU64; 2],
    /// Messages sent by some time, and how many of them were counted; the others coalesced.
    settled: Mutex<[[u64; 2]; 2]>,
}

impl Ledger {
    pub fn sent(&self) -> [u64; 2] {
        [0, 1].map(|kind| self.sent[kind].load(Ordering::SeqCst))
    }

    pub fn settle(&self, sent: [u64; 2], counted: [u64; 2]) {
        *self.settled.lock().unwrap_or_else(|error| error.into_inner()) = [sent, counted];
    }

    /// Sent, neither counted nor known to have coalesced.
    fn outstanding(&self, kind: usize, counted: u64) -> bool {
        let [settled, of_these] = *self.settled.lock().unwrap_or_else(|error| error.into_inner());
        let since = self.sent[kind].load(Ordering::SeqCst) - settled[kind];
        since > counted.saturating_sub(of_these[kind])
    }
}

/// A message that a thread beside the patcher's sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Message {
    /// An NMI.
    Nmi,
    /// A device interrupt.
    Irq,
}

/// Sends messages from another thread than the patcher's.
#[derive(Clone, Copy)]
pub struct Injector<'a> {
    window: Window,
    vm: &'a VmFd,
    ledgers: &'a [Ledger],
}

impl<'a> Injector<'a> {
    pub(super) fn new(window: Window, vm: &'a VmFd, ledgers: &'a [Ledger]) -> Injector<'a> {
        Injector { window, vm, ledgers }
    }

    /// How many executors there are.
    pub fn executors(self) -> usize {
        self.ledgers.len()
    }

    /// Sends one.
    pub fn send(self, message: Message, executor: usize) -> Result<(), MachineError> {
        let data = match message {
            Message::Nmi => NMI,
            Message::Irq => u32::from(vector::IRQ),
        };
        send(self.vm, executor, data)?;
        self.ledgers[executor].sent[message as usize].fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    /// True if one that was sent to the executor may still be pending: the next may become one with it.
    pub fn outstanding(self, message: Message, executor: usize) -> bool {
        self.ledgers[executor].outstanding(message as usize, self.counted(message, executor))
    }

    /// How many were sent to an executor.
    pub fn sent(self, message: Message, executor: usize) -> u64 {
        self.ledgers[executor].sent()[message as usize]
    }

    /// How many the executor's handler has counted.
    pub fn counted(self, message: Message, executor: usize) -> u64 {
        self.window.own(executor, if message == Message::Nmi { own::NMIS } else { own::IRQS })
    }
}

/// The data of a message that is an NMI: its delivery mode (SDM vol. 3, 11.11.2).
pub(super) const NMI: u32 = 4 << 8;

/// Sends a message to one executor.
pub(super) fn send(vm: &VmFd, executor: usize, data: u32) -> Result<(), MachineError> {
    let address_lo = APIC as u32 | (executor as u32) << 12;
    let message = kvm_msi { address_lo, data, ..kvm_msi::default() };
    // 0: it coalesced with one that is pending.
    vm.signal_msi(message).map(|_| ()).map_err(MachineError::kvm("KVM_SIGNAL_MSI"))
}

/// First byte and length of the one store that covers so many bytes at an offset of the site pages, of the shortest
/// length that there is an instruction for and crossing the smallest boundary it can.
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
    fn a_store_crosses_no_more_than_it_must() {
        assert_eq!(cover(0x100, 5), (0x100, 8));
        assert_eq!(cover(0x103, 5), (0x100, 8));
        assert_eq!(cover(0x101, 4), (0x101, 4));
        // 58 to 62 of a line: eight bytes from there would cross it.
        assert_eq!(cover(0x13a, 5), (0x138, 8));
        // 62 to 66: it cannot but cross.
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
