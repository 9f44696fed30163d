//! Where the guest's loops and the host keep counters, logs and stacks.

use crossmod_abi::{PAGE, private};
use crossmod_model::layout::MAX_CPUS;

use crate::free::{LOG, Pass, executors};
use crate::layout;

/// Passes between two looks at the log.
pub const BATCH: usize = 4096;
/// Bytes of the log of one vCPU.
pub const LOG_LEN: u64 = (BATCH * size_of::<Pass>()) as u64;
const _: () = assert!(LOG + MAX_CPUS as u64 * LOG_LEN <= layout::IMAGE);

/// Offsets in the shared page, one cache line each, besides those of all executors.
pub mod common {
    pub const BEGUN: u64 = 0x400;
    pub const DONE: u64 = 0x440;
}

/// Offsets in a vCPU's private page, behind those of all executors.
pub mod own {
    pub const NMIS: u64 = 0xa10;
    pub const IRQS: u64 = 0xa18;
    pub const LOG: u64 = 0xa80;
    pub const LEFT: u64 = 0xa88;
    pub const TOP: u64 = 0xa90;
    pub const SITE: u64 = 0xa98;
    pub const IRQ_STACK_TOP: u64 = 0xb80;
    pub const NMI_STACK_TOP: u64 = 0xc00;
    pub const TRAP_STACK_TOP: u64 = 0xd00;
}
const _: () = assert!(executors::own::ACK >= private::DB_STACK_TOP && own::TRAP_STACK_TOP <= PAGE);
