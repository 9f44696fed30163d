//! Executes any executor's transition, from a complete state, on one vCPU.

use crossmod_explore::engine::{Engine, Executed};
use crossmod_explore::error::Result;
use crossmod_kvm::Machine;
use crossmod_model::image::Image;
use crossmod_model::layout::{Shared, near_site_pages};
use crossmod_model::plan::Plan;
use crossmod_model::step::Stimulus;
use crossmod_model::x86::cpu::Cpu;

use super::failed;

/// Executes every executor's transitions in one slot.
pub struct SteppingEngine<'a> {
    machine: &'a mut Machine,
    site: u64,
}

impl<'a> SteppingEngine<'a> {
    /// An engine for a plan; resets the machine for it.
    pub fn new(machine: &'a mut Machine, plan: &Plan) -> Result<SteppingEngine<'a>> {
        machine.reset(plan).map_err(failed)?;
        Ok(SteppingEngine { machine, site: plan.site.address })
    }
}

impl Engine for SteppingEngine<'_> {
    fn execute(
        &mut self,
        _slot: usize,
        cpu: &Cpu,
        stimulus: Stimulus,
        text: &[u8],
        shared: &Shared,
        data: Option<&[u8]>,
    ) -> Result<Executed> {
        self.machine.write_shared(shared).map_err(failed)?;
        if let Some(data) = data {
            self.machine.write_master(self.site, data).map_err(failed)?;
        }
        if near_site_pages(cpu.regs.rip) {
            self.machine.write_view(0, self.site, text).map_err(failed)?;
        }
        let (cpu, landing) = self.machine.step(0, cpu, stimulus).map_err(failed)?;
        Ok(Executed { cpu, landing, shared: self.machine.read_shared().map_err(failed)? })
    }

    fn data(&self, bytes: &mut [u8]) -> Result<()> {
        self.machine.read_master(self.site, bytes).map_err(failed)
    }

    fn image(&self) -> &Image {
        self.machine.image()
    }
}
