//! The contract between the guest image and the host: virtual addresses, doorbell ports, interrupt
//! vectors and the layout of the pages that both sides touch.
//!
//! Every vCPU sees the same virtual layout. What differs between two vCPUs is only the *physical* page
//! behind the private page and behind the two site pages, so two executors that did the same have
//! byte-identical local states.
//!
//! ```text
//! 0x00_0010_0000  guest image: executor loops, trap handlers            one copy
//! 0x00_0010_8000  what the programs of a scenario compile to             one copy
//! 0x00_0020_0000  private page: mailbox, stacks                         one a vCPU
//! 0x00_0020_1000  shared page: protocol descriptor, flags, lock         one copy
//! 0x00_0020_2000  master copy of the two site pages, as data            one copy
//! 0x00_0020_4000  GDT and TSS          0x00_0020_5000  IDT              one copy
//! 0x40_0010_0000  the two site pages, for fetching                      one view a vCPU
//! 0x3f_8000_0000 .. 0x40_c000_0000 elsewhere: the landing page, again and again, so that every
//!                 rel32 branch of a site lands somewhere harmless
//! ```
#![no_std]
#![forbid(unsafe_code)]

/// Size of a page, in bytes.
pub const PAGE: u64 = 0x1000;

/// Virtual addresses, equal in every vCPU.
pub mod va {
    use super::PAGE;

    /// Where the image is linked and loaded (identity mapped).
    pub const IMAGE: u64 = 0x10_0000;
    /// Where the code that a scenario's programs compile to stands, in the image's window.
    pub const PROGRAM: u64 = IMAGE + 0x8000;
    /// The private page of the running vCPU.
    pub const PRIVATE: u64 = 0x20_0000;
    /// The page shared by the patcher and every executor.
    pub const SHARED: u64 = PRIVATE + PAGE;
    /// The master copy of the site pages: data accesses to text go here.
    pub const MASTER: u64 = SHARED + PAGE;
    /// GDT, then TSS.
    pub const TABLES: u64 = MASTER + 2 * PAGE;
    /// IDT: 256 gates of 16 bytes.
    pub const IDT: u64 = TABLES + PAGE;
    /// First of the two pages that hold the patch site.
    pub const SITE: u64 = 0x40_0010_0000;
}

/// Byte offsets inside the private page.
pub mod private {
    /// `u32`: 1 once the last broadcast was acknowledged by this vCPU.
    pub const ACK: u64 = 0x00;
    /// `u32`: an NMI is being handled; kept by NMI handlers that may be nested.
    pub const NMI_BUSY: u64 = 0x04;
    /// `u32`: another NMI came meanwhile; the handler runs again.
    pub const NMI_AGAIN: u64 = 0x08;
    /// First of [`WORDS`] `u32`s that a scenario names.
    pub const WORD: u64 = 0x20;
    /// How many private words a scenario can name.
    pub const WORDS: u64 = 6;
    /// Lowest byte of the stack of the executor loop (ring of the executor).
    pub const TASK_STACK: u64 = 0x40;
    /// Lowest byte of the stack for traps out of ring 3 (TSS.RSP0).
    pub const KERNEL_STACK: u64 = 0x140;
    /// Lowest byte of the NMI stack (TSS.IST1).
    pub const NMI_STACK: u64 = 0x240;
    /// Where an NMI handler that may be nested keeps its frame, below [`STATE_END`]: the frame that the CPU pushed,
    /// two scratch words for the nested handler, and the copy.
    pub const NMI_COPY: u64 = 40 + 16 + 40;
    /// One past the NMI stack: the part before this is a vCPU's private *state*.
    pub const STATE_END: u64 = 0x340;
    /// Top of the #DF stack (TSS.IST2); scratch, never part of a state.
    pub const DF_STACK_TOP: u64 = 0x800;
    /// Top of the #DB stack (TSS.IST3) that ring-3 stepping lands on; scratch, never part of a state.
    pub const DB_STACK_TOP: u64 = 0x900;
    /// Size in bytes of each of the three stacks that belong to the state.
    pub const STACK: u64 = 0x100;
}

/// Byte offsets inside the shared page: the protocol descriptor first, then what broadcasts use.
pub mod shared {
    /// `u32`: non-zero while the #BP handler may claim the trap.
    pub const ARMED: u64 = 0x00;
    /// `u32`: what a claimed trap does, one of [`super::action`].
    pub const ACTION: u64 = 0x04;
    /// `u64`: address of the site's first byte.
    pub const SITE: u64 = 0x08;
    /// `u64`: where the handler resumes.
    pub const RESUME: u64 = 0x10;
    /// `u64`: return address that an emulated call pushes.
    pub const RETURN: u64 = 0x18;
    /// `u32`: parity of the claimed traps, kept by the counting handler.
    pub const HITS: u64 = 0x20;
    /// `u32`: executors that have arrived in a hold or early-release function.
    pub const ARRIVED: u64 = 0x24;
    /// `u32`: held executors leave when this is not zero.
    pub const RELEASE: u64 = 0x28;
    /// `u32`: the lock that lock-taking executors contend for.
    pub const LOCK: u64 = 0x2c;
    /// `u32`: a flag for scenarios; the guest does not read it.
    pub const FLAG: u64 = 0x30;
    /// `u32`: a store here sends a broadcast: 1 + its number among those of the plan. Write only.
    pub const SEND: u64 = 0x34;
    /// `u32`: a store here declares modifications complete, one bit a site. Write only.
    pub const DONE: u64 = 0x38;
    /// First of [`WORDS`] `u32`s that a scenario names.
    pub const WORD: u64 = 0x40;
    /// How many shared words a scenario can name.
    pub const WORDS: u64 = 8;
    /// One past the descriptor proper (what `free` withdraws and poisons is `ACTION..HITS`).
    pub const DESCRIPTOR_END: u64 = HITS;
    /// One past the shared state.
    pub const STATE_END: u64 = WORD + 4 * WORDS;
}

/// Values of [`shared::ACTION`].
pub mod action {
    /// Continue at [`super::shared::RESUME`].
    pub const RESUME: u32 = 0;
    /// Push [`super::shared::RETURN`] on the interrupted stack, then continue at RESUME.
    pub const CALL: u32 = 1;
}

/// Interrupt vectors.
pub mod vector {
    /// Divide error.
    pub const DE: u8 = 0;
    /// Debug exception; ring-3 stepping.
    pub const DB: u8 = 1;
    /// Non-maskable interrupt.
    pub const NMI: u8 = 2;
    /// Breakpoint.
    pub const BP: u8 = 3;
    /// Invalid opcode.
    pub const UD: u8 = 6;
    /// Double fault.
    pub const DF: u8 = 8;
    /// General protection.
    pub const GP: u8 = 13;
    /// Page fault.
    pub const PF: u8 = 14;
    /// Machine check.
    pub const MC: u8 = 18;
    /// Broadcast: serialise, then acknowledge.
    pub const IPI_SYNC: u8 = 0x40;
    /// Broadcast: acknowledge, then serialise.
    pub const IPI_ACK_FIRST: u8 = 0x41;
    /// Broadcast: acknowledge only; the return is the only serialising instruction.
    pub const IPI_ACK_ONLY: u8 = 0x42;
    /// Broadcast: serialise, count the arrival, wait for the release with interrupts off, acknowledge.
    pub const IPI_HOLD: u8 = 0x43;
    /// Broadcast: count the arrival, wait for the release with interrupts off, serialise, acknowledge.
    pub const IPI_STOP: u8 = 0x44;
    /// Broadcast: serialise, count the arrival, acknowledge, return at once.
    pub const IPI_EARLY: u8 = 0x45;
    /// First of [`CALLS`] broadcasts whose function a scenario writes.
    pub const IPI_CALL: u8 = 0x46;
    /// How many functions of its own a scenario can broadcast.
    pub const CALLS: u8 = 4;
    /// A maskable device interrupt.
    pub const IRQ: u8 = 0x50;
}

/// Doorbell ports. A handler's first instruction is an OUT to the port with its vector's number, so that
/// every delivery ends in an exit at a known place on every backend.
pub mod port {
    /// Planted at the successor of an instruction after which single-stepping does not stop.
    pub const STOP: u8 = 0xf0;
    /// Rung by the SMI handler, in system-management mode: a real SMI got there.
    pub const SMM: u8 = 0xf2;
    /// Highest port in use; the TSS permission bitmap covers ports up to here.
    pub const LAST: u8 = 0xff;
}

/// Model-specific registers.
pub mod msr {
    /// IA32_MCG_STATUS: bit 2 (MCIP) says that a machine check is being handled; one more then shuts the CPU down.
    pub const MCG_STATUS: u32 = 0x17a;
}

/// GDT selectors. The data selector has DPL 3 at both rings: a return to ring 3 would null a DPL 0 one.
pub mod selector {
    /// 64-bit code, DPL 0.
    pub const KERNEL_CODE: u16 = 0x08;
    /// Data, DPL 0, for SS at ring 0.
    pub const KERNEL_STACK: u16 = 0x10;
    /// Data, DPL 3, for DS/ES at both rings and SS at ring 3.
    pub const USER_DATA: u16 = 0x18 | 3;
    /// 64-bit code, DPL 3.
    pub const USER_CODE: u16 = 0x20 | 3;
    /// 64-bit TSS, 16 bytes.
    pub const TSS: u16 = 0x28;
}

const _: () = {
    assert!(private::TASK_STACK + private::STACK == private::KERNEL_STACK);
    assert!(private::KERNEL_STACK + private::STACK == private::NMI_STACK);
    assert!(private::NMI_STACK + private::STACK == private::STATE_END);
    assert!(private::WORD + 4 * private::WORDS <= private::TASK_STACK);
    // The CPU aligns an interrupt frame down to 16 bytes (SDM vol. 3, 6.14.2): aligned tops keep frames
    // of a vCPU at the same place whatever was interrupted.
    assert!(private::TASK_STACK.is_multiple_of(16) && private::STACK.is_multiple_of(16));
    assert!(private::STATE_END < private::DF_STACK_TOP - private::STACK);
    assert!(private::DB_STACK_TOP < PAGE);
    assert!(shared::STATE_END.is_multiple_of(8) && shared::STATE_END <= PAGE);
    assert!(shared::DESCRIPTOR_END <= shared::ARRIVED);
    // One bit for each word in masks.
    assert!(shared::STATE_END <= 4 * 32);
    assert!(va::IDT + PAGE < va::SITE);
};
