//! The virtual machine, and the code that its vCPUs run.

use crossmod_abi::{PAGE, port, va, vector};
use crossmod_model::layout::{FILLER, MAX_CPUS};
use crossmod_model::x86::cpu::{Cpu, reg};
use kvm_ioctls::VmFd;

use super::BenchPatcher;
use super::layout::{HOLD, SYNC, TRAP_LOG, common, own};
use crate::free::guest_words::GuestWords;
use crate::free::message::{Injector, Ledger};
use crate::free::{APIC, APIC_VA, CODE, EOI, FINISH, unexpected, vm_with_one_text};
use crate::kick::Guard;
use crate::layout::{self, CpuPages};
use crate::memory::Memory;
use crate::vcpu::{Exit, Inject, Vcpu};
use crate::vm::{Controller, Vm};
use crate::{MachineError, pin, tables};

core::arch::global_asm!(
    include_str!("guest.s"),
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
    static crossmod_bench_start: u8;
    static crossmod_bench_end: u8;
    static crossmod_bench_execute: u8;
    static crossmod_bench_bp: u8;
    static crossmod_bench_nmi: u8;
    static crossmod_bench_stray: u8;
    static crossmod_bench_sync: u8;
    static crossmod_bench_hold: u8;
}

fn offset(label: *const u8) -> u64 {
    label as u64 - &raw const crossmod_bench_start as u64
}

fn code() -> &'static [u8] {
    let start = &raw const crossmod_bench_start;
    // SAFETY: both labels are in one section of this program's text, which is readable and never changes.
    unsafe { std::slice::from_raw_parts(start, (&raw const crossmod_bench_end) as usize - start as usize) }
}

/// A virtual machine that runs once.
pub struct BenchVm {
    // Field order is drop order: vCPUs, then the VM, then its memory.
    vcpus: Vec<Vcpu>,
    vm: VmFd,
    memory: Memory,
}

impl BenchVm {
    /// Makes a machine whose executors run `bytes` at offset `site` of the site pages. With `strays`, NMIs come from an
    /// [`Injector`], and their handler does not acknowledge broadcasts.
    ///
    /// # Errors
    ///
    /// [`MachineError::NotHere`] if KVM lacks an interrupt controller in the kernel, and those of KVM.
    pub fn new(executors: usize, site: usize, bytes: &[u8], strays: bool) -> Result<BenchVm, MachineError> {
        let nmi = if strays { &raw const crossmod_bench_stray } else { &raw const crossmod_bench_nmi };
        assert!((1..=MAX_CPUS).contains(&executors), "1 to {MAX_CPUS} executors");
        let Vm { fd: vm, memory, cpuid, .. } = vm_with_one_text(executors, Controller::InKernel, code())?;
        for index in 0..executors {
            tables::map(&memory, CpuPages::of(index), APIC_VA, APIC)?;
        }
        for (vector, label) in [
            (vector::BP, &raw const crossmod_bench_bp),
            (vector::NMI, nmi),
            (SYNC, &raw const crossmod_bench_sync),
            (HOLD, &raw const crossmod_bench_hold),
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
            let mut regs = Cpu::at(CODE + offset(&raw const crossmod_bench_execute), va::SITE, 0, true).regs;
            regs.gpr[7] = va::SITE + site as u64;
            regs.gpr[reg::RSP] -= 8;
            let stack = CpuPages::of(index).private() + (regs.gpr[reg::RSP] - va::PRIVATE);
            memory.write_u64(stack, FINISH)?;
            vcpu.restore(CpuPages::of(index).pml4(), &regs, false, Inject::Nothing)?;
            vcpus.push(vcpu);
        }
        Ok(BenchVm { vcpus, vm, memory })
    }

    /// Runs executor *i* on the *i*th of `cpus` (starting over if there are fewer), and `patch` on the calling thread.
    /// When `patch` returns, the executors are stopped.
    ///
    /// # Errors
    ///
    /// Those of `patch`, and of executors.
    pub fn run<T>(
        mut self,
        cpus: &[usize],
        patch: impl FnOnce(&mut BenchPatcher<'_>, Injector<'_>) -> Result<T, MachineError>,
    ) -> Result<T, MachineError> {
        let words = GuestWords::new(self.memory.host_address()?);
        let executors = self.vcpus.len();
        let ledgers: Vec<Ledger> = (0..executors).map(|_| Ledger::default()).collect();
        std::thread::scope(|scope| {
            // Dropping it stops the executors, also if `patch` panics.
            let mut patcher = BenchPatcher::new(words, &self.vm, executors);
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
            // No device interrupts are sent here: they have no handler.
            let injector = Injector::new(words, &self.vm, &ledgers, [own::STRAYS, own::IPIS]);
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
            // The guard ends endless loops; this loop is meant to be one.
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
