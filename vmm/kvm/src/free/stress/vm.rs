//! The virtual machine.

use crossmod_abi::{va, vector};
use crossmod_model::image::Image;
use crossmod_model::x86::cpu::Cpu;

use super::code::{self, Entries};
use super::executor_thread::ExecutorThread;
use super::layout::own;
use super::{Observer, PatcherHandle};
use crate::free::executors::Executors;
use crate::free::message::Injector;
use crate::tables::{self, HANDLERS, IST_TRAP};
use crate::{Result, layout};

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
    executors: Executors,
    site: u64,
}

impl StressVm {
    /// Makes a machine.
    ///
    /// # Errors
    ///
    /// [`NotHere`](crate::MachineError::NotHere) if KVM lacks an interrupt controller in the kernel, and those of KVM.
    pub fn new(config: StressConfig) -> Result<StressVm> {
        let regs = Cpu::at(Entries::new().execute, va::SITE, 0, true).regs;
        let executors = Executors::new(config.executors, code::bytes(), (0, &config.text), &regs)?;
        let memory = &executors.memory;
        let image = Image::embedded()?;
        tables::trap_stack(memory, own::TRAP_STACK_TOP)?;
        // On a stack of their own: an NMI may run the site while its executor is held, whose frame must survive.
        const TRAPS: [u8; 5] = [vector::DE, vector::UD, vector::GP, vector::PF, vector::BP];
        for (vector, name) in HANDLERS.into_iter().filter(|(vector, _)| TRAPS.contains(vector)) {
            tables::gate_on(memory, vector, image.label(name)?, IST_TRAP)?;
        }
        for (vector, handler) in code::handlers(config.nmi_runs_site, config.irq_runs_site) {
            tables::gate(memory, vector, handler)?;
        }
        memory.write(layout::LANDING, &config.landing)?;
        Ok(StressVm { executors, site: config.site })
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
        patch: impl FnOnce(&mut PatcherHandle<'_>, Injector<'_>) -> Result<T>,
    ) -> Result<(T, Vec<O>)> {
        let site = self.site;
        self.executors.run(
            cpus,
            [own::NMIS, own::IRQS],
            observers,
            |executor, observer| ExecutorThread { executor, entries: Entries::new(), site, observer }.run(),
            |signals, injector| patch(&mut PatcherHandle::new(signals), injector),
        )
    }
}
