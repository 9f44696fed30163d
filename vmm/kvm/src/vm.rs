//! What every machine begins as: a VM whose memory is set, with the image, page tables and descriptors in it.

use kvm_bindings::{CpuId, KVM_MAX_CPUID_ENTRIES, kvm_userspace_memory_region};
use kvm_ioctls::{Cap, Kvm, VmFd};

use super::layout::{self, CpuPages};
use super::memory::Memory;
use super::{MachineError, image, mce, open, tables};

/// Upper half of the number of a memory slot that is seen in system-management mode.
const SMM_ADDRESS_SPACE: u32 = 1;

/// Who routes interrupts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Controller {
    /// Nobody: events are injected.
    None,
    /// KVM: IPIs and NMIs by message.
    InKernel,
}

/// A VM without vCPUs. The order of the fields is the order to drop them in.
pub(super) struct Vm {
    pub fd: VmFd,
    pub memory: Memory,
    /// What vCPUs are told of the CPU.
    pub cpuid: CpuId,
    /// What [`mce::supported`] says.
    pub mcg_cap: Option<u64>,
}

impl Vm {
    /// A VM with tables for so many vCPUs.
    pub fn new(cpus: usize, controller: Controller) -> Result<Vm, MachineError> {
        let kvm = open()?;
        if controller == Controller::InKernel {
            for (cap, name) in [(Cap::Irqchip, "KVM_CAP_IRQCHIP"), (Cap::SignalMsi, "KVM_CAP_SIGNAL_MSI")] {
                if !kvm.check_extension(cap) {
                    return Err(MachineError::NotHere(format!("KVM on this host lacks {name}")));
                }
            }
        }
        let fd = create_vm(&kvm)?;
        let memory = Memory::new()?;
        set_memory(&kvm, &fd, &memory)?;
        if controller == Controller::InKernel {
            // After the memory, which takes many times as long with the chip there.
            fd.create_irq_chip().map_err(MachineError::kvm("KVM_CREATE_IRQCHIP"))?;
        }
        image::load(&memory)?;
        for index in 0..cpus {
            tables::page_tables(&memory, CpuPages::of(index))?;
        }
        tables::descriptors(&memory)?;
        let cpuid = kvm
            .get_supported_cpuid(KVM_MAX_CPUID_ENTRIES)
            .map_err(MachineError::kvm("KVM_GET_SUPPORTED_CPUID"))?;
        Ok(Vm { fd, memory, cpuid, mcg_cap: mce::supported(&kvm) })
    }
}

/// A signal that stops and continues the process interrupts this, too.
fn create_vm(kvm: &Kvm) -> Result<VmFd, MachineError> {
    loop {
        match kvm.create_vm() {
            Err(error) if error.errno() == libc::EINTR => {}
            result => return result.map_err(MachineError::kvm("KVM_CREATE_VM")),
        }
    }
}

fn set_memory(kvm: &Kvm, fd: &VmFd, memory: &Memory) -> Result<(), MachineError> {
    let region = kvm_userspace_memory_region {
        slot: 0,
        flags: 0,
        guest_phys_addr: 0,
        memory_size: layout::MEMORY as u64,
        userspace_addr: memory.host_address()?,
    };
    // SAFETY: the region is the whole of a mapping that lives as long as the VM (see the field order).
    unsafe { fd.set_user_memory_region(region) }.map_err(MachineError::kvm("KVM_SET_USER_MEMORY_REGION"))?;
    if kvm.check_extension(Cap::X86Smm) {
        // A vCPU in SMM sees the slots of an address space of its own.
        let smram = kvm_userspace_memory_region { slot: SMM_ADDRESS_SPACE << 16, ..region };
        // SAFETY: as above.
        unsafe { fd.set_user_memory_region(smram) }
            .map_err(MachineError::kvm("KVM_SET_USER_MEMORY_REGION for SMM"))?;
    }
    Ok(())
}
