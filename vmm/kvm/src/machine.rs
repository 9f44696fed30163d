//! The machine of exploration and replay.

use std::sync::Arc;

use crossmod_abi::{PAGE, port, va, vector};
use crossmod_model::image::Image;
use crossmod_model::layout::{FILLER, MAX_CPUS, SHARED_LEN, Shared, in_site_pages, initial_text, pad_code};
use crossmod_model::plan::{HandlerVariant, Plan};
use crossmod_model::step::{Landing, Stimulus};
use crossmod_model::x86::cpu::{Cpu, PRIVATE_LEN, Regs};
use kvm_ioctls::VmFd;

use super::Result;
use super::assists::Assists;
use super::kick::Guard;
use super::layout::{self, CpuPages};
use super::memory::Memory;
use super::tables::{self, HANDLERS};
use super::vcpu::Vcpu;
use super::vm::{Controller, Vm};

/// `out SMM, al; rsm`, in the real mode of SMM.
const SMI_HANDLER: [u8; 4] = [0xe6, port::SMM, 0x0f, 0xaa];

/// Which KVM vCPU executes the steps of a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Backing {
    /// One KVM vCPU for each ring executes for every slot: exploration. Switching KVM's single-step costs an ioctl,
    /// so each ring keeps its own setting.
    PerRing,
    /// Slot *i* is KVM vCPU *i*: live replay.
    PerSlot,
}

/// A virtual machine for exploration: without an interrupt controller, so that all events are injected.
pub struct Machine {
    // Field order is drop order: vCPUs, then the VM, then its memory.
    pub(super) vcpus: Vec<Vcpu>,
    pub(super) vm: VmFd,
    pub(super) memory: Memory,
    image: Image,
    pub(super) backing: Backing,
    pub(super) guard: Guard,
    /// Entry of the handler that rings the doorbell of this number.
    pub(super) doorbells: [Option<u64>; 256],
    pub(super) assists: Assists,
    pub(super) real_smis: bool,
}

impl Machine {
    /// Makes a machine whose only slot executes the transitions of every executor.
    pub fn oracle() -> Result<Machine> {
        Machine::new(2, Backing::PerRing, Controller::None)
    }

    /// Makes a machine with one KVM vCPU for each of `slots` executors.
    pub fn live(slots: usize) -> Result<Machine> {
        Machine::new(slots, Backing::PerSlot, Controller::None)
    }

    pub(super) fn new(cpus: usize, backing: Backing, controller: Controller) -> Result<Machine> {
        assert!((1..=MAX_CPUS).contains(&cpus), "plans have 1 to {MAX_CPUS} executors");
        let Vm { fd: vm, memory, cpuid, mcg_cap } = Vm::new(cpus, controller)?;
        memory.write(layout::SMI_HANDLER, &SMI_HANDLER)?;
        let vcpus =
            (0..cpus).map(|index| Vcpu::new(&vm, index, &cpuid, mcg_cap)).collect::<Result<_, _>>()?;
        let mut machine = Machine {
            vcpus,
            vm,
            memory,
            image: Image::embedded()?,
            backing,
            guard: Guard::new()?,
            doorbells: [None; 256],
            assists: Assists::default(),
            real_smis: false,
        };
        machine.set_handlers()?;
        Ok(machine)
    }

    /// Prepares the machine for a plan: programs, gates, site pages, landing pads. Page tables do not change.
    pub fn reset(&mut self, plan: &Plan) -> Result<()> {
        self.image.set_programs(&plan.programs);
        self.memory.write(va::PROGRAM, &plan.programs.code)?;
        // All gates: ring-0 code of an earlier plan may have written to the IDT.
        self.set_handlers()?;
        let pick = |site, with, without| if site { with } else { without };
        self.set_handler(vector::NMI, pick(plan.events.nmi_runs_site, "nmi_site", "nmi_plain"))?;
        self.set_handler(vector::IRQ, pick(plan.events.irq_runs_site, "irq_site", "irq_plain"))?;
        self.set_handler(vector::MC, pick(plan.events.mce_runs_site, "mc_site", "mc_plain"))?;
        self.set_handler(
            vector::BP,
            match plan.handler.variant {
                // A program's gate is set below.
                HandlerVariant::Plain | HandlerVariant::Program => "bp_plain",
                HandlerVariant::Counting => "bp_counting",
                HandlerVariant::Traced => "bp_traced",
            },
        )?;
        for (vector, label) in &plan.programs.gates {
            self.set_handler(*vector, label)?;
        }
        if plan.handler.interrupts {
            tables::leave_interrupts(&self.memory, vector::BP)?;
        }
        let filler = [FILLER; PAGE as usize];
        self.memory.write(layout::LANDING, &filler)?;
        let page = initial_text(plan);
        self.memory.write(layout::MASTER, &page)?;
        for slot in 0..self.slots() {
            self.memory.write(CpuPages::of(slot).view, &page)?;
        }
        for pad in plan.pads.iter().filter(|pad| !in_site_pages(pad.address)) {
            self.memory.write(layout::LANDING + pad.address % PAGE, &pad_code(pad.mark))?;
        }
        Ok(())
    }

    fn slots(&self) -> usize {
        match self.backing {
            Backing::PerRing => 1,
            Backing::PerSlot => self.vcpus.len(),
        }
    }

    /// Points every gate to its plain handler.
    fn set_handlers(&mut self) -> Result<()> {
        for (number, name) in HANDLERS {
            self.set_handler(number, name)?;
        }
        Ok(())
    }

    /// Points the gate of a vector to one of the image's handlers.
    fn set_handler(&mut self, vector: u8, name: &str) -> Result<()> {
        let entry = self.image.label(name)?;
        self.doorbells[usize::from(vector)] = Some(entry);
        tables::gate(&self.memory, vector, entry)
    }

    /// The guest image.
    pub fn image(&self) -> &Image {
        &self.image
    }

    /// Decides whether SMIs are raised in KVM or modelled, which is the default. All that is architecturally visible of
    /// a modelled one is that its RSM serialises.
    pub fn set_real_smis(&mut self, real: bool) {
        self.real_smis = real;
    }

    /// Counts of steps, and of those with which the host assisted.
    pub fn assists(&self) -> Assists {
        self.assists
    }

    /// Writes a vCPU's private state.
    pub fn write_private(&mut self, slot: usize, cpu: &Cpu) -> Result<()> {
        self.memory.write(CpuPages::of(slot).private, &cpu.private[..])
    }

    /// Steps on from `regs` with the private memory that this slot's own steps left behind, as live replay does.
    pub fn continue_step(&mut self, slot: usize, regs: &Regs, stimulus: Stimulus) -> Result<(Cpu, Landing)> {
        let (regs, landing) = self.step_regs(slot, regs, stimulus)?;
        self.finish(slot, regs, landing)
    }

    /// Writes the shared state.
    pub fn write_shared(&mut self, state: &Shared) -> Result<()> {
        self.memory.write(layout::SHARED, state)
    }

    /// Reads the shared state.
    pub fn read_shared(&self) -> Result<Shared> {
        let mut state = [0; SHARED_LEN];
        self.memory.read(layout::SHARED, &mut state)?;
        Ok(state)
    }

    /// Writes to a vCPU's view of the site pages.
    pub fn write_view(&mut self, slot: usize, address: u64, bytes: &[u8]) -> Result<()> {
        self.memory.write(CpuPages::of(slot).view + (address - va::SITE), bytes)
    }

    /// Writes to the master copy of the site pages, as a patcher does.
    pub fn write_master(&mut self, address: u64, bytes: &[u8]) -> Result<()> {
        self.memory.write(layout::MASTER + (address - va::SITE), bytes)
    }

    /// Reads the master copy of the site pages.
    pub fn read_master(&self, address: u64, bytes: &mut [u8]) -> Result<()> {
        self.memory.read(layout::MASTER + (address - va::SITE), bytes)
    }

    /// Writes one of the words that a scenario names, of a vCPU.
    pub fn write_word(&mut self, slot: usize, word: u8, value: u32) -> Result<()> {
        let at = CpuPages::of(slot).private + crossmod_abi::private::WORD + 4 * u64::from(word);
        self.memory.write(at, &value.to_le_bytes())
    }

    /// Clears the acknowledgement word of a vCPU, as a broadcast does.
    pub fn clear_ack(&mut self, slot: usize) -> Result<()> {
        self.memory.write(CpuPages::of(slot).private + crossmod_abi::private::ACK, &[0; 4])
    }

    /// Reads a vCPU's private state, including dead bytes.
    pub fn read_private(&self, slot: usize) -> Result<Arc<[u8; PRIVATE_LEN]>> {
        let mut bytes = [0; PRIVATE_LEN];
        self.memory.read(CpuPages::of(slot).private, &mut bytes)?;
        Ok(Arc::new(bytes))
    }
}
