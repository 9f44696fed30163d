//! Where the guest's loop, its handlers and the host keep counters and times.

use crossmod_abi::{PAGE, private};

use crate::free::executors;

/// Offsets in the shared page, one cache line each, besides those of all executors.
pub mod common {
    pub const STOP: u64 = 0x400;
    pub const EPOCH: u64 = 0x440;
}

/// Offsets in a vCPU's private page, behind those of all executors. Handlers and the loop write to separate cache lines.
pub mod own {
    pub const TRAPS: u64 = 0xa10;
    pub const NMIS: u64 = 0xa18;
    pub const IPIS: u64 = 0xa20;
    pub const STRAYS: u64 = 0xa28;
    pub const PASSES: u64 = 0xa80;
    pub const LONGEST: u64 = 0xa88;
    pub const EPOCH_SEEN: u64 = 0xa90;
    /// Number of passes with a trap.
    pub const TRAPPED: u64 = 0xa98;
    /// Duration of the last pass without a trap.
    pub const UNTRAPPED: u64 = 0xaa0;
    /// Durations of the last passes with a trap.
    pub const TRAP_LOG: u64 = 0xb00;
}
/// Number of durations kept in that log: a power of two.
pub const TRAP_LOG: u64 = 128;
const _: () = assert!(executors::own::ACK >= private::DB_STACK_TOP && own::TRAP_LOG + 8 * TRAP_LOG <= PAGE);
const _: () = assert!(TRAP_LOG.is_power_of_two());
