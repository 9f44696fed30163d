//! The yardstick: the least that restoring a state, single-stepping it and telling where it landed can cost
//! with KVM. No library, no memory besides what the CPU needs, no checks that a correct run does not need.

use std::os::raw::c_void;

use kvm_bindings::{
    KVM_GUESTDBG_ENABLE, KVM_GUESTDBG_SINGLESTEP, KVM_SYNC_X86_EVENTS, KVM_SYNC_X86_REGS, KVM_SYNC_X86_SREGS,
    kvm_guest_debug, kvm_regs, kvm_segment, kvm_sregs, kvm_userspace_memory_region, kvm_vcpu_events,
};
use kvm_ioctls::{Kvm, VcpuExit, VcpuFd, VmFd};

const SIZE: usize = 0x10000;
const CODE: u64 = 0x4000;
const STUB: u64 = 0x4100;
const STACK_TOP: u64 = 0x6000;
const GDT: u64 = 0x5000;
const TSS: u64 = 0x5100;
const IDT: u64 = 0x7000;

pub struct Bare {
    vcpu: VcpuFd,
    _vm: VmFd,
    memory: *mut u8,
    regs: kvm_regs,
    sregs: kvm_sregs,
    user: bool,
}

impl Bare {
    /// A guest whose one instruction `xor eax, eax` stands at `CODE`.
    pub fn new(user: bool) -> Bare {
        let kvm = Kvm::new().expect("kvm");
        let vm = kvm.create_vm().expect("vm");
        // SAFETY: an anonymous mapping of our own.
        let memory = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                SIZE,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_ANONYMOUS | libc::MAP_SHARED,
                -1,
                0,
            )
        };
        assert_ne!(memory, libc::MAP_FAILED);
        let memory = memory.cast::<u8>();
        let put = |address: u64, bytes: &[u8]| {
            // SAFETY: all addresses below are inside the mapping.
            unsafe {
                std::ptr::copy_nonoverlapping(bytes.as_ptr(), memory.add(address as usize), bytes.len())
            }
        };
        let word = |address: u64, value: u64| put(address, &value.to_le_bytes());
        word(0x1000, 0x2027);
        word(0x2000, 0x3027);
        word(0x3000, 0xe7); // 2 MiB, identity
        put(CODE, &[0x31, 0xc0, 0x90, 0x90]);
        put(STUB, &[0xe6, 1, 0xf4]);
        for (index, entry) in
            [0, 0x00af_9b00_0000_ffff, 0x00cf_9300_0000_ffff, 0x00cf_f300_0000_ffff, 0x00af_fb00_0000_ffff]
                .into_iter()
                .enumerate()
        {
            word(GDT + 8 * index as u64, entry);
        }
        word(GDT + 40, 0x67 | (TSS & 0xff_ffff) << 16 | 0x8b << 40);
        word(TSS + 4, STACK_TOP);
        word(IDT + 16, (STUB & 0xffff) | 8 << 16 | 0xee << 40);
        let region = kvm_userspace_memory_region {
            slot: 0,
            flags: 0,
            guest_phys_addr: 0,
            memory_size: SIZE as u64,
            userspace_addr: memory as u64,
        };
        // SAFETY: the mapping lives as long as the VM.
        unsafe { vm.set_user_memory_region(region) }.expect("memory");
        let mut vcpu = vm.create_vcpu(0).expect("vcpu");
        let cpuid = kvm.get_supported_cpuid(256).expect("cpuid");
        vcpu.set_cpuid2(&cpuid).expect("cpuid");
        let mut sregs = vcpu.get_sregs().expect("sregs");
        let segment = |selector: u16, code: bool| kvm_segment {
            limit: 0xffff_ffff,
            selector,
            type_: if code { 11 } else { 3 },
            present: 1,
            dpl: (selector & 3) as u8,
            db: u8::from(!code),
            s: 1,
            l: u8::from(code),
            g: 1,
            ..kvm_segment::default()
        };
        let data = segment(0x1b, false);
        (sregs.ds, sregs.es, sregs.fs, sregs.gs) = (data, data, data, data);
        (sregs.cs, sregs.ss) =
            if user { (segment(0x23, true), data) } else { (segment(8, true), segment(0x10, false)) };
        sregs.tr = kvm_segment {
            base: TSS,
            limit: 0x67,
            selector: 0x28,
            type_: 11,
            present: 1,
            ..kvm_segment::default()
        };
        (sregs.gdt.base, sregs.gdt.limit) = (GDT, 0x37);
        (sregs.idt.base, sregs.idt.limit) = (IDT, 0xfff);
        (sregs.cr0, sregs.cr3, sregs.cr4, sregs.efer) = (0x8005_0033, 0x1000, 0x620, 0x500);
        if !user {
            let control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP;
            vcpu.set_guest_debug(&kvm_guest_debug { control, ..kvm_guest_debug::default() }).expect("debug");
        }
        vcpu.get_kvm_run().kvm_valid_regs =
            u64::from(KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS | KVM_SYNC_X86_EVENTS);
        let regs =
            kvm_regs { rip: CODE, rflags: 0x3302, rsp: STACK_TOP - 0x100, rax: 7, ..kvm_regs::default() };
        Bare { vcpu, _vm: vm, memory, regs, sregs, user }
    }

    /// Restores everything, steps once, and returns RIP and RAX.
    pub fn step(&mut self) -> (u64, u64) {
        let page = self.vcpu.sync_regs_mut();
        page.regs = self.regs;
        page.sregs = self.sregs;
        page.events = kvm_vcpu_events::default();
        self.vcpu.get_kvm_run().kvm_dirty_regs =
            u64::from(KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS | KVM_SYNC_X86_EVENTS);
        match self.vcpu.run().expect("run") {
            VcpuExit::Debug(_) if !self.user => {}
            VcpuExit::IoOut(1, _) if self.user => {
                let mut rip = [0; 8];
                // SAFETY: the frame that the CPU just pushed, inside the mapping.
                unsafe {
                    std::ptr::copy_nonoverlapping(
                        self.memory.add(STACK_TOP as usize - 40),
                        rip.as_mut_ptr(),
                        rip.len(),
                    );
                }
                return (u64::from_le_bytes(rip), self.vcpu.sync_regs().regs.rax);
            }
            other => panic!("{other:?}"),
        }
        let regs = self.vcpu.sync_regs().regs;
        (regs.rip, regs.rax)
    }

    /// Where the step leads.
    pub const NEXT: u64 = CODE + 2;
}

impl Drop for Bare {
    fn drop(&mut self) {
        // SAFETY: our own mapping; KVM keeps its own reference to the pages until the VM is gone.
        unsafe { libc::munmap(self.memory.cast::<c_void>(), SIZE) };
    }
}
