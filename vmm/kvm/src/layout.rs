//! Guest-physical addresses. Virtual ones are in `crossmod_abi::va`.
//!
//! ```text
//! 0x030000  SMRAM             0x100000  guest image (identity mapped)
//! 0x200000  landing page      0x201000  shared page     0x202000  site pages, master copy (2)
//! 0x204000  GDT, TSS          0x205000  IDT
//! 0x206000  page table of the image's 2 MiB             0x207000, 0x208000  landing directory and table
//! 0x210000  16 pages for each vCPU: page tables, private page, its view of the site pages
//! ```

use crossmod_abi::PAGE;
use crossmod_model::layout::MAX_CPUS;

/// Size of guest memory in bytes.
pub const MEMORY: usize = 0x40_0000;
/// The SMI handler: a CPU enters it at SMBASE + 0x8000, and SMBASE is 0x30000 after a reset (SDM vol. 3, 32.4).
pub const SMI_HANDLER: u64 = 0x3_8000;
/// First byte of the image.
pub const IMAGE: u64 = 0x10_0000;
/// One past the last byte the image may use.
pub const IMAGE_END: u64 = 0x20_0000;
/// The page mapped at every address that a branch out of the site may reach.
pub const LANDING: u64 = 0x20_0000;
/// The shared page.
pub const SHARED: u64 = 0x20_1000;
/// The master copy of the site pages.
pub const MASTER: u64 = 0x20_2000;
/// GDT and TSS.
pub const TABLES: u64 = 0x20_4000;
/// IDT.
pub const IDT: u64 = 0x20_5000;
/// Page table that identity-maps the first 2 MiB.
pub const LOW_TABLE: u64 = 0x20_6000;
/// Page directory whose entries all lead to [`LANDING_TABLE`].
pub const LANDING_DIRECTORY: u64 = 0x20_7000;
/// Page table whose entries all lead to [`LANDING`].
pub const LANDING_TABLE: u64 = 0x20_8000;

const CPU_BLOCK: u64 = 0x21_0000;
const CPU_STRIDE: u64 = 16 * PAGE;

/// Pages of one vCPU.
#[derive(Debug, Clone, Copy)]
pub struct CpuPages {
    /// Top-level page table: the vCPU's CR3.
    pub pml4: u64,
    /// Page-directory-pointer table.
    pub pdpt: u64,
    /// Page directory of the first GiB.
    pub low_directory: u64,
    /// Page table of the 2 MiB that hold private, shared and system pages.
    pub data_table: u64,
    /// Page directory of the GiB with the site.
    pub site_directory: u64,
    /// Page table of the 2 MiB with the site.
    pub site_table: u64,
    /// The private page.
    pub private: u64,
    /// This vCPU's view of the two site pages.
    pub view: u64,
}

impl CpuPages {
    /// The pages of vCPU `index`.
    pub fn of(index: usize) -> CpuPages {
        let [pml4, pdpt, low_directory, data_table, site_directory, site_table, private, view] =
            std::array::from_fn(|page| CPU_BLOCK + index as u64 * CPU_STRIDE + page as u64 * PAGE);
        CpuPages { pml4, pdpt, low_directory, data_table, site_directory, site_table, private, view }
    }
}

const _: () = assert!(CPU_BLOCK + MAX_CPUS as u64 * CPU_STRIDE <= MEMORY as u64);
const _: () = assert!(IMAGE == crossmod_abi::va::IMAGE);
