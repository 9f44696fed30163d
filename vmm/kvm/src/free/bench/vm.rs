//! The virtual machine, and the code that its vCPUs run.

use crossmod_abi::{port, va, vector};
use crossmod_model::x86::cpu::{Cpu, reg};

use super::BenchPatcher;
use super::layout::{TRAP_LOG, common, own};
use crate::free::executors::{self, Executors};
use crate::free::message::Injector;
use crate::free::{APIC_VA, CODE, EOI, FINISH, return_slot, unexpected};
use crate::kick::Guard;
use crate::vcpu::{Exit, Vcpu};
use crate::{MachineError, Result, tables};

core::arch::global_asm!(
    include_str!("guest.s"),
    stop = const va::SHARED + common::STOP,
    epoch = const va::SHARED + common::EPOCH,
    target = const va::SHARED + executors::common::TARGET,
    release = const va::SHARED + executors::common::RELEASE,
    ack = const va::PRIVATE + executors::own::ACK,
    arrived = const va::PRIVATE + executors::own::ARRIVED,
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

guest_code!(crossmod_bench_start crossmod_bench_end crossmod_bench_execute crossmod_bench_bp
    crossmod_bench_nmi crossmod_bench_stray crossmod_bench_sync crossmod_bench_hold);

/// A virtual machine that runs once.
pub struct BenchVm(Executors);

impl BenchVm {
    /// Makes a machine whose executors run `bytes` at offset `site` of the site pages. With `strays`, NMIs come from an
    /// [`Injector`], and their handler does not acknowledge broadcasts.
    ///
    /// # Errors
    ///
    /// [`MachineError::NotHere`] if KVM lacks an interrupt controller in the kernel, and those of KVM.
    pub fn new(executors: usize, site: usize, bytes: &[u8], strays: bool) -> Result<BenchVm> {
        let mut regs = Cpu::at(CODE + offset(&raw const crossmod_bench_execute), va::SITE, 0, true).regs;
        regs.gpr[7] = va::SITE + site as u64;
        regs.gpr[reg::RSP] -= 8;
        let machine = Executors::new(executors, self::bytes(), (site, bytes), &regs)?;
        let nmi = if strays { &raw const crossmod_bench_stray } else { &raw const crossmod_bench_nmi };
        for (vector, label) in [
            (vector::BP, &raw const crossmod_bench_bp),
            (vector::NMI, nmi),
            (vector::IPI_SYNC, &raw const crossmod_bench_sync),
            (vector::IPI_HOLD, &raw const crossmod_bench_hold),
        ] {
            tables::gate(&machine.memory, vector, CODE + offset(label))?;
        }
        for executor in 0..executors {
            machine.memory.write_u64(return_slot(executor, &regs), FINISH)?;
        }
        Ok(BenchVm(machine))
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
        patch: impl FnOnce(&mut BenchPatcher<'_>, Injector<'_>) -> Result<T>,
    ) -> Result<T> {
        let nothing = vec![(); self.0.vcpus.len()];
        let (result, _) = self.0.run(
            cpus,
            // No device interrupts are sent here: they have no handler.
            [own::STRAYS, own::IPIS],
            nothing,
            |executor, ()| execute(executor.vcpu),
            |signals, injector| {
                let mut patcher = BenchPatcher::new(signals);
                patcher.ready()?;
                patch(&mut patcher, injector)
            },
        )?;
        Ok(result)
    }
}

fn execute(vcpu: &mut Vcpu) -> Result<()> {
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
