//! Executes each executor on its own vCPU, which continues from the state that its last step left.

use crossmod_explore::engine::{Engine, Executed};
use crossmod_explore::error::{EngineError, Result};
use crossmod_kvm::Machine;
use crossmod_model::image::Image;
use crossmod_model::layout::{Shared, near_site_pages};
use crossmod_model::plan::Plan;
use crossmod_model::state::shared_state::SharedState;
use crossmod_model::step::Stimulus;
use crossmod_model::x86::cpu::Cpu;

use super::{SteppingEngine, failed};

/// Executes each executor on its own vCPU, with memory that is never restored.
pub struct ReplayEngine<'a> {
    machine: &'a mut Machine,
    aside: SteppingEngine<'a>,
    site: u64,
    started: Vec<bool>,
}

impl<'a> ReplayEngine<'a> {
    /// Starts a plan on a machine with a vCPU for each executor; `aside` is for runs of one version alone.
    pub fn new(machine: &'a mut Machine, aside: &'a mut Machine, plan: &Plan) -> Result<ReplayEngine<'a>> {
        machine.reset(plan).map_err(failed)?;
        machine.write_shared(&SharedState::initial(plan).shared).map_err(failed)?;
        let aside = SteppingEngine::new(aside, plan)?;
        let (site, started) = (plan.site.address, vec![false; plan.executors.len()]);
        Ok(ReplayEngine { machine, aside, site, started })
    }
}

impl Engine for ReplayEngine<'_> {
    fn execute(
        &mut self,
        slot: usize,
        cpu: &Cpu,
        stimulus: Stimulus,
        text: &[u8],
        shared: &Shared,
        data: Option<&[u8]>,
    ) -> Result<Executed> {
        let broken = |what: &str| EngineError::Contract { rip: cpu.regs.rip, what: what.into() };
        if self.machine.read_shared().map_err(failed)? != *shared {
            return Err(broken("the shared page differs from what the schedule implies"));
        }
        if let Some(data) = data {
            let mut found = vec![0; data.len()];
            self.machine.read_master(self.site, &mut found).map_err(failed)?;
            if found != data {
                return Err(broken("the site's master copy differs from what the schedule implies"));
            }
        }
        if near_site_pages(cpu.regs.rip) {
            self.machine.write_view(slot, self.site, text).map_err(failed)?;
        }
        let (after, landing) = if self.started[slot] {
            let mut left = Cpu { regs: cpu.regs, private: self.machine.read_private(slot).map_err(failed)? };
            if !left.clear_dead_stack() || left != *cpu {
                return Err(broken("the private page differs from what the vCPU's own steps imply"));
            }
            self.machine.continue_step(slot, &cpu.regs, stimulus).map_err(failed)?
        } else {
            self.started[slot] = true;
            self.machine.step(slot, cpu, stimulus).map_err(failed)?
        };
        Ok(Executed { cpu: after, landing, shared: self.machine.read_shared().map_err(failed)? })
    }

    fn execute_aside(
        &mut self,
        cpu: &Cpu,
        stimulus: Stimulus,
        text: &[u8],
        shared: &Shared,
    ) -> Result<Executed> {
        self.aside.execute(0, cpu, stimulus, text, shared, None)
    }

    fn stored(&mut self, data: &[u8]) -> Result<()> {
        self.machine.write_master(self.site, data).map_err(failed)
    }

    fn data(&self, bytes: &mut [u8]) -> Result<()> {
        self.machine.read_master(self.site, bytes).map_err(failed)
    }

    fn word_stored(&mut self, slot: usize, word: u8, value: u32) -> Result<()> {
        if self.started[slot] { self.machine.write_word(slot, word, value).map_err(failed) } else { Ok(()) }
    }

    fn shared_stored(&mut self, shared: &Shared) -> Result<()> {
        self.machine.write_shared(shared).map_err(failed)
    }

    fn ack_cleared(&mut self, slot: usize) -> Result<()> {
        if self.started[slot] { self.machine.clear_ack(slot).map_err(failed) } else { Ok(()) }
    }

    fn image(&self) -> &Image {
        self.machine.image()
    }
}
