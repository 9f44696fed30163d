//! Access of the host to words of a running machine's memory.

use std::sync::atomic::{Ordering, compiler_fence};

use crossmod_abi::PAGE;

use crate::layout::{self, CpuPages};

/// A guest's memory. Values of this type do not outlive the machine's run.
#[derive(Debug, Clone, Copy)]
pub(super) struct GuestWords {
    /// Host address of the machine's memory, which outlives the value.
    pub base: u64,
}

impl GuestWords {
    fn read(self, address: u64) -> u64 {
        // SAFETY: an aligned word of the guest memory, which outlives this value; volatile, no reference.
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
        self.read(CpuPages::of(cpu).private + offset)
    }

    /// Stores a word of a vCPU's private page.
    pub fn set_own(self, cpu: usize, offset: u64, value: u64) {
        self.write(CpuPages::of(cpu).private + offset, value);
    }

    /// Host address of `len` bytes of the site pages.
    fn text(self, at: usize, len: usize) -> u64 {
        assert!(at + len <= 2 * PAGE as usize, "a store outside the site pages");
        self.base + layout::MASTER + at as u64
    }

    /// A byte of the site pages.
    pub fn text_byte(self, at: usize) -> u8 {
        // SAFETY: inside the guest memory, as for `read`; volatile, no reference.
        unsafe { std::ptr::read_volatile(self.text(at, 1) as *const u8) }
    }

    /// Stores 1, 2, 4, 8 or 16 bytes to the site pages in one instruction.
    pub fn store(self, at: usize, bytes: &[u8]) {
        let target = self.text(at, bytes.len());
        let mut word = [0; 16];
        word[..bytes.len()].copy_from_slice(bytes);
        let low = u128::from_le_bytes(word) as u64;
        compiler_fence(Ordering::SeqCst);
        // SAFETY: inside the site pages, which only guests use besides; no reference to them exists, and x86 permits
        // unaligned accesses.
        unsafe {
            match bytes.len() {
                1 => core::arch::asm!("mov [{}], {}", in(reg) target, in(reg_byte) low as u8),
                2 => core::arch::asm!("mov [{}], {:x}", in(reg) target, in(reg) low as u16),
                4 => core::arch::asm!("mov [{}], {:e}", in(reg) target, in(reg) low as u32),
                8 => core::arch::asm!("mov [{}], {}", in(reg) target, in(reg) low),
                16 => {
                    let value = core::arch::x86_64::_mm_loadu_si128(word.as_ptr().cast());
                    core::arch::asm!("movups [{}], {}", in(reg) target, in(xmm_reg) value);
                }
                length => unreachable!("no instruction stores {length} bytes"),
            }
        }
        compiler_fence(Ordering::SeqCst);
    }
}
