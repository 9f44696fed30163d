//! The guest's code, and its entries.

use crossmod_abi::{port, va, vector};

use super::layout::{common, own};
use crate::free::{APIC_VA, CODE, EOI, executors};

core::arch::global_asm!(
    include_str!("guest.s"),
    begun = const va::SHARED + common::BEGUN,
    done = const va::SHARED + common::DONE,
    target = const va::SHARED + executors::common::TARGET,
    release = const va::SHARED + executors::common::RELEASE,
    ack = const va::PRIVATE + executors::own::ACK,
    arrived = const va::PRIVATE + executors::own::ARRIVED,
    nmis = const va::PRIVATE + own::NMIS,
    irqs = const va::PRIVATE + own::IRQS,
    log = const va::PRIVATE + own::LOG,
    left = const va::PRIVATE + own::LEFT,
    top = const va::PRIVATE + own::TOP,
    site = const va::PRIVATE + own::SITE,
    eoi = const APIC_VA + EOI,
    stop = const port::STOP,
    nmi = const vector::NMI,
    irq = const vector::IRQ,
);

guest_code!(crossmod_stress_start crossmod_stress_end crossmod_stress_execute crossmod_stress_once
    crossmod_stress_nmi_plain crossmod_stress_nmi_site crossmod_stress_nmi_back
    crossmod_stress_irq_plain crossmod_stress_irq_site crossmod_stress_irq_back
    crossmod_stress_sync crossmod_stress_ack_first crossmod_stress_ack_only
    crossmod_stress_hold crossmod_stress_stop crossmod_stress_early);

/// Guest addresses of the code that the host resumes.
#[derive(Debug, Clone, Copy)]
pub struct Entries {
    /// Passes until the batch is complete.
    pub execute: u64,
    /// One pass on behalf of an interrupt handler.
    pub once: u64,
    /// The end of the NMI handler.
    pub nmi_back: u64,
    /// The end of the device interrupt's handler.
    pub irq_back: u64,
    /// One past the code.
    pub end: u64,
}

impl Entries {
    /// The entries of the code at [`CODE`].
    pub fn new() -> Entries {
        Entries {
            execute: at(&raw const crossmod_stress_execute),
            once: at(&raw const crossmod_stress_once),
            nmi_back: at(&raw const crossmod_stress_nmi_back),
            irq_back: at(&raw const crossmod_stress_irq_back),
            end: at(&raw const crossmod_stress_end),
        }
    }
}

/// The handlers of interrupts, by vector.
pub fn handlers(nmi_runs_site: bool, irq_runs_site: bool) -> [(u8, u64); 8] {
    let nmi = if nmi_runs_site {
        &raw const crossmod_stress_nmi_site
    } else {
        &raw const crossmod_stress_nmi_plain
    };
    let irq = if irq_runs_site {
        &raw const crossmod_stress_irq_site
    } else {
        &raw const crossmod_stress_irq_plain
    };
    [
        (vector::NMI, nmi),
        (vector::IRQ, irq),
        (vector::IPI_SYNC, &raw const crossmod_stress_sync),
        (vector::IPI_ACK_FIRST, &raw const crossmod_stress_ack_first),
        (vector::IPI_ACK_ONLY, &raw const crossmod_stress_ack_only),
        (vector::IPI_HOLD, &raw const crossmod_stress_hold),
        (vector::IPI_STOP, &raw const crossmod_stress_stop),
        (vector::IPI_EARLY, &raw const crossmod_stress_early),
    ]
    .map(|(vector, handler)| (vector, at(handler)))
}

fn at(label: *const u8) -> u64 {
    CODE + offset(label)
}
