//! What executes: the oracle (any executor's transition, from a complete state) or the live machine (each
//! executor on its own KVM vCPU, going on from what its last step left). The semantics do not know which.

use crossmod_abi::{PAGE, va};

use crate::cpu::Cpu;
use crate::machine::{Image, Landing, Machine, MachineError, Shared, Stimulus};
use crate::plan::Plan;

/// The result of one executed step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Executed {
    /// The vCPU afterwards.
    pub cpu: Cpu,
    /// Where it landed.
    pub landing: Landing,
    /// The shared page afterwards.
    pub shared: Shared,
}

/// Executes steps on KVM.
pub trait Engine {
    /// Steps executor `slot` from `cpu`, which sees `text` as the bytes of the site and `shared` as the
    /// shared page. `data` is the site as data, if the step reads or writes it.
    fn execute(
        &mut self,
        slot: usize,
        cpu: &Cpu,
        stimulus: Stimulus,
        text: &[u8],
        shared: &Shared,
        data: Option<&[u8]>,
    ) -> Result<Executed, MachineError>;

    /// The same, aside: for runs of old or new alone that are not part of the execution.
    fn execute_aside(
        &mut self,
        cpu: &Cpu,
        stimulus: Stimulus,
        text: &[u8],
        shared: &Shared,
    ) -> Result<Executed, MachineError>;

    /// The host's patcher stored to the site: this is what data readers find there now.
    fn stored(&mut self, data: &[u8]) -> Result<(), MachineError>;

    /// What data readers find in the site after the step that was just executed with `data`.
    fn data(&self, bytes: &mut [u8]) -> Result<(), MachineError>;

    /// The patcher stored a word of this executor's own.
    fn word_stored(&mut self, slot: usize, word: u8, value: u32) -> Result<(), MachineError>;

    /// The patcher stored to the shared page.
    fn shared_stored(&mut self, shared: &Shared) -> Result<(), MachineError>;

    /// A broadcast cleared this executor's acknowledgement.
    fn ack_cleared(&mut self, slot: usize) -> Result<(), MachineError>;

    /// The guest image.
    fn image(&self) -> &Image;
}

/// Executes every executor's transitions in one slot.
pub struct Oracle<'a> {
    machine: &'a mut Machine,
    site: u64,
}

impl<'a> Oracle<'a> {
    /// An oracle for a plan; resets the machine for it.
    pub fn new(machine: &'a mut Machine, plan: &Plan) -> Result<Oracle<'a>, MachineError> {
        machine.reset(plan)?;
        Ok(Oracle { machine, site: plan.site.address })
    }
}

impl Engine for Oracle<'_> {
    fn execute(
        &mut self,
        _slot: usize,
        cpu: &Cpu,
        stimulus: Stimulus,
        text: &[u8],
        shared: &Shared,
        data: Option<&[u8]>,
    ) -> Result<Executed, MachineError> {
        self.machine.write_shared(shared)?;
        if let Some(data) = data {
            self.machine.write_master(self.site, data)?;
        }
        if near_site(cpu.regs.rip) {
            self.machine.write_view(0, self.site, text)?;
        }
        let (cpu, landing) = self.machine.step(0, cpu, stimulus)?;
        Ok(Executed { cpu, landing, shared: self.machine.read_shared()? })
    }

    fn execute_aside(
        &mut self,
        cpu: &Cpu,
        stimulus: Stimulus,
        text: &[u8],
        shared: &Shared,
    ) -> Result<Executed, MachineError> {
        self.execute(0, cpu, stimulus, text, shared, None)
    }

    fn stored(&mut self, _: &[u8]) -> Result<(), MachineError> {
        Ok(())
    }

    fn data(&self, bytes: &mut [u8]) -> Result<(), MachineError> {
        self.machine.read_master(self.site, bytes)
    }

    fn word_stored(&mut self, _: usize, _: u8, _: u32) -> Result<(), MachineError> {
        Ok(())
    }

    fn shared_stored(&mut self, _: &Shared) -> Result<(), MachineError> {
        Ok(())
    }

    fn ack_cleared(&mut self, _: usize) -> Result<(), MachineError> {
        Ok(())
    }

    fn image(&self) -> &Image {
        self.machine.image()
    }
}

/// Executes each executor on its own vCPU, with memory that is never restored.
pub struct Live<'a> {
    machine: &'a mut Machine,
    aside: Oracle<'a>,
    site: u64,
    started: Vec<bool>,
}

impl<'a> Live<'a> {
    /// Starts a plan on a machine with a vCPU for each executor; `aside` is for runs of old or new alone.
    pub fn new(
        machine: &'a mut Machine,
        aside: &'a mut Machine,
        plan: &Plan,
    ) -> Result<Live<'a>, MachineError> {
        machine.reset(plan)?;
        machine.write_shared(&super::env::Env::initial(plan).shared)?;
        let aside = Oracle::new(aside, plan)?;
        Ok(Live { machine, aside, site: plan.site.address, started: vec![false; plan.executors.len()] })
    }
}

impl Engine for Live<'_> {
    fn execute(
        &mut self,
        slot: usize,
        cpu: &Cpu,
        stimulus: Stimulus,
        text: &[u8],
        shared: &Shared,
        data: Option<&[u8]>,
    ) -> Result<Executed, MachineError> {
        let broken = |what: &str| MachineError::Contract { rip: cpu.regs.rip, what: what.into() };
        if self.machine.read_shared()? != *shared {
            return Err(broken("the shared page is not what the schedule made of it"));
        }
        if let Some(data) = data {
            let mut found = vec![0; data.len()];
            self.machine.read_master(self.site, &mut found)?;
            if found != data {
                return Err(broken("the site's master copy is not what the schedule made of it"));
            }
        }
        if near_site(cpu.regs.rip) {
            self.machine.write_view(slot, self.site, text)?;
        }
        let (after, landing) = if self.started[slot] {
            let mut left = Cpu { regs: cpu.regs, private: self.machine.read_private(slot)? };
            if !left.clear_dead_stack() || left != *cpu {
                return Err(broken("the private page is not what the vCPU's own steps made of it"));
            }
            self.machine.continue_step(slot, &cpu.regs, stimulus)?
        } else {
            self.started[slot] = true;
            self.machine.step(slot, cpu, stimulus)?
        };
        Ok(Executed { cpu: after, landing, shared: self.machine.read_shared()? })
    }

    fn execute_aside(
        &mut self,
        cpu: &Cpu,
        stimulus: Stimulus,
        text: &[u8],
        shared: &Shared,
    ) -> Result<Executed, MachineError> {
        self.aside.execute(0, cpu, stimulus, text, shared, None)
    }

    fn stored(&mut self, data: &[u8]) -> Result<(), MachineError> {
        self.machine.write_master(self.site, data)
    }

    fn data(&self, bytes: &mut [u8]) -> Result<(), MachineError> {
        self.machine.read_master(self.site, bytes)
    }

    fn word_stored(&mut self, slot: usize, word: u8, value: u32) -> Result<(), MachineError> {
        if self.started[slot] { self.machine.write_word(slot, word, value) } else { Ok(()) }
    }

    fn shared_stored(&mut self, shared: &Shared) -> Result<(), MachineError> {
        self.machine.write_shared(shared)
    }

    fn ack_cleared(&mut self, slot: usize) -> Result<(), MachineError> {
        if self.started[slot] { self.machine.clear_ack(slot) } else { Ok(()) }
    }

    fn image(&self) -> &Image {
        self.machine.image()
    }
}

/// True if a fetch at `rip` may meet the site pages.
pub fn near_site(rip: u64) -> bool {
    (va::SITE - crate::decode::FETCH_WINDOW as u64..va::SITE + 2 * PAGE).contains(&rip)
}
