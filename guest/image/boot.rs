//! The guest image: everything a vCPU executes outside the patch site. Assembly throughout, because
//! ring-0 code is emulated instruction by instruction on some hosts and because every instruction here
//! is a state of the explorer. Built by `vmm/build.rs`, not a cargo target.
#![no_std]
#![no_main]

use crossmod_abi::{action, msr, private, shared, va, vector};

core::arch::global_asm!(
    include_str!("executor.s"),
    include_str!("traps.s"),
    ack = const va::PRIVATE + private::ACK,
    armed = const va::SHARED + shared::ARMED,
    action = const va::SHARED + shared::ACTION,
    desc_site = const va::SHARED + shared::SITE,
    resume = const va::SHARED + shared::RESUME,
    retaddr = const va::SHARED + shared::RETURN,
    hits = const va::SHARED + shared::HITS,
    arrived = const va::SHARED + shared::ARRIVED,
    release = const va::SHARED + shared::RELEASE,
    lock = const va::SHARED + shared::LOCK,
    call = const action::CALL,
    v_de = const vector::DE,
    v_db = const vector::DB,
    v_nmi = const vector::NMI,
    v_bp = const vector::BP,
    v_ud = const vector::UD,
    v_df = const vector::DF,
    v_gp = const vector::GP,
    v_pf = const vector::PF,
    v_mc = const vector::MC,
    mcg_status = const msr::MCG_STATUS,
    v_sync = const vector::IPI_SYNC,
    v_ack_first = const vector::IPI_ACK_FIRST,
    v_ack_only = const vector::IPI_ACK_ONLY,
    v_hold = const vector::IPI_HOLD,
    v_stop = const vector::IPI_STOP,
    v_early = const vector::IPI_EARLY,
    v_irq = const vector::IRQ,
);

#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    loop {}
}
