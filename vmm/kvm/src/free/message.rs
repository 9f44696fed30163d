//! Messages to running vCPUs (KVM API, KVM_SIGNAL_MSI), and the accounting of NMIs and device interrupts that another
//! thread than the patcher's injects.

use std::sync::atomic::{AtomicU64, Ordering};

use crossmod_abi::{va, vector};
use kvm_bindings::kvm_msi;
use kvm_ioctls::VmFd;

use super::APIC;
use super::guest_words::GuestWords;
use crate::{MachineError, Result};

/// The data of an NMI message: its delivery mode (SDM vol. 3, 11.11.2).
pub(super) const NMI: u32 = 4 << 8;

/// Sends a message to one executor.
///
/// KVM returns the number of vCPUs whose local APIC accepted it. An NMI or a fixed vector that coalesces with a pending
/// one counts as accepted. A return value of 0 (no such APIC, or one that is disabled) therefore means a lost message, and
/// executors do not disable their APIC.
pub(super) fn send(vm: &VmFd, executor: usize, data: u32) -> Result<()> {
    let address_lo = APIC as u32 | (executor as u32) << 12;
    let message = kvm_msi { address_lo, data, ..kvm_msi::default() };
    let taken = vm.signal_msi(message).map_err(MachineError::kvm("KVM_SIGNAL_MSI"))?;
    delivered(executor, taken)
}

fn delivered(executor: usize, taken: i32) -> Result<()> {
    if taken > 0 {
        return Ok(());
    }
    let what = format!("a message to executor {executor} was not delivered");
    Err(MachineError::Contract { rip: va::SITE, what })
}

/// Counts of the messages to one executor: NMIs, device interrupts.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    sent: [AtomicU64; 2],
    /// A lower bound of those that coalesced.
    coalesced: [AtomicU64; 2],
}

impl Ledger {
    pub fn sent(&self) -> [u64; 2] {
        [0, 1].map(|kind| self.sent[kind].load(Ordering::SeqCst))
    }

    /// Notes that none of the messages in `sent` is pending any more. `counted` may include later ones: only messages that
    /// are missing nevertheless have coalesced.
    pub fn settle(&self, sent: [u64; 2], counted: [u64; 2]) {
        for kind in 0..2 {
            self.coalesced[kind].fetch_max(sent[kind].saturating_sub(counted[kind]), Ordering::SeqCst);
        }
    }

    /// True if a message was sent that is neither counted nor known to have coalesced.
    fn outstanding(&self, kind: usize, counted: u64) -> bool {
        let missing = self.sent[kind].load(Ordering::SeqCst).saturating_sub(counted);
        missing > self.coalesced[kind].load(Ordering::SeqCst)
    }
}

/// A message that an [`Injector`] sends.
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
    pub(super) words: GuestWords,
    pub(super) vm: &'a VmFd,
    pub(super) ledgers: &'a [Ledger],
    /// Where handlers count each kind, in a vCPU's private page.
    pub(super) counts: [u64; 2],
}

impl Injector<'_> {
    /// Number of executors.
    pub fn executors(self) -> usize {
        self.ledgers.len()
    }

    /// Sends a message.
    pub fn send(self, message: Message, executor: usize) -> Result<()> {
        let data = match message {
            Message::Nmi => NMI,
            Message::Irq => u32::from(vector::IRQ),
        };
        send(self.vm, executor, data)?;
        self.ledgers[executor].sent[message as usize].fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    /// True if an earlier message to the executor may still be pending, so that the next one may coalesce with it.
    pub fn outstanding(self, message: Message, executor: usize) -> bool {
        self.ledgers[executor].outstanding(message as usize, self.counted(message, executor))
    }

    /// Numbers of messages sent to each executor so far, by kind.
    pub fn all_sent(self) -> Vec<[u64; 2]> {
        self.ledgers.iter().map(Ledger::sent).collect()
    }

    /// Notes that every executor has taken all messages of an earlier [`all_sent`](Injector::all_sent).
    pub fn settle(self, sent: &[[u64; 2]]) {
        for (executor, (ledger, &sent)) in self.ledgers.iter().zip(sent).enumerate() {
            let counted = self.counts.map(|count| self.words.own(executor, count));
            ledger.settle(sent, counted);
        }
    }

    /// Number of messages sent to an executor.
    pub fn sent(self, message: Message, executor: usize) -> u64 {
        self.ledgers[executor].sent()[message as usize]
    }

    /// Number of messages that the executor's handler has counted.
    pub fn counted(self, message: Message, executor: usize) -> u64 {
        self.words.own(executor, self.counts[message as usize])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_that_no_apic_took_is_lost() {
        assert!(delivered(0, 1).is_ok());
        for taken in [0, -1] {
            let error = delivered(3, taken).unwrap_err().to_string();
            assert!(error.contains("a message to executor 3 was not delivered"), "{error}");
        }
    }

    #[test]
    fn a_message_is_outstanding_until_it_is_counted_or_settled() {
        let ledger = Ledger::default();
        assert!(!ledger.outstanding(0, 0));
        ledger.sent[0].fetch_add(2, Ordering::SeqCst);
        assert!(ledger.outstanding(0, 0) && ledger.outstanding(0, 1) && !ledger.outstanding(0, 2));
        // Two coalesced.
        ledger.settle([2, 0], [1, 0]);
        assert!(!ledger.outstanding(0, 1));
        ledger.sent[0].fetch_add(1, Ordering::SeqCst);
        assert!(ledger.outstanding(0, 1) && !ledger.outstanding(0, 2));
        // A fourth is sent and counted before the next look: it hides nothing, and is not pending.
        ledger.sent[0].fetch_add(1, Ordering::SeqCst);
        ledger.settle([3, 0], [3, 0]);
        assert!(ledger.outstanding(0, 2) && !ledger.outstanding(0, 3));
    }
}
