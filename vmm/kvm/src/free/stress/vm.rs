//! The virtual machine.

use std::sync::atomic::Ordering;

use crossmod_abi::{PAGE, va, vector};
use crossmod_model::image::Image;
use crossmod_model::layout::{FILLER, MAX_CPUS};
use crossmod_model::x86::cpu::Cpu;
use kvm_ioctls::VmFd;

use super::code::{self, Entries};
use super::executor_thread::ExecutorThread;
use super::layout::own;
use super::{Observer, PatcherHandle};
use crate::free::guest_words::GuestWords;
use crate::free::message::{Injector, Ledger};
use crate::free::{APIC, APIC_VA, vm_with_one_text};
use crate::layout::{self, CpuPages};
use crate::memory::Memory;
use crate::vcpu::{Inject, Vcpu};
use crate::vm::{Controller, Vm};
use crate::{MachineError, pin, tables};

/// The contents of the machine.
#[derive(Debug, Clone)]
pub struct StressConfig {
    /// Number of vCPUs.
    pub executors: usize,
    /// Address of the site.
    pub site: u64,
    /// The two site pages.
    pub text: Vec<u8>,
    /// The page at every other address that the site can branch to.
    pub landing: Vec<u8>,
    /// The handler of an NMI runs the site.
    pub nmi_runs_site: bool,
    /// The handler of a device interrupt runs the site.
    pub irq_runs_site: bool,
}

/// A virtual machine that runs once.
pub struct StressVm {
    // Field order is drop order: vCPUs, then the VM, then its memory.
    vcpus: Vec<Vcpu>,
    vm: VmFd,
    memory: Memory,
    config: StressConfig,
    entries: Entries,
}

impl StressVm {
    /// Makes a machine.
    ///
    /// # Errors
    ///
    /// [`MachineError::NotHere`] if KVM lacks an interrupt controller in the kernel, and those of KVM.
    pub fn new(config: StressConfig) -> Result<StressVm, MachineError> {
        let executors = config.executors;
        assert!((1..=MAX_CPUS).contains(&executors), "1 to {MAX_CPUS} executors");
        let Vm { fd: vm, memory, cpuid, .. } =
            vm_with_one_text(executors, Controller::InKernel, code::bytes())?;
        let image = Image::embedded()?;
        tables::trap_stack(&memory, own::TRAP_STACK_TOP)?;
        // On a stack of their own: an NMI may run the site while its executor is held, whose frame must survive.
        for (vector, name) in [
            (vector::DE, "de_stub"),
            (vector::UD, "ud_stub"),
            (vector::GP, "gp_stub"),
            (vector::PF, "pf_stub"),
            (vector::BP, "bp_plain"),
        ] {
            tables::gate_on_trap_stack(&memory, vector, image.label(name)?)?;
        }
        for (vector, handler) in code::handlers(config.nmi_runs_site, config.irq_runs_site) {
            tables::gate(&memory, vector, handler)?;
        }
        let mut text = vec![FILLER; 2 * PAGE as usize];
        text[..config.text.len()].copy_from_slice(&config.text);
        memory.write(layout::MASTER, &text)?;
        memory.write(layout::LANDING, &config.landing)?;
        let entries = Entries::new();
        let mut vcpus = Vec::new();
        for index in 0..executors {
            tables::map(&memory, CpuPages::of(index), APIC_VA, APIC)?;
            let mut vcpu = Vcpu::new(&vm, index, &cpuid, None)?;
            vcpu.accept_messages()?;
            let regs = Cpu::at(entries.execute, va::SITE, 0, true).regs;
            vcpu.restore(CpuPages::of(index).pml4(), &regs, false, Inject::Nothing)?;
            vcpus.push(vcpu);
        }
        Ok(StressVm { vcpus, vm, memory, config, entries })
    }

    /// Runs executor *i* on the *i*th of `cpus` (starting over if there are fewer), each with its observer, and `patch`
    /// on the calling thread. When `patch` returns, the executors are stopped, and the observers are returned.
    ///
    /// # Errors
    ///
    /// Those of `patch`, and of executors.
    pub fn run<O: Observer, T>(
        mut self,
        cpus: &[usize],
        observers: Vec<O>,
        patch: impl FnOnce(&mut PatcherHandle<'_>, Injector<'_>) -> Result<T, MachineError>,
    ) -> Result<(T, Vec<O>), MachineError> {
        let words = GuestWords::new(self.memory.host_address()?);
        let (memory, entries, site) = (&self.memory, self.entries, self.config.site);
        let executors = self.vcpus.len();
        let vcpus = &mut self.vcpus;
        let vm = &self.vm;
        let ledgers: Vec<Ledger> = (0..executors).map(|_| Ledger::default()).collect();
        let ledgers = &ledgers[..];
        let injector = Injector::new(words, vm, ledgers, [own::NMIS, own::IRQS]);
        std::thread::scope(|scope| {
            // Dropping it stops the executors, also if `patch` panics.
            let mut handle = PatcherHandle::new(words, vm, executors);
            let stop = handle.stop_flag();
            let mut threads = Vec::new();
            for (index, ((vcpu, observer), &cpu)) in
                vcpus.iter_mut().zip(observers).zip(cpus.iter().cycle()).enumerate()
            {
                let stop = stop.clone();
                threads.push(scope.spawn(move || {
                    pin(cpu);
                    let ledger = &ledgers[index];
                    let mut thread =
                        ExecutorThread { vcpu, memory, words, index, entries, site, ledger, observer };
                    let result = thread.run(&stop);
                    // The patcher must not wait for an executor that failed.
                    stop.store(true, Ordering::Relaxed);
                    result.map(|()| thread.observer)
                }));
            }
            let result = patch(&mut handle, injector);
            drop(handle);
            let mut observers = Vec::new();
            for thread in threads {
                observers.push(thread.join().expect("an executor has nothing that can panic")?);
            }
            Ok((result?, observers))
        })
    }
}
