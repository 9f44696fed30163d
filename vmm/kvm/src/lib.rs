//! The only door to KVM: a machine with one memory and up to eight vCPUs that see the same addresses.
//!
//! A machine is made once and reset for each scenario. Page tables never change after the first run.

mod capabilities;
mod error;
pub mod free;
pub mod host;
mod image;
mod kick;
mod layout;
mod mce;
mod memory;
mod pin;
mod probe;
mod step;
mod tables;
mod vcpu;
mod vm;

use crossmod_abi::{PAGE, port, va, vector};
use kvm_ioctls::{Cap, Kvm, VmFd};

pub use capabilities::{Ability, Capabilities, Feature, needed};
pub use error::MachineError;
pub use kick::{RUN_LIMIT, catch_signals, request_stop, stop_requested};
pub use pin::{allowed_cpus, pin};
pub use probe::{Fact, capabilities, probe};
pub use step::Assists;

use crossmod_model::image::Image;
use crossmod_model::layout::{FILLER, MAX_CPUS, SHARED_LEN, Shared, in_site_pages, initial_text, pad_code};
use crossmod_model::plan::{HandlerVariant, Plan};
use crossmod_model::step::{Landing, Stimulus};
use crossmod_model::x86::cpu::{Cpu, PRIVATE_LEN, Regs};

use kick::Guard;
use layout::CpuPages;
use memory::Memory;
use vcpu::Vcpu;
use vm::{Controller, Vm};

/// The gates, each with its plain handler.
const HANDLERS: [(u8, &str); 16] = [
    (vector::DE, "de_stub"),
    (vector::DB, "db_stub"),
    (vector::UD, "ud_stub"),
    (vector::DF, "df_stub"),
    (vector::GP, "gp_stub"),
    (vector::PF, "pf_stub"),
    (vector::IPI_SYNC, "ipi_sync"),
    (vector::IPI_ACK_FIRST, "ipi_ack_first"),
    (vector::IPI_ACK_ONLY, "ipi_ack_only"),
    (vector::IPI_HOLD, "ipi_hold"),
    (vector::IPI_STOP, "ipi_stop"),
    (vector::IPI_EARLY, "ipi_early"),
    (vector::NMI, "nmi_plain"),
    (vector::IRQ, "irq_plain"),
    (vector::BP, "bp_plain"),
    (vector::MC, "mc_plain"),
];

/// `out SMM, al; rsm`, in the real mode of SMM.
const SMI_HANDLER: [u8; 4] = [0xe6, port::SMM, 0x0f, 0xaa];

/// How KVM vCPUs serve slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Backing {
    /// One KVM vCPU for each ring executes for every slot: the oracle. Switching KVM's single-step costs an
    /// ioctl, so a ring keeps its own.
    PerRing,
    /// Slot *i* is KVM vCPU *i*: live replay.
    PerSlot,
}

/// A virtual machine for exploration: no interrupt controller, all events injected.
pub struct Machine {
    // Field order is drop order: vCPUs, then the VM, then its memory.
    vcpus: Vec<Vcpu>,
    vm: VmFd,
    memory: Memory,
    image: Image,
    backing: Backing,
    guard: Guard,
    /// Entry of the handler that rings the doorbell with this number.
    doorbells: [Option<u64>; 256],
    assists: Assists,
    real_smis: bool,
}

impl Machine {
    /// A machine whose one slot executes transitions for every executor of a scenario.
    pub fn oracle() -> Result<Machine, MachineError> {
        Machine::new(2, Backing::PerRing, false)
    }

    /// A machine with one KVM vCPU for each of `slots` executors.
    pub fn live(slots: usize) -> Result<Machine, MachineError> {
        Machine::new(slots, Backing::PerSlot, false)
    }

    fn new(cpus: usize, backing: Backing, interrupt_controller: bool) -> Result<Machine, MachineError> {
        assert!((1..=MAX_CPUS).contains(&cpus), "plans have 1 to {MAX_CPUS} executors");
        let controller = if interrupt_controller { Controller::InKernel } else { Controller::None };
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

    /// Makes the machine ready for a plan: gates, landing pads, filler. Contents only; tables stay.
    pub fn reset(&mut self, plan: &Plan) -> Result<(), MachineError> {
        self.image.set_programs(&plan.programs);
        self.memory.write(va::PROGRAM, &plan.programs.code)?;
        // All of them: ring-0 code of an earlier plan may have written to the IDT.
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
        let filler = [FILLER; PAGE as usize];
        self.memory.write(layout::LANDING, &filler)?;
        let page = initial_text(plan);
        self.memory.write(layout::MASTER, &page)?;
        for slot in 0..self.slots() {
            self.memory.write(CpuPages::of(slot).view(), &page)?;
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
    fn set_handlers(&mut self) -> Result<(), MachineError> {
        for (number, name) in HANDLERS {
            self.set_handler(number, name)?;
        }
        Ok(())
    }

    /// Points the gate of a vector to one of the image's handlers.
    fn set_handler(&mut self, vector: u8, name: &str) -> Result<(), MachineError> {
        let entry = self.image.label(name)?;
        self.doorbells[usize::from(vector)] = Some(entry);
        tables::gate(&self.memory, vector, entry)
    }

    /// The guest image.
    pub fn image(&self) -> &Image {
        &self.image
    }

    /// Whether an SMI is raised in KVM, or modelled: without SMM there, which is how a machine begins, all that
    /// is architecturally visible of one is that its RSM serialises.
    pub fn set_real_smis(&mut self, real: bool) {
        self.real_smis = real;
    }

    /// What the host had to do by itself so far.
    pub fn assists(&self) -> Assists {
        self.assists
    }

    /// Writes a vCPU's private state.
    pub fn write_private(&mut self, slot: usize, cpu: &Cpu) -> Result<(), MachineError> {
        self.memory.write(CpuPages::of(slot).private(), &cpu.private[..])
    }

    /// Goes on from `regs` with the memory that this slot's own steps left behind, as live replay does.
    pub fn continue_step(
        &mut self,
        slot: usize,
        regs: &Regs,
        stimulus: Stimulus,
    ) -> Result<(Cpu, Landing), MachineError> {
        let (regs, landing) = self.step_regs(slot, regs, stimulus)?;
        self.finish(slot, regs, landing)
    }

    /// Writes the shared state.
    pub fn write_shared(&mut self, state: &Shared) -> Result<(), MachineError> {
        self.memory.write(layout::SHARED, state)
    }

    /// Reads the shared state.
    pub fn read_shared(&self) -> Result<Shared, MachineError> {
        let mut state = [0; SHARED_LEN];
        self.memory.read(layout::SHARED, &mut state)?;
        Ok(state)
    }

    /// Writes what a vCPU is to see at an address of the site pages.
    pub fn write_view(&mut self, slot: usize, address: u64, bytes: &[u8]) -> Result<(), MachineError> {
        self.memory.write(CpuPages::of(slot).view() + (address - va::SITE), bytes)
    }

    /// Writes text as a patcher does: into the master copy.
    pub fn write_master(&mut self, address: u64, bytes: &[u8]) -> Result<(), MachineError> {
        self.memory.write(layout::MASTER + (address - va::SITE), bytes)
    }

    /// The bytes of the site in the master copy.
    pub fn read_master(&self, address: u64, bytes: &mut [u8]) -> Result<(), MachineError> {
        self.memory.read(layout::MASTER + (address - va::SITE), bytes)
    }

    /// Writes one of a vCPU's words that a scenario names.
    pub fn write_word(&mut self, slot: usize, word: u8, value: u32) -> Result<(), MachineError> {
        let at = CpuPages::of(slot).private() + crossmod_abi::private::WORD + 4 * u64::from(word);
        self.memory.write(at, &value.to_le_bytes())
    }

    /// Clears the acknowledgement word of a vCPU, as a broadcast does.
    pub fn clear_ack(&mut self, slot: usize) -> Result<(), MachineError> {
        self.memory.write(CpuPages::of(slot).private() + crossmod_abi::private::ACK, &[0; 4])
    }

    /// Reads a vCPU's private state as it stands, dead bytes and all.
    pub fn read_private(&self, slot: usize) -> Result<Box<[u8; PRIVATE_LEN]>, MachineError> {
        let mut bytes = Box::new([0; PRIVATE_LEN]);
        self.memory.read(CpuPages::of(slot).private(), &mut bytes[..])?;
        Ok(bytes)
    }
}

fn open() -> Result<Kvm, MachineError> {
    let kvm = Kvm::new().map_err(|error| MachineError::NoKvm {
        reason: match error.errno() {
            libc::ENOENT => {
                "it does not exist (no KVM module loaded, or a machine without virtualisation)".into()
            }
            libc::EACCES | libc::EPERM => {
                "permission denied (run as root, or join the group that owns it)".into()
            }
            libc::ENODEV | libc::ENXIO => "the device has no driver behind it".into(),
            _ => error.to_string(),
        },
    })?;
    let version = kvm.get_api_version();
    match version {
        12 => {}
        ..0 => return Err(MachineError::NoKvm { reason: "what stands there is not KVM".into() }),
        _ => return Err(MachineError::NoKvm { reason: format!("API version {version}, 12 is needed") }),
    }
    for (cap, name) in [(Cap::UserMemory, "KVM_CAP_USER_MEMORY"), (Cap::SyncRegs, "KVM_CAP_SYNC_REGS")] {
        if !kvm.check_extension(cap) {
            return Err(MachineError::Unavailable(name.into()));
        }
    }
    if kvm.check_extension_int(Cap::SyncRegs) & 7 != 7 {
        let what = "KVM_CAP_SYNC_REGS for registers, segments and events";
        return Err(MachineError::Unavailable(what.into()));
    }
    Ok(kvm)
}
