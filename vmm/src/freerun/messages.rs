//! NMIs and device interrupts from a thread of their own, at moments that a seed decides.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde::Serialize;

use crate::machine::MachineError;
use crate::machine::free::{Injector, Message};

/// One in so many is the first of a burst, whose members do not wait for each other.
const BURSTS: u32 = 8;
/// Members of a burst.
const BURST: u32 = 3;
/// Longest time between two messages.
const LONGEST: f64 = 0.1;

/// Messages of one kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Messages {
    /// Sent.
    pub injected: u64,
    /// Counted by handlers in the guest.
    pub delivered: u64,
    /// Sent and not counted: they became one with a message that was pending.
    pub coalesced: u64,
    /// Sent while an earlier one to the same executor was not counted yet: only these can have coalesced.
    pub crowded: u64,
}

/// How many of each kind a second.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rates {
    /// NMIs.
    pub nmi: f64,
    /// Device interrupts.
    pub irq: f64,
}

/// Sends until told to stop. Returns how many of each kind were crowded.
pub fn inject(
    injector: Injector<'_>,
    rates: Rates,
    seed: u64,
    stop: &AtomicBool,
) -> Result<[u64; 2], MachineError> {
    let mut random = fastrand::Rng::with_seed(seed ^ 0x6e6d_6921);
    let mut crowded = [0; 2];
    let all = rates.nmi + rates.irq;
    while all > 0.0 && !stop.load(Ordering::Relaxed) {
        // Exponential, so that no phase of the patcher is favoured.
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

/// What became of messages, once every executor has taken what was pending.
///
/// # Errors
///
/// Messages are missing that nothing could have coalesced with, or there are more than were sent.
pub fn account(
    injector: Injector<'_>,
    message: Message,
    crowded: [u64; 2],
) -> Result<Messages, MachineError> {
    let sum = |count: &dyn Fn(usize) -> u64| (0..injector.executors()).map(count).sum::<u64>();
    let injected = sum(&|executor| injector.sent(message, executor));
    let delivered = sum(&|executor| injector.counted(message, executor));
    let crowded = crowded[message as usize];
    match injected.checked_sub(delivered) {
        Some(coalesced) if coalesced <= crowded => Ok(Messages { injected, delivered, coalesced, crowded }),
        _ => {
            let what = format!(
                "{injected} messages injected, {delivered} counted in the guest, and only {crowded} of them could have \
                 coalesced"
            );
            Err(MachineError::Contract { rip: 0, what })
        }
    }
}
