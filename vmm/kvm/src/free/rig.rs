//! A machine for measuring protocols: executors that run until they are told to stop, an in-kernel interrupt
//! controller, IPIs and NMIs by message (KVM API, KVM_SIGNAL_MSI), and handlers that never leave the guest.

use crossmod_abi::{PAGE, port, private, va, vector};
use crossmod_model::layout::MAX_CPUS;
use crossmod_model::x86::cpu::{Cpu, reg};
use kvm_ioctls::VmFd;

use super::message::{Injector, Ledger};
use super::patcher::Patcher;
use super::window::Window;
use super::{APIC, APIC_VA, CODE, EOI, FINISH, free, unexpected};
use crate::kick::Guard;
use crate::layout::{self, CpuPages};
use crate::memory::Memory;
use crate::vcpu::{Exit, Inject, Vcpu};
use crate::vm::{Controller, Vm};
use crate::{FILLER, MachineError, pin, tables};

/// Vector of the broadcast that serialises.
pub(super) const SYNC: u8 = vector::IPI_SYNC;
/// Vector of the broadcast that holds.
pub(super) const HOLD: u8 = vector::IPI_HOLD;

/// Offsets in the shared page, behind the explorer's state; one cache line each.
pub(super) mod common {
    pub const STOP: u64 = 0x400;
    pub const EPOCH: u64 = 0x440;
    pub const TARGET: u64 = 0x480;
    pub const RELEASE: u64 = 0x4c0;
}

/// Offsets in a vCPU's private page, behind its stacks. What handlers write and what the loop writes lie in lines
/// of their own.
pub(super) mod own {
    pub const ACK: u64 = 0xa00;
    pub const ARRIVED: u64 = 0xa08;
    pub const TRAPS: u64 = 0xa10;
    pub const NMIS: u64 = 0xa18;
    pub const IPIS: u64 = 0xa20;
    pub const STRAYS: u64 = 0xa28;
    pub const PASSES: u64 = 0xa80;
    pub const LONGEST: u64 = 0xa88;
    pub const EPOCH_SEEN: u64 = 0xa90;
    /// Passes with a trap.
    pub const TRAPPED: u64 = 0xa98;
    /// Time of the last pass without one.
    pub const UNTRAPPED: u64 = 0xaa0;
    /// Times of the last passes with a trap.
    pub const TRAP_LOG: u64 = 0xb00;
}
/// Passes with a trap that are kept: a power of two.
pub(super) const TRAP_LOG: u64 = 128;
const _: () = assert!(own::ACK >= private::DB_STACK_TOP && own::TRAP_LOG + 8 * TRAP_LOG <= PAGE);
const _: () = assert!(TRAP_LOG.is_power_of_two());

core::arch::global_asm!(
    include_str!("handlers.s"),
    stop = const va::SHARED + common::STOP,
    epoch = const va::SHARED + common::EPOCH,
    target = const va::SHARED + common::TARGET,
    release = const va::SHARED + common::RELEASE,
    ack = const va::PRIVATE + own::ACK,
    arrived = const va::PRIVATE + own::ARRIVED,
    traps = const va::PRIVATE + own::TRAPS,
    nmis = const va::PRIVATE + own::NMIS,
    ipis = const va::PRIVATE + own::IPIS,
    strays = const va::PRIVATE + own::STRAYS,
    passes = const va::PRIVATE + own::PASSES,
    longest = const va::PRIVATE + own::LONGEST,
    epoch_seen = const va::PRIVATE + own::EPOCH_SEEN,
    trapped = const va::PRIVATE + own::TRAPPED,
    untrapped = const va::PRIVATE + own::UNTRAPPED,
    trap_log = const va::PRIVATE + own::TRAP_LOG,
    trap_log_mask = const TRAP_LOG - 1,
    eoi = const APIC_VA + EOI,
);

unsafe extern "C" {
    static crossmod_rig_start: u8;
    static crossmod_rig_end: u8;
    static crossmod_rig_execute: u8;
    static crossmod_rig_bp: u8;
    static crossmod_rig_nmi: u8;
    static crossmod_rig_stray: u8;
    static crossmod_rig_sync: u8;
    static crossmod_rig_hold: u8;
}

fn offset(label: *const u8) -> u64 {
    label as u64 - &raw const crossmod_rig_start as u64
}

fn code() -> &'static [u8] {
    let start = &raw const crossmod_rig_start;
    // SAFETY: both labels stand in one section of this program's text, which is readable and never changes.
    unsafe { std::slice::from_raw_parts(start, (&raw const crossmod_rig_end) as usize - start as usize) }
}

/// The machine.
pub struct Rig {
    // Field order is drop order: vCPUs, then the VM, then its memory.
    vcpus: Vec<Vcpu>,
    vm: VmFd,
    memory: Memory,
}

impl Rig {
    /// A machine with so many executors of the code at an offset of the site pages. With `strays`, NMIs come from
    /// beside, and their handler acknowledges nothing.
    pub fn new(executors: usize, site: usize, bytes: &[u8], strays: bool) -> Result<Rig, MachineError> {
        let nmi = if strays { &raw const crossmod_rig_stray } else { &raw const crossmod_rig_nmi };
        assert!((1..=MAX_CPUS).contains(&executors), "1 to {MAX_CPUS} executors");
        let Vm { fd: vm, memory, cpuid, .. } = free(executors, Controller::InKernel, code())?;
        for index in 0..executors {
            tables::map(&memory, CpuPages::of(index), APIC_VA, APIC)?;
        }
        for (vector, label) in [
            (vector::BP, &raw const crossmod_rig_bp),
            (vector::NMI, nmi),
            (SYNC, &raw const crossmod_rig_sync),
            (HOLD, &raw const crossmod_rig_hold),
        ] {
            tables::gate(&memory, vector, CODE + offset(label))?;
        }
        let mut text = vec![FILLER; 2 * PAGE as usize];
        text[site..site + bytes.len()].copy_from_slice(bytes);
        memory.write(layout::MASTER, &text)?;
        let mut vcpus = Vec::new();
        for index in 0..executors {
            let mut vcpu = Vcpu::new(&vm, index, &cpuid, None)?;
            vcpu.accept_messages()?;
            let mut regs = Cpu::at(CODE + offset(&raw const crossmod_rig_execute), va::SITE, 0, true).regs;
            regs.gpr[7] = va::SITE + site as u64;
            regs.gpr[reg::RSP] -= 8;
            let stack = CpuPages::of(index).private() + (regs.gpr[reg::RSP] - va::PRIVATE);
            memory.write_u64(stack, FINISH)?;
            vcpu.restore(CpuPages::of(index).pml4(), &regs, false, Inject::Nothing)?;
            vcpus.push(vcpu);
        }
        Ok(Rig { vcpus, vm, memory })
    }

    /// Runs executor *i* on the *i*th of `cpus` (again from the first if there are fewer), and `patch` on the
    /// calling thread. When that returns, the executors are stopped. May be called once.
    pub fn run<T>(
        mut self,
        cpus: &[usize],
        patch: impl FnOnce(&mut Patcher<'_>, Injector<'_>) -> Result<T, MachineError>,
    ) -> Result<T, MachineError> {
        let window = Window::new(self.memory.host_address()?);
        let executors = self.vcpus.len();
        let ledgers: Vec<Ledger> = (0..executors).map(|_| Ledger::default()).collect();
        std::thread::scope(|scope| {
            // Stops the executors when it goes, also if `patch` panics.
            let mut patcher = Patcher::new(window, &self.vm, executors);
            let threads: Vec<_> = self
                .vcpus
                .iter_mut()
                .zip(cpus.iter().cycle())
                .map(|(vcpu, &cpu)| {
                    scope.spawn(move || {
                        pin(cpu);
                        execute(vcpu)
                    })
                })
                .collect();
            // No device interrupts are sent here: nothing would answer them.
            let injector = Injector::new(window, &self.vm, &ledgers, [own::STRAYS, own::IPIS]);
            let result = patcher.ready().and_then(|()| patch(&mut patcher, injector));
            drop(patcher);
            for thread in threads {
                thread.join().expect("an executor has nothing that can panic")?;
            }
            result
        })
    }
}

fn execute(vcpu: &mut Vcpu) -> Result<(), MachineError> {
    let guard = Guard::new()?;
    loop {
        match vcpu.run(&guard, vcpu.rip()) {
            // The guard looks after loops that should end; this one should not.
            Err(MachineError::Endless { .. }) => {}
            Err(MachineError::Interrupted) => return Ok(()),
            Err(error) => return Err(error),
            Ok(Exit::Doorbell(port::STOP)) => return Ok(()),
            Ok(exit) => return Err(unexpected(&exit, vcpu.rip(), va::SITE)),
        }
    }
}

/// The time-stamp counter of this CPU.
pub fn ticks() -> u64 {
    // SAFETY: RDTSC has no preconditions at ring 3 under Linux (CR4.TSD is clear unless a process asks).
    unsafe { core::arch::x86_64::_rdtsc() }
}
