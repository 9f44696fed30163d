//! NMIs and device interrupts that a thread injects at random moments, and their accounting.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use derive_more::AddAssign;
use serde::{Deserialize, Serialize};

use crate::machine::free::{Injector, Message};
use crate::machine::{MachineError, Result};

/// One in this many messages starts a burst, whose members do not wait for each other.
const BURSTS: u32 = 8;
/// Members of a burst.
const BURST: u32 = 3;
/// Longest time between two messages, in seconds.
const LONGEST: f64 = 0.1;

/// Messages of one kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, AddAssign)]
pub struct Messages {
    /// Messages sent.
    pub injected: u64,
    /// Messages that handlers in the guest counted.
    pub delivered: u64,
    /// Messages sent, but not counted after everything pending was taken: they coalesced with a pending one.
    pub coalesced: u64,
    /// Messages sent to, but not counted by, an executor that did not answer at the end: pending, or coalesced.
    pub pending: u64,
    /// Messages sent before an earlier one to the same executor was counted: only these can coalesce.
    pub crowded: u64,
}

impl Messages {
    /// Accounts for messages. `settled`: every executor has taken what was pending.
    ///
    /// # Errors
    ///
    /// [`MachineError::Messages`]: more messages are missing than can have coalesced, or handlers counted more than were
    /// sent.
    pub(super) fn account(injected: u64, delivered: u64, crowded: u64, settled: bool) -> Result<Messages> {
        let messages = Messages { injected, delivered, crowded, ..Messages::default() };
        match injected.checked_sub(delivered) {
            Some(missing) if !settled => Ok(Messages { pending: missing, ..messages }),
            Some(missing) if missing <= crowded => Ok(Messages { coalesced: missing, ..messages }),
            _ => {
                let what = format!(
                    "{injected} injected, {delivered} counted in the guest, but only {crowded} of them could have \
                     coalesced"
                );
                Err(MachineError::Messages(what))
            }
        }
    }

    /// Accounts for the messages of one kind to a running machine.
    ///
    /// # Errors
    ///
    /// As [`account`](Messages::account).
    pub(super) fn of(
        injector: Injector<'_>,
        message: Message,
        crowded: [u64; 2],
        settled: bool,
    ) -> Result<Messages> {
        let sum = |count: &dyn Fn(usize) -> u64| (0..injector.executors()).map(count).sum::<u64>();
        // In this order: what a handler counts in between was sent before.
        let delivered = sum(&|executor| injector.counted(message, executor));
        let injected = sum(&|executor| injector.sent(message, executor));
        Messages::account(injected, delivered, crowded[message as usize], settled)
    }
}

impl std::fmt::Display for Messages {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Messages { injected, delivered, coalesced, pending, crowded } = self;
        write!(f, "{injected} injected = {delivered} counted in the guest + {coalesced} coalesced")?;
        if *pending > 0 {
            write!(f, " + {pending} pending at the end, or coalesced")?;
        }
        write!(f, " (of {crowded} sent while another was outstanding)")
    }
}

/// Messages of each kind per second.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rates {
    /// NMIs.
    pub nmi: f64,
    /// Device interrupts.
    pub irq: f64,
}

/// Sends messages while `run` runs. Returns the number of crowded ones of each kind with its result.
pub(super) fn injecting<T>(
    injector: Injector<'_>,
    rates: Rates,
    seed: u64,
    run: impl FnOnce() -> T,
) -> Result<(T, [u64; 2])> {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let sender = scope.spawn(|| inject(injector, rates, seed, &stop));
        let result = run();
        stop.store(true, Ordering::Relaxed);
        Ok((result, sender.join().expect("the sender has nothing that can panic")?))
    })
}

/// Sends messages until `stop` is set. Returns the number of crowded ones of each kind.
fn inject(injector: Injector<'_>, rates: Rates, seed: u64, stop: &AtomicBool) -> Result<[u64; 2]> {
    let mut random = fastrand::Rng::with_seed(seed ^ 0x6e6d_6921);
    let mut crowded = [0; 2];
    let all = rates.nmi + rates.irq;
    while all > 0.0 && !stop.load(Ordering::Relaxed) {
        // Exponentially distributed, so that no phase of the patcher is favoured.
        let pause = (-(1.0 - random.f64()).ln() / all).min(LONGEST);
        std::thread::sleep(Duration::from_secs_f64(pause));
        let message = if random.f64() * all < rates.nmi { Message::Nmi } else { Message::Irq };
        let executor = random.usize(..injector.executors());
        let burst = random.u32(..BURSTS) == 0;
        for _ in 0..if burst { BURST } else { 1 } {
            let outstanding = injector.outstanding(message, executor);
            if outstanding && !burst {
                break;
            }
            crowded[message as usize] += u64::from(outstanding);
            injector.send(message, executor)?;
        }
    }
    Ok(crowded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_met_a_pending_message_can_be_missing() {
        let settled = |injected, delivered, crowded| Messages::account(injected, delivered, crowded, true);
        assert_eq!(settled(5, 3, 2).unwrap().coalesced, 2);
        assert_eq!(settled(5, 5, 0).unwrap().coalesced, 0);
        // One was lost: nothing was pending when it was sent.
        assert!(settled(5, 4, 0).unwrap_err().to_string().contains("only 0 of them could have coalesced"));
        assert!(settled(5, 2, 2).is_err());
        // More than were sent.
        for settled in [false, true] {
            assert!(Messages::account(5, 6, 5, settled).is_err());
        }
    }

    #[test]
    fn executors_that_do_not_answer_owe_what_they_were_sent() {
        let owed = Messages::account(5, 3, 0, false).unwrap();
        assert_eq!((owed.coalesced, owed.pending), (0, 2));
        assert!(owed.to_string().contains("3 counted in the guest + 0 coalesced + 2 pending"));
        let mut sum = owed;
        sum += Messages::account(4, 3, 1, true).unwrap();
        assert_eq!(sum, Messages { injected: 9, delivered: 6, coalesced: 1, pending: 2, crowded: 1 });
    }
}
