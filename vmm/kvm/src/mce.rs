//! Machine checks, injected as a VMM reports a memory error to a guest: it fills a bank, and KVM raises #MC. There is no
//! wrapper for these three ioctls.

use crossmod_abi::msr;
use kvm_bindings::{KVMIO, Msrs, kvm_msr_entry, kvm_x86_mce};
use kvm_ioctls::{Cap, Kvm, VcpuFd};
use vmm_sys_util::ioctl::{ioctl_with_mut_ref, ioctl_with_ref};
use vmm_sys_util::{ioctl_ior_nr, ioctl_iow_nr};

use super::error::{MachineError, Result};

ioctl_iow_nr!(KVM_X86_SETUP_MCE, KVMIO, 0x9c, u64);
ioctl_ior_nr!(KVM_X86_GET_MCE_CAP_SUPPORTED, KVMIO, 0x9d, u64);
ioctl_iow_nr!(KVM_X86_SET_MCE, KVMIO, 0x9e, kvm_x86_mce);

/// IA32_MCi_STATUS: valid, uncorrected, enabled, processor context not corrupt (SDM vol. 3, 15.3.2.2).
const STATUS: u64 = 1 << 63 | 1 << 61 | 1 << 60;
/// IA32_MCG_STATUS: the program can be restarted at the saved RIP; a machine check is in progress.
const RESTARTABLE_IN_PROGRESS: u64 = 1 | 1 << 2;

/// The value of a vCPU's IA32_MCG_CAP: one bank, and what KVM supports. `None` if KVM has no machine checks.
pub(super) fn supported(kvm: &Kvm) -> Option<u64> {
    if !kvm.check_extension(Cap::Mce) {
        return None;
    }
    let mut cap = 0u64;
    // SAFETY: the kernel writes one u64, for which `cap` has room.
    let result = unsafe { ioctl_with_mut_ref(kvm, KVM_X86_GET_MCE_CAP_SUPPORTED(), &mut cap) };
    (result == 0).then_some(cap & !0xff | 1)
}

/// Gives a vCPU its bank. Returns false if KVM refuses.
pub(super) fn set_up(vcpu: &VcpuFd, cap: u64) -> bool {
    // SAFETY: the kernel reads one u64.
    unsafe { ioctl_with_ref(vcpu, KVM_X86_SETUP_MCE(), &cap) == 0 }
}

/// Raises #MC. The vCPU must have its state already, because restoring events later would cancel it. Clears
/// IA32_MCG_STATUS first, because a machine check during another one shuts the CPU down.
pub(super) fn raise(vcpu: &VcpuFd) -> Result<()> {
    let clear = kvm_msr_entry { index: msr::MCG_STATUS, data: 0, ..kvm_msr_entry::default() };
    let clear =
        Msrs::from_entries(&[clear]).map_err(|_| MachineError::Unavailable("a list of one MSR".into()))?;
    match vcpu.set_msrs(&clear).map_err(MachineError::kvm("KVM_SET_MSRS"))? {
        1 => {}
        _ => return Err(MachineError::Unavailable("IA32_MCG_STATUS".into())),
    }
    let check = kvm_x86_mce { status: STATUS, mcg_status: RESTARTABLE_IN_PROGRESS, ..kvm_x86_mce::default() };
    // SAFETY: the kernel reads one kvm_x86_mce.
    if unsafe { ioctl_with_ref(vcpu, KVM_X86_SET_MCE(), &check) } == 0 {
        Ok(())
    } else {
        Err(MachineError::Kvm { what: "KVM_X86_SET_MCE", source: kvm_ioctls::Error::last() })
    }
}
