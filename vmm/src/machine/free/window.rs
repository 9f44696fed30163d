//! Words of a running machine's memory, as the host sees them.

use super::super::layout::{self, CpuPages};

/// A view of a guest's memory, which outlives the machine's run.
#[derive(Debug, Clone, Copy)]
pub(super) struct Window {
    base: u64,
}

impl Window {
    /// `base` is the host address of the machine's memory.
    pub fn new(base: u64) -> Window {
        Window { base }
    }

    fn read(self, address: u64) -> u64 {
        // SAFETY: an aligned word of the guest memory, which outlives the machine's run; volatile, no reference.
        unsafe { std::ptr::read_volatile((self.base + address) as *const u64) }
    }

    fn write(self, address: u64, value: u64) {
        // SAFETY: as for `read`.
        unsafe { std::ptr::write_volatile((self.base + address) as *mut u64, value) }
    }

    /// Stores a word of the shared page.
    pub fn set_shared(self, offset: u64, value: u64) {
        self.write(layout::SHARED + offset, value);
    }

    /// A word of a vCPU's private page.
    pub fn own(self, cpu: usize, offset: u64) -> u64 {
        self.read(CpuPages::of(cpu).private() + offset)
    }

    /// Stores a word of a vCPU's private page.
    pub fn set_own(self, cpu: usize, offset: u64, value: u64) {
        self.write(CpuPages::of(cpu).private() + offset, value);
    }

    /// Host address of a byte of the site pages.
    pub fn text(self, at: usize) -> u64 {
        self.base + layout::MASTER + at as u64
    }
}
