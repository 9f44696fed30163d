//! One KVM vCPU: state in through the sync-regs page, KVM_RUN, an owned exit out.

use crossmod_abi::{selector, va};
use crossmod_model::step::Stimulus;
use crossmod_model::x86::cpu::{HIDDEN_FLAGS, Regs};
use kvm_bindings::{
    CpuId, KVM_GUESTDBG_ENABLE, KVM_GUESTDBG_SINGLESTEP, KVM_MP_STATE_RUNNABLE, KVM_RUN_X86_SMM,
    KVM_SYNC_X86_EVENTS, KVM_SYNC_X86_REGS, KVM_SYNC_X86_SREGS, KVM_VCPUEVENT_VALID_NMI_PENDING,
    KVM_VCPUEVENT_VALID_SHADOW, kvm_guest_debug, kvm_mp_state, kvm_regs, kvm_segment, kvm_sregs,
    kvm_sync_regs, kvm_vcpu_events,
};
use kvm_ioctls::{VcpuExit, VcpuFd, VmFd};

use super::error::{MachineError, Result};
use super::kick::{Guard, stop_requested};
use super::{mce, tables};

/// RFLAGS.TF.
pub(super) const TF: u64 = 1 << 8;
/// RFLAGS.IOPL = 3: ring 3 may ring doorbells.
pub(super) const IOPL: u64 = 3 << 12;
const SYNC: u32 = KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS | KVM_SYNC_X86_EVENTS;

/// Why KVM_RUN returned. Only the first three belong to a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Exit {
    /// OUT to a doorbell port.
    Doorbell(u8),
    /// Single step or breakpoint.
    Debug,
    /// HLT.
    Halt,
    /// KVM could not emulate the instruction at RIP. Suberror and data, for messages.
    Internal(String),
    /// Any other exit, by name.
    Other(String),
}

pub(super) struct Vcpu {
    fd: VcpuFd,
    sregs: kvm_sregs,
    single_step: bool,
    unfinished: Unfinished,
    /// A single step passed over a HLT: see [`owes_halt`](Vcpu::owes_halt).
    halt_owed: bool,
    /// The vCPU has a bank for machine checks.
    machine_checks: bool,
}

/// What KVM has still to do for the instruction that caused the last exit. KVM does it at the start of the next
/// KVM_RUN, after it took the restored state, which would then be the wrong one: it must happen before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unfinished {
    Nothing,
    /// Step over an OUT, if RIP is still (or again) here.
    Out(u64),
    /// Write back the result of an IN or of an access to memory that is not there.
    Data,
}

impl Vcpu {
    /// A vCPU in 64-bit mode: long mode, paging, NX off, write protection on, our tables loaded.
    /// `mcg_cap` is the result of [`mce::supported`].
    pub(super) fn new(vm: &VmFd, index: usize, cpuid: &CpuId, mcg_cap: Option<u64>) -> Result<Vcpu> {
        let mut fd = vm.create_vcpu(index as u64).map_err(MachineError::kvm("KVM_CREATE_VCPU"))?;
        fd.set_cpuid2(cpuid).map_err(MachineError::kvm("KVM_SET_CPUID2"))?;
        let machine_checks = mcg_cap.is_some_and(|cap| mce::set_up(&fd, cap));
        let mut sregs = fd.get_sregs().map_err(MachineError::kvm("KVM_GET_SREGS"))?;
        let data = segment(selector::USER_DATA);
        (sregs.ds, sregs.es, sregs.fs, sregs.gs) = (data, data, data, data);
        (sregs.cs, sregs.ss) = (segment(selector::KERNEL_CODE), segment(selector::KERNEL_STACK));
        let (base, limit) = tables::tss();
        sregs.tr = kvm_segment {
            base,
            limit,
            selector: selector::TSS,
            type_: 11,
            present: 1,
            ..kvm_segment::default()
        };
        (sregs.gdt.base, sregs.gdt.limit) = (va::TABLES, selector::TSS + 15);
        (sregs.idt.base, sregs.idt.limit) = (va::IDT, 0xfff);
        sregs.cr0 = 0x8005_0033; // PG AM WP NE ET MP PE
        // Without MCE a machine check would shut the CPU down.
        sregs.cr4 = if machine_checks { 0x660 } else { 0x620 }; // OSXMMEXCPT OSFXSR MCE PAE
        sregs.efer = 0x500; // LMA LME
        sregs.cr2 = 0;
        fd.get_kvm_run().kvm_valid_regs = u64::from(SYNC);
        Ok(Vcpu {
            fd,
            sregs,
            single_step: false,
            unfinished: Unfinished::Nothing,
            halt_owed: false,
            machine_checks,
        })
    }

    /// With an interrupt controller in the kernel: enables the local APIC and makes the vCPU runnable. Sets the APIC even
    /// if nothing changes, because KVM routes no message to an APIC that was never set.
    pub(super) fn accept_messages(&mut self) -> Result<()> {
        // The spurious-interrupt vector register; bit 8 enables the APIC (SDM vol. 3, 11.9).
        const SVR: usize = 0xf0;
        let mut lapic = self.fd.get_lapic().map_err(MachineError::kvm("KVM_GET_LAPIC"))?;
        (lapic.regs[SVR], lapic.regs[SVR + 1]) = (0xff_u8 as _, 1);
        self.fd.set_lapic(&lapic).map_err(MachineError::kvm("KVM_SET_LAPIC"))?;
        let runnable = kvm_mp_state { mp_state: KVM_MP_STATE_RUNNABLE };
        self.fd.set_mp_state(runnable).map_err(MachineError::kvm("KVM_SET_MP_STATE"))
    }

    /// Turns KVM's own single-stepping on or off. Needs an ioctl only if that is a change.
    pub(super) fn set_single_step(&mut self, on: bool) -> Result<()> {
        if on != self.single_step {
            let control = if on { KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP } else { 0 };
            self.fd
                .set_guest_debug(&kvm_guest_debug { control, ..kvm_guest_debug::default() })
                .map_err(MachineError::kvm("KVM_SET_GUEST_DEBUG"))?;
            self.single_step = on;
        }
        Ok(())
    }

    /// Writes a complete state to the sync-regs page, from which KVM takes it at the next run, which delivers the event of
    /// `stimulus` before the first instruction.
    pub(super) fn restore(&mut self, cr3: u64, regs: &Regs, stimulus: Option<Stimulus>) -> Result<()> {
        match std::mem::replace(&mut self.unfinished, Unfinished::Nothing) {
            Unfinished::Out(at) if at == regs.rip => self.settle()?,
            Unfinished::Data => self.settle()?,
            Unfinished::Out(_) | Unfinished::Nothing => {}
        }
        let trap_flag = matches!(stimulus, Some(Stimulus::Instruction | Stimulus::Breakpoint));
        self.set_registers(cr3, regs, trap_flag);
        self.fd.sync_regs_mut().events = events(regs, stimulus);
        self.fd.get_kvm_run().kvm_dirty_regs = u64::from(SYNC);
        match stimulus {
            Some(Stimulus::Smi) => self.fd.smi().map_err(MachineError::kvm("KVM_SMI")),
            Some(Stimulus::MachineCheck) if self.machine_checks => {
                // KVM must take the state now: later that would cancel the machine check.
                self.settle()?;
                mce::raise(&self.fd)
            }
            Some(Stimulus::MachineCheck) => {
                Err(MachineError::Unavailable("machine checks for a vCPU".into()))
            }
            _ => Ok(()),
        }
    }

    /// Continues from other registers after a doorbell. Unlike [`restore`](Self::restore), this does not change events:
    /// what is pending in the interrupt controller stays pending, and NMIs stay blocked if they are.
    pub(super) fn resume(&mut self, cr3: u64, regs: &Regs) -> Result<()> {
        if std::mem::replace(&mut self.unfinished, Unfinished::Nothing) == Unfinished::Data {
            self.settle()?;
        }
        self.set_registers(cr3, regs, false);
        self.fd.get_kvm_run().kvm_dirty_regs = u64::from(KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS);
        Ok(())
    }

    /// True if an NMI was pending at the last exit.
    pub(super) fn nmi_pending(&self) -> bool {
        self.fd.sync_regs().events.nmi.pending != 0
    }

    fn set_registers(&mut self, cr3: u64, regs: &Regs, trap_flag: bool) {
        self.sregs.cr3 = cr3;
        self.sregs.cr2 = regs.cr2;
        if self.sregs.cs.selector != regs.cs {
            self.sregs.cs = segment(regs.cs);
        }
        if self.sregs.ss.selector != regs.ss {
            self.sregs.ss = segment(regs.ss);
        }
        let page = self.fd.sync_regs_mut();
        page.regs = to_kvm(regs, trap_flag);
        page.sregs = self.sregs;
    }

    /// Writes the local APIC back unchanged: KVM made its map of APIC IDs, which routes messages, before this vCPU
    /// existed.
    pub(super) fn announce(&self) -> Result<()> {
        let apic = self.fd.get_lapic().map_err(MachineError::kvm("KVM_GET_LAPIC"))?;
        self.fd.set_lapic(&apic).map_err(MachineError::kvm("KVM_SET_LAPIC"))
    }

    /// Notes that the OUT at this address ended the last run, with RIP still at it. If the next run starts at the same
    /// address, KVM skips the instruction there, whatever it is by then.
    pub(super) fn owes_completion_at(&mut self, rip: u64) {
        self.unfinished = Unfinished::Out(rip);
    }

    /// Notes that a single step passed over a HLT. kvm-pvm emulates HLT and remembers to halt until it emulates a later
    /// instruction without a single step, from any state. The step of that instruction then ends in an exit, and no
    /// ioctl prevents it.
    pub(super) fn owes_halt(&mut self) {
        self.halt_owed = true;
    }

    /// Notes an exit of a HLT. Returns true if an earlier HLT caused it. KVM remembers one at most.
    pub(super) fn pays_halt(&mut self) -> bool {
        std::mem::take(&mut self.halt_owed)
    }

    /// Lets KVM only take the state from the page and finish the instruction of the last exit (KVM_RUN with
    /// `immediate_exit`).
    pub(super) fn settle(&mut self) -> Result<()> {
        self.fd.set_kvm_immediate_exit(1);
        let result = self.fd.run().map(|_| ());
        self.fd.set_kvm_immediate_exit(0);
        match result {
            Err(error) if error.errno() != libc::EINTR => {
                Err(MachineError::Kvm { what: "KVM_RUN to finish an instruction", source: error })
            }
            _ => Ok(()),
        }
    }

    /// Injects an exception at `rip`, in the state of the last exit.
    pub(super) fn inject_at(&mut self, rip: u64, vector: u8) {
        let page = self.fd.sync_regs_mut();
        page.regs.rip = rip;
        page.events.exception = Default::default();
        page.events.exception.injected = 1;
        page.events.exception.nr = vector;
        self.fd.get_kvm_run().kvm_dirty_regs = u64::from(KVM_SYNC_X86_REGS | KVM_SYNC_X86_EVENTS);
    }

    /// KVM_RUN, again after signals meant for others. `from` is for messages.
    pub(super) fn run(&mut self, guard: &Guard, from: u64) -> Result<Exit> {
        loop {
            let run = guard.enter();
            let result = self.fd.run();
            guard.leave();
            return match result {
                Ok(VcpuExit::IoOut(port, _)) if port <= 0xff => Ok(Exit::Doorbell(port as u8)),
                Ok(VcpuExit::Debug(_)) => Ok(Exit::Debug),
                Ok(VcpuExit::Hlt) => Ok(Exit::Halt),
                Ok(VcpuExit::InternalError) => Ok(Exit::Internal(self.internal_error())),
                Ok(VcpuExit::Intr) => Err(MachineError::Interrupted),
                Ok(other) => {
                    let name = name(&other);
                    self.unfinished = Unfinished::Data;
                    Ok(Exit::Other(name))
                }
                Err(error) if error.errno() == libc::EINTR => {
                    let expired = guard.expired(run);
                    if stop_requested() {
                        Err(MachineError::Interrupted)
                    } else if expired {
                        let millis = super::kick::RUN_LIMIT.as_millis() as u64;
                        Err(MachineError::Endless { millis, from })
                    } else {
                        continue; // a signal meant for others: KVM kept the state
                    }
                }
                Err(source) => Err(MachineError::Kvm { what: "KVM_RUN", source }),
            };
        }
    }

    /// Registers at the last exit. The caller canonicalises those that depend on the KVM.
    pub(super) fn regs(&self) -> Result<Regs> {
        let kvm_sync_regs { regs, sregs, events } = self.fd.sync_regs();
        if events.interrupt.shadow != 0 {
            return Err(MachineError::Contract {
                rip: regs.rip,
                what: "an interrupt shadow is open after a step".into(),
            });
        }
        Ok(from_kvm(&regs, &sregs, &events))
    }

    /// True if the last exit left the vCPU in system-management mode.
    pub(super) fn in_smm(&mut self) -> bool {
        u32::from(self.fd.get_kvm_run().flags) & KVM_RUN_X86_SMM != 0
    }

    /// A general-purpose register at the last exit, by its number in [`Regs::gpr`].
    pub(super) fn gpr(&self, number: usize) -> u64 {
        let regs = self.fd.sync_regs().regs;
        from_kvm(&regs, &kvm_sregs::default(), &kvm_vcpu_events::default()).gpr[number]
    }

    /// RIP at the last exit.
    pub(super) fn rip(&self) -> u64 {
        self.fd.sync_regs().regs.rip
    }

    fn internal_error(&mut self) -> String {
        // SAFETY: the last KVM_RUN returned KVM_EXIT_INTERNAL_ERROR, for which KVM fills this member of the union.
        let internal = unsafe { self.fd.get_kvm_run().__bindgen_anon_1.internal };
        let data: Vec<String> =
            internal.data.iter().take(internal.ndata as usize).map(|word| format!("{word:#x}")).collect();
        let reason = match internal.suberror {
            1 => "emulation failed",
            2 => "simultaneous exceptions",
            3 => "delivery of an event failed",
            4 => "unexpected exit reason",
            _ => "unknown suberror",
        };
        format!("INTERNAL_ERROR ({reason}; {})", data.join(" "))
    }
}

/// The segment that a selector of our GDT loads.
fn segment(selector: u16) -> kvm_segment {
    let code = selector == selector::KERNEL_CODE || selector == selector::USER_CODE;
    // A trap out of ring 3 leaves SS null with the DPL of the new ring (SDM vol. 3, 6.14.2).
    let null = selector & !3 == 0;
    kvm_segment {
        base: 0,
        limit: 0xffff_ffff,
        selector,
        type_: if code { 11 } else { 3 },
        present: u8::from(!null),
        unusable: u8::from(null),
        dpl: (selector & 3) as u8,
        db: u8::from(!code),
        s: 1,
        l: u8::from(code),
        g: 1,
        ..kvm_segment::default()
    }
}

fn to_kvm(regs: &Regs, trap_flag: bool) -> kvm_regs {
    let [rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15] = regs.gpr;
    let rflags = regs.rflags | IOPL | if trap_flag { TF } else { 0 };
    let rip = regs.rip;
    #[rustfmt::skip]
    let page = kvm_regs { rax, rbx, rcx, rdx, rsi, rdi, rsp, rbp, r8, r9, r10, r11, r12, r13, r14, r15, rip, rflags };
    page
}

fn from_kvm(regs: &kvm_regs, sregs: &kvm_sregs, events: &kvm_vcpu_events) -> Regs {
    #[rustfmt::skip]
    let kvm_regs { rax, rbx, rcx, rdx, rsi, rdi, rsp, rbp, r8, r9, r10, r11, r12, r13, r14, r15, rip, rflags } = *regs;
    Regs {
        gpr: [rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15],
        rip,
        rflags: rflags & !HIDDEN_FLAGS | 2,
        cr2: sregs.cr2,
        cs: sregs.cs.selector,
        ss: sregs.ss.selector,
        nmi_masked: events.nmi.masked != 0,
    }
}

fn events(regs: &Regs, stimulus: Option<Stimulus>) -> kvm_vcpu_events {
    let mut events = kvm_vcpu_events {
        flags: KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SHADOW,
        ..kvm_vcpu_events::default()
    };
    events.nmi.masked = regs.nmi_masked.into();
    match stimulus {
        Some(Stimulus::Nmi) => events.nmi.pending = 1,
        Some(Stimulus::Interrupt(vector)) => {
            events.interrupt.injected = 1;
            events.interrupt.nr = vector;
        }
        _ => {}
    }
    events
}

fn name(exit: &VcpuExit<'_>) -> String {
    match exit {
        VcpuExit::IoOut(port, _) => format!("IO (out to port {port:#x})"),
        VcpuExit::IoIn(port, _) => format!("IO (in from port {port:#x})"),
        VcpuExit::MmioRead(address, data) => format!("MMIO (read of {} bytes at {address:#x})", data.len()),
        VcpuExit::MmioWrite(address, data) => format!("MMIO (write of {data:02x?} at {address:#x})"),
        VcpuExit::Shutdown => "SHUTDOWN (triple fault)".into(),
        VcpuExit::FailEntry(reason, cpu) => format!("FAIL_ENTRY (hardware reason {reason:#x}, CPU {cpu})"),
        VcpuExit::SystemEvent(kind, _) => format!("SYSTEM_EVENT (type {kind})"),
        VcpuExit::IoapicEoi(vector) => format!("IOAPIC_EOI (vector {vector})"),
        VcpuExit::X86Rdmsr(msr) => format!("X86_RDMSR (index {:#x})", msr.index),
        VcpuExit::X86Wrmsr(msr) => format!("X86_WRMSR (index {:#x})", msr.index),
        VcpuExit::Hypercall(call) => format!("HYPERCALL (number {})", call.nr),
        VcpuExit::MemoryFault { flags, gpa, size } => {
            format!("MEMORY_FAULT (gpa {gpa:#x}, size {size}, flags {flags:#x})")
        }
        VcpuExit::Unsupported(reason) => format!("number {reason} ({})", number_name(*reason)),
        // The others have no data: the wrapper's name, as the kernel writes it.
        _ => {
            let mut name = String::new();
            for letter in format!("{exit:?}").chars() {
                if letter.is_ascii_uppercase() && !name.is_empty() {
                    name.push('_');
                }
                name.push(letter.to_ascii_uppercase());
            }
            name
        }
    }
}

/// Names of exits on x86 that the wrapper does not know (include/uapi/linux/kvm.h).
fn number_name(reason: u32) -> &'static str {
    match reason {
        31 => "DIRTY_RING_FULL",
        32 => "AP_RESET_HOLD",
        33 => "X86_BUS_LOCK",
        34 => "XEN",
        37 => "NOTIFY",
        40 => "TDX",
        _ => "unknown to this version",
    }
}
