//! The start of every machine: a VM whose memory holds the image, page tables and descriptors.

use kvm_bindings::{CpuId, KVM_MAX_CPUID_ENTRIES, kvm_userspace_memory_region};
use kvm_ioctls::{Cap, Kvm, VmFd};

use super::layout::{self, CpuPages};
use super::memory::Memory;
use super::{MachineError, Result, image, mce, tables};

/// Upper half of the number of a memory slot in the address space of system-management mode.
const SMM_ADDRESS_SPACE: u32 = 1;

/// The interrupt controller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Controller {
    /// None: all events are injected.
    None,
    /// In KVM: IPIs and NMIs are sent as messages.
    InKernel,
}

/// A VM without vCPUs. Drop the fields in this order.
pub(super) struct Vm {
    pub fd: VmFd,
    pub memory: Memory,
    /// CPUID of the vCPUs.
    pub cpuid: CpuId,
    /// The result of [`mce::supported`].
    pub mcg_cap: Option<u64>,
}

impl Vm {
    /// Makes a VM with tables for `cpus` vCPUs.
    pub fn new(cpus: usize, controller: Controller) -> Result<Vm> {
        let kvm = open()?;
        let messages = [(Cap::Irqchip, "KVM_CAP_IRQCHIP"), (Cap::SignalMsi, "KVM_CAP_SIGNAL_MSI")];
        if controller == Controller::InKernel
            && let Some(name) = lacks(&kvm, messages)
        {
            return Err(MachineError::NotHere(format!("KVM on this host lacks {name}")));
        }
        let fd = create_vm(&kvm)?;
        let memory = Memory::new()?;
        set_memory(&kvm, &fd, &memory)?;
        if controller == Controller::InKernel {
            // After the memory: setting that takes many times as long once the chip exists.
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

/// Retries after a signal that stops and continues the process.
fn create_vm(kvm: &Kvm) -> Result<VmFd> {
    loop {
        match kvm.create_vm() {
            Err(error) if error.errno() == libc::EINTR => {}
            result => return result.map_err(MachineError::kvm("KVM_CREATE_VM")),
        }
    }
}

fn set_memory(kvm: &Kvm, fd: &VmFd, memory: &Memory) -> Result<()> {
    let region = kvm_userspace_memory_region {
        slot: 0,
        flags: 0,
        guest_phys_addr: 0,
        memory_size: layout::MEMORY as u64,
        userspace_addr: memory.host_address()?,
    };
    // SAFETY: the region is a whole mapping, which lives as long as the VM (see the order of the fields).
    unsafe { fd.set_user_memory_region(region) }.map_err(MachineError::kvm("KVM_SET_USER_MEMORY_REGION"))?;
    if kvm.check_extension(Cap::X86Smm) {
        // A vCPU in SMM sees the slots of an address space of its own.
        let smram = kvm_userspace_memory_region { slot: SMM_ADDRESS_SPACE << 16, ..region };
        // SAFETY: the same mapping.
        unsafe { fd.set_user_memory_region(smram) }
            .map_err(MachineError::kvm("KVM_SET_USER_MEMORY_REGION for SMM"))?;
    }
    Ok(())
}

/// Opens `/dev/kvm`, and checks what every machine needs of it.
pub(super) fn open() -> Result<Kvm> {
    let kvm = Kvm::new().map_err(|error| MachineError::NoKvm {
        reason: match error.errno() {
            libc::ENOENT => {
                "it does not exist (no KVM module is loaded, or this machine has no virtualisation)".into()
            }
            libc::EACCES | libc::EPERM => {
                "permission denied (run as root, or join the group that owns it)".into()
            }
            libc::ENODEV | libc::ENXIO => "the device has no driver behind it".into(),
            _ => error.to_string(),
        },
    })?;
    let version = kvm.get_api_version();
    match version {
        12 => {}
        ..0 => return Err(MachineError::NoKvm { reason: "it is not KVM".into() }),
        _ => {
            return Err(MachineError::NoKvm {
                reason: format!("its API version is {version}, but 12 is needed"),
            });
        }
    }
    let needed = [(Cap::UserMemory, "KVM_CAP_USER_MEMORY"), (Cap::SyncRegs, "KVM_CAP_SYNC_REGS")];
    if let Some(name) = lacks(&kvm, needed) {
        return Err(MachineError::Unavailable(name.into()));
    }
    if kvm.check_extension_int(Cap::SyncRegs) & 7 != 7 {
        let what = "KVM_CAP_SYNC_REGS for registers, segments and events";
        return Err(MachineError::Unavailable(what.into()));
    }
    Ok(kvm)
}

/// The first of these capabilities that KVM lacks.
fn lacks(kvm: &Kvm, needed: [(Cap, &'static str); 2]) -> Option<&'static str> {
    needed.into_iter().find(|&(cap, _)| !kvm.check_extension(cap)).map(|(_, name)| name)
}
