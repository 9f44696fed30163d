//! Page tables, GDT, TSS and IDT of the guest. Built once, before the first run, because hosts that shadow page tables
//! would not see a later change. Only the gates of the IDT change between scenarios.

use crossmod_abi::{PAGE, port, private, selector, va, vector};

use super::error::Result;
use super::layout::{self, CpuPages};
use super::memory::Memory;

/// Present, writable, user, accessed. Some hosts set accessed bits: preset, they never change.
const TABLE: u64 = 0x27;
/// The same for a page, with the dirty bit.
const LEAF: u64 = 0x67;

/// Offset of the TSS in the table page.
const TSS: u64 = 0x100;
/// Length of the fixed part of a 64-bit TSS (SDM vol. 3, 8.7).
const TSS_FIXED: u64 = 104;
/// Fixed part, I/O permission bitmap for the ports in use, and the closing byte of ones.
const TSS_LIMIT: u64 = TSS_FIXED + port::LAST as u64 / 8 + 1;

/// Interrupt-stack-table entries.
const IST_NMI: u8 = 1;
const IST_DF: u8 = 2;
const IST_DB: u8 = 3;
/// Only where [`trap_stack`] is used.
pub(super) const IST_TRAP: u8 = 4;
/// Offset of the first of them in the TSS.
const IST: u64 = 36;

/// Present, callable from ring 3; interrupts go off.
const INTERRUPT_GATE: u8 = 0xee;
/// The same, but interrupts stay as they are.
const TRAP_GATE: u8 = 0xef;
/// Vectors that have a gate, each with its plain handler in the image.
pub(super) const HANDLERS: [(u8, &str); 16] = [
    (vector::DE, "de_stub"),
    (vector::DB, "db_stub"),
    (vector::UD, "ud_stub"),
    (vector::DF, "df_stub"),
    (vector::GP, "gp_stub"),
    (vector::PF, "pf_stub"),
    (vector::IPI_SYNC, "ipi_sync"),
    (vector::IPI_ACK_FIRST, "ipi_ack_first"),
    (vector::IPI_ACK_ONLY, "ipi_ack_only"),
    (vector::IPI_HOLD, "ipi_hold"),
    (vector::IPI_STOP, "ipi_stop"),
    (vector::IPI_EARLY, "ipi_early"),
    (vector::NMI, "nmi_plain"),
    (vector::IRQ, "irq_plain"),
    (vector::BP, "bp_plain"),
    (vector::MC, "mc_plain"),
];

fn index(address: u64, level: u32) -> u64 {
    (address >> (12 + 9 * level)) & 0x1ff
}

/// Writes the page tables of one vCPU, and the shared ones.
pub(super) fn page_tables(memory: &Memory, cpu: CpuPages) -> Result<()> {
    let entry = |table: u64, slot: u64, value: u64| memory.write_u64(table + 8 * slot, value);
    for slot in 0..512 {
        entry(layout::LOW_TABLE, slot, (slot * PAGE) | LEAF)?;
        entry(layout::LANDING_TABLE, slot, layout::LANDING | LEAF)?;
        entry(layout::LANDING_DIRECTORY, slot, layout::LANDING_TABLE | TABLE)?;
        entry(cpu.site_directory, slot, layout::LANDING_TABLE | TABLE)?;
        entry(cpu.site_table, slot, layout::LANDING | LEAF)?;
    }
    entry(cpu.pml4, 0, cpu.pdpt | TABLE)?;
    entry(cpu.pdpt, 0, cpu.low_directory | TABLE)?;
    entry(cpu.low_directory, index(va::IMAGE, 1), layout::LOW_TABLE | TABLE)?;
    entry(cpu.low_directory, index(va::PRIVATE, 1), cpu.data_table | TABLE)?;
    for (virt, phys) in [
        (va::PRIVATE, cpu.private),
        (va::SHARED, layout::SHARED),
        (va::MASTER, layout::MASTER),
        (va::MASTER + PAGE, layout::MASTER + PAGE),
        (va::TABLES, layout::TABLES),
        (va::IDT, layout::IDT),
    ] {
        entry(cpu.data_table, index(virt, 0), phys | LEAF)?;
    }
    // rel32 reaches 2 GiB either way: three GiB below and two above are landing window.
    let site_gib = index(va::SITE, 2);
    for gib in site_gib - 2..=site_gib + 2 {
        entry(cpu.pdpt, gib, layout::LANDING_DIRECTORY | TABLE)?;
    }
    entry(cpu.pdpt, site_gib, cpu.site_directory | TABLE)?;
    entry(cpu.site_directory, index(va::SITE, 1), cpu.site_table | TABLE)?;
    for page in 0..2 {
        entry(cpu.site_table, index(va::SITE, 0) + page, (cpu.view + page * PAGE) | LEAF)?;
    }
    Ok(())
}

/// Lets a vCPU fetch from the master copy of the site pages instead of its own view, as at full speed.
pub(super) fn one_text(memory: &Memory, cpu: CpuPages) -> Result<()> {
    for page in 0..2 {
        let slot = index(va::SITE, 0) + page;
        memory.write_u64(cpu.site_table + 8 * slot, (layout::MASTER + page * PAGE) | LEAF)?;
    }
    Ok(())
}

/// Maps another page in the 2 MiB of private, shared and system pages.
pub(super) fn map(memory: &Memory, cpu: CpuPages, virt: u64, phys: u64) -> Result<()> {
    memory.write_u64(cpu.data_table + 8 * index(virt, 0), phys | LEAF)
}

/// Writes GDT and TSS.
pub(super) fn descriptors(memory: &Memory) -> Result<()> {
    let code = |dpl: u64| 0x00af_9b00_0000_ffff | dpl << 45;
    let data = |dpl: u64| 0x00cf_9300_0000_ffff | dpl << 45;
    let tss = va::TABLES + TSS;
    let tss_low = (TSS_LIMIT & 0xffff) | (tss & 0xff_ffff) << 16 | 0x8b << 40 | (tss >> 24 & 0xff) << 56;
    for (selector, value) in [
        (selector::KERNEL_CODE, code(0)),
        (selector::KERNEL_STACK, data(0)),
        (selector::USER_DATA, data(3)),
        (selector::USER_CODE, code(3)),
        (selector::TSS, tss_low),
        (selector::TSS + 8, tss >> 32),
    ] {
        memory.write_u64(layout::TABLES + u64::from(selector & !7), value)?;
    }
    let base = layout::TABLES + TSS;
    let stack = |offset: u64| va::PRIVATE + offset;
    memory.write_u64(base + 4, stack(private::KERNEL_STACK + private::STACK))?;
    for (ist, top) in [
        (IST_NMI, private::NMI_STACK + private::STACK),
        (IST_DF, private::DF_STACK_TOP),
        (IST_DB, private::DB_STACK_TOP),
    ] {
        memory.write_u64(base + IST + 8 * (u64::from(ist) - 1), stack(top))?;
    }
    memory.write(base + 102, &(TSS_FIXED as u16).to_le_bytes())?;
    memory.write(base + TSS_LIMIT, &[0xff])
}

/// Writes an interrupt gate, callable from ring 3. Vectors without a handler have no gate, so that their use faults.
pub(super) fn gate(memory: &Memory, number: u8, handler: u64) -> Result<()> {
    let ist = match number {
        vector::NMI => IST_NMI,
        vector::DF => IST_DF,
        vector::DB => IST_DB,
        _ => 0,
    };
    gate_on(memory, number, handler, ist)
}

/// Sets the top of the stack of [`IST_TRAP`], as an offset in the private page.
pub(super) fn trap_stack(memory: &Memory, top: u64) -> Result<()> {
    memory.write_u64(layout::TABLES + TSS + IST + 8 * (u64::from(IST_TRAP) - 1), va::PRIVATE + top)
}

/// Makes a gate a trap gate: interrupts stay as they are (SDM vol. 3, 6.12.1.3).
pub(super) fn leave_interrupts(memory: &Memory, vector: u8) -> Result<()> {
    memory.write(layout::IDT + 16 * u64::from(vector) + 5, &[TRAP_GATE])
}

/// The same with a choice of the stack.
pub(super) fn gate_on(memory: &Memory, vector: u8, handler: u64, ist: u8) -> Result<()> {
    let low = (handler & 0xffff)
        | u64::from(selector::KERNEL_CODE) << 16
        | u64::from(ist) << 32
        | u64::from(INTERRUPT_GATE) << 40
        | (handler >> 16 & 0xffff) << 48;
    let address = layout::IDT + 16 * u64::from(vector);
    memory.write_u64(address, low)?;
    memory.write_u64(address + 8, handler >> 32)
}

/// Base and limit of the TSS, for TR.
pub(super) fn tss() -> (u64, u32) {
    (va::TABLES + TSS, TSS_LIMIT as u32)
}
