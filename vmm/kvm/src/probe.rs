//! Finds out what this host can do by trying it.

use std::sync::OnceLock;

use crossmod_abi::{va, vector};
use crossmod_model::layout::FILLER;
use crossmod_model::plan::{Action, Code, Events, Handler, HandlerVariant, Part, Plan, Programs, Ring, Site};
use crossmod_model::step::{Landing, Stimulus};
use crossmod_model::x86::VendorRule;
use crossmod_model::x86::cpu::Cpu;
use crossmod_model::x86::decode;
use iced_x86::Mnemonic;
use kvm_bindings::kvm_msi;
use kvm_ioctls::Cap;
use serde::Serialize;

use super::capabilities::{Ability, Capabilities, Feature};
use super::layout::CpuPages;
use super::machine::Backing;
use super::vcpu::Exit;
use super::vm::{Controller, open};
use super::{Machine, MachineError, Result};

/// A fact about this host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fact {
    /// The question.
    pub question: String,
    /// The answer.
    pub answer: String,
    /// The consequence for Crossmod.
    pub consequence: String,
    /// False if exploration cannot run because of it.
    pub usable: bool,
}

/// All facts about this host. An error means that there is no usable KVM.
pub fn probe() -> Result<Vec<Fact>> {
    let kvm = open()?;
    let mut facts = vec![
        fact("KVM API", kvm.get_api_version().to_string(), "12 is the only version"),
        fact(
            "state through the kvm_run page (KVM_CAP_SYNC_REGS)",
            format!("mask {:#x}", kvm.check_extension_int(Cap::SyncRegs)),
            "transfers registers, segments and events without ioctls; 0x7 is needed",
        ),
        fact(
            "recommended and maximum number of vCPUs",
            format!("{} and {}", kvm.get_nr_vcpus(), kvm.get_max_vcpus()),
            "exploration steps one vCPU at a time, so that eight executors work with any number of cores",
        ),
    ];
    let capabilities = capabilities()?;
    facts.extend(Feature::ALL.into_iter().map(|feature| Fact {
        question: feature.to_string(),
        answer: match capabilities.ability(feature) {
            Ability::Works => "works".into(),
            Ability::HostHelps => "KVM cannot emulate it".into(),
            Ability::Missing(why) => format!("no: {why}"),
        },
        consequence: consequence(feature, capabilities.ability(feature)).into(),
        usable: feature.optional() || capabilities.has(feature),
    }));
    for (name, code) in [
        ("MFENCE at ring 0", &[0x0f, 0xae, 0xf0][..]),
        ("LFENCE at ring 0", &[0x0f, 0xae, 0xe8]),
        ("SERIALIZE at ring 0", &[0x0f, 0x01, 0xe8]),
    ] {
        let missing = scratch()?.cannot_execute(va::SITE + 0x100, code, Ring::Kernel)?;
        let answer = missing.map_or("works".into(), |why| format!("no: {why}"));
        facts.push(fact(
            name,
            answer,
            "without it, scenarios with this instruction at their site are skipped",
        ));
    }
    let answer = match Machine::message() {
        Ok(()) => "works".into(),
        Err(error @ MachineError::Interrupted) => return Err(error),
        Err(error) => format!("no: {error}"),
    };
    facts.push(fact(
        "in-kernel interrupt controller, NMI by message",
        answer,
        "stress and bench need it; exploration injects all events",
    ));
    Ok(facts)
}

/// What this host can do. The first call of a process finds out.
pub fn capabilities() -> Result<Capabilities> {
    static KNOWN: OnceLock<Capabilities> = OnceLock::new();
    if let Some(known) = KNOWN.get() {
        return Ok(known.clone());
    }
    let mut entries = Vec::new();
    let mut machine = scratch()?;
    for feature in Feature::ALL {
        machine.reset(&tiny())?;
        let ability = ability(&mut machine, feature)?;
        if matches!(ability, Ability::Missing(_)) {
            // A failure may leave a vCPU in any state.
            machine = scratch()?;
        }
        entries.push((feature, ability));
    }
    Ok(KNOWN.get_or_init(|| Capabilities::new(entries)).clone())
}

/// Tries a feature.
fn ability(machine: &mut Machine, feature: Feature) -> Result<Ability> {
    let helped = machine.assists().completed_breakpoints;
    let result = match feature {
        Feature::Step(ring) => step(machine, ring),
        Feature::Breakpoint(ring) => breakpoint(machine, ring),
        Feature::Nmi(ring) => there_and_back(machine, ring, Stimulus::Nmi, vector::NMI),
        Feature::NmiMask => nmi_mask(machine),
        Feature::Interrupt(ring) => {
            there_and_back(machine, ring, Stimulus::Interrupt(vector::IRQ), vector::IRQ)
        }
        Feature::Serialise => match machine.cannot_execute(NOP, &[0x0f, 0x22, 0xd0], Ring::Kernel)? {
            Some(why) => Ok(Err(why)),
            None => Ok(Ok(())),
        },
        Feature::MachineCheck(ring) => there_and_back(machine, ring, Stimulus::MachineCheck, vector::MC),
        Feature::Smi => smi(machine),
    };
    Ok(match result {
        Ok(Ok(())) if machine.assists().completed_breakpoints > helped => Ability::HostHelps,
        Ok(Ok(())) => Ability::Works,
        Ok(Err(why)) => Ability::Missing(why),
        Err(error @ MachineError::Interrupted) => return Err(error),
        Err(MachineError::Unavailable(what)) => Ability::Missing(format!("KVM lacks {what}")),
        Err(error) => Ability::Missing(error.to_string()),
    })
}

/// The result of a try: it works, or the reason why not.
type Tried = Result<Result<(), String>>;

/// Address of a NOP, which an INT3 follows.
const NOP: u64 = va::SITE + 0x100;

fn scratch() -> Result<Machine> {
    let mut machine = Machine::oracle()?;
    machine.reset(&tiny())?;
    Ok(machine)
}

fn start(rip: u64, ring: Ring) -> Cpu {
    Cpu::at(rip, NOP, 1, ring == Ring::User)
}

fn holds(good: bool, otherwise: impl FnOnce() -> String) -> Tried {
    Ok(if good { Ok(()) } else { Err(otherwise()) })
}

fn step(machine: &mut Machine, ring: Ring) -> Tried {
    let (cpu, landing) = machine.step(0, &start(NOP, ring), Stimulus::Instruction)?;
    holds(landing == Landing::Boundary && cpu.regs.rip == NOP + 1, || {
        format!("a step over a NOP ended at {:#x}, {landing:?}", cpu.regs.rip)
    })
}

fn breakpoint(machine: &mut Machine, ring: Ring) -> Tried {
    let (_, landing) = machine.step(0, &start(NOP + 1, ring), Stimulus::Breakpoint)?;
    holds(landing == Landing::Handler(vector::BP), || format!("it ended in {landing:?}"))
}

/// Delivers an event, steps through its handler, and expects to be where it came from, with nothing changed.
fn there_and_back(machine: &mut Machine, ring: Ring, event: Stimulus, number: u8) -> Tried {
    const LONGEST: usize = 32;
    let before = start(NOP, ring);
    let (mut cpu, landing) = machine.step(0, &before, event)?;
    if landing != Landing::Handler(number) {
        return Ok(Err(format!("the delivery ended in {landing:?}")));
    }
    for _ in 0..LONGEST {
        let rip = cpu.regs.rip;
        let Some(instruction) = decode::decode(machine.image().code(rip), rip) else { break };
        let back = instruction.mnemonic() == Mnemonic::Iretq;
        let stimulus = if back { Stimulus::InstructionTo(NOP) } else { Stimulus::Instruction };
        cpu = machine.step(0, &cpu, stimulus)?.0;
        if back {
            return holds(cpu == before, || "its handler returned to another state".into());
        }
    }
    Ok(Err("its handler does not return".into()))
}

fn nmi_mask(machine: &mut Machine) -> Tried {
    let (cpu, _) = machine.step(0, &start(NOP, Ring::Kernel), Stimulus::Nmi)?;
    if !cpu.regs.nmi_masked {
        return Ok(Err("a delivered NMI does not block the next one".into()));
    }
    let mut masked = start(NOP + 2, Ring::Kernel); // filler: #UD
    masked.regs.nmi_masked = true;
    let (_, landing) = machine.step(0, &masked, Stimulus::Nmi)?;
    holds(landing == Landing::Handler(vector::UD), || format!("a blocked NMI ended in {landing:?}"))
}

fn smi(machine: &mut Machine) -> Tried {
    machine.set_real_smis(true);
    for ring in [Ring::Kernel, Ring::User] {
        let before = start(NOP, ring);
        let (after, landing) = machine.step(0, &before, Stimulus::Smi)?;
        if after != before || landing != Landing::Boundary {
            return Ok(Err(format!("at ring {} it returned to another state", ring.number())));
        }
    }
    Ok(Ok(()))
}

impl Machine {
    /// The reason why a valid instruction cannot be executed here, if any: KVM cannot emulate it, or the CPU lacks it.
    /// The machine needs a reset afterwards.
    pub fn cannot_execute(&mut self, address: u64, bytes: &[u8], ring: Ring) -> Result<Option<String>> {
        let cpu = start(address, ring);
        let Some(instruction) = decode::decode(bytes, address) else { return Ok(None) };
        if decode::is_int3(&instruction)
            || matches!(instruction.mnemonic(), Mnemonic::Ud0 | Mnemonic::Ud1 | Mnemonic::Ud2)
        {
            return Ok(None);
        }
        let stimulus = if decode::needs_planted_stop(&instruction) {
            match decode::successors(&instruction, &cpu, |_| None).first() {
                Some(&to) => Stimulus::InstructionTo(to),
                None => return Ok(None),
            }
        } else {
            Stimulus::Instruction
        };
        self.write_view(0, address, bytes)?;
        let counted = self.assists;
        let result = self.step(0, &cpu, stimulus);
        self.assists = counted;
        let what = || format!("`{}` at ring {}", decode::format(&instruction), ring.number());
        Ok(match result {
            Ok((_, Landing::Handler(vector::UD))) => Some(format!("the CPU lacks {}", what())),
            Err(MachineError::UnexpectedExit { exit, .. }) if exit.contains("emulation failed") => {
                Some(format!("KVM cannot emulate {}", what()))
            }
            Err(error @ (MachineError::Interrupted | MachineError::Kvm { .. })) => return Err(error),
            // Exploration judges faults and everything else.
            _ => None,
        })
    }

    /// The same for every instruction of a plan's site, at each ring that executes it.
    pub fn cannot_execute_site(&mut self, plan: &Plan) -> Result<Option<String>> {
        self.reset(plan)?;
        let site = &plan.site;
        let events = &plan.events;
        let in_handlers = events.nmi > 0 && events.nmi_runs_site
            || events.irq > 0 && events.irq_runs_site
            || events.mce > 0 && events.mce_runs_site
            || plan.handler.variant == HandlerVariant::Traced;
        for ring in [Ring::Kernel, Ring::User] {
            let runs = plan.executors.iter().any(|executor| executor.ring == ring);
            if !(runs || in_handlers && ring == Ring::Kernel) {
                continue;
            }
            for code in [&site.old, &site.new] {
                for &boundary in &code.boundaries {
                    let at = site.address + boundary as u64;
                    let missing = self.cannot_execute(at, &code.bytes[boundary..], ring)?;
                    if missing.is_some() {
                        return Ok(missing);
                    }
                }
            }
        }
        Ok(None)
    }
}

fn tiny() -> Plan {
    let code = |bytes: &[u8]| Code { bytes: bytes.to_vec(), boundaries: vec![0] };
    Plan {
        name: "probe".into(),
        title: String::new(),
        site: Site {
            address: NOP,
            old: code(&[0x90, 0xcc]),
            new: code(&[FILLER, FILLER]),
            intermediates: Vec::new(),
            parts: vec![Part::whole(2)],
        },
        pads: Vec::new(),
        executors: Vec::new(),
        handler: Handler {
            variant: HandlerVariant::Plain,
            actions: vec![Action::Resume(0)],
            described_at_start: false,
            armed_at_start: false,
            interrupts: false,
        },
        events: Events::default(),
        program: Vec::new(),
        rule: VendorRule::Intel,
        fetch: crossmod_model::fetch::FetchModel::COHERENT,
        memory: crossmod_model::memory::MemoryModel::Sc,
        finals: None,
        unnamed_stores: Vec::new(),
        programs: Programs::default(),
        forbidden: Vec::new(),
        words: Vec::new(),
        each: Vec::new(),
        expect: Vec::new(),
    }
}

fn consequence(feature: Feature, ability: &Ability) -> &'static str {
    let missing = matches!(ability, Ability::Missing(_));
    match feature {
        Feature::Smi if missing => "SMIs are modelled: only the serialising RSM is visible; reports say so",
        Feature::Smi => "SMIs are raised in KVM, enter SMM and return by RSM",
        _ if missing => "scenarios that need it are skipped",
        Feature::Breakpoint(_) if *ability == Ability::HostHelps => {
            "the host completes the #BP delivery itself, and counts it"
        }
        Feature::Breakpoint(_) => "the CPU delivers #BP through the guest's gate",
        Feature::Step(_) => "instructions are stepped one by one with RFLAGS.TF",
        Feature::Nmi(_) | Feature::Interrupt(_) => "delivered at chosen boundaries, through the guest's gate",
        Feature::NmiMask => "NMIs stay blocked from a delivery until IRET",
        Feature::Serialise => "the guest's handlers serialise with it",
        Feature::MachineCheck(_) => "raised with KVM_X86_SET_MCE at chosen boundaries",
    }
}

fn fact(question: &str, answer: String, consequence: &str) -> Fact {
    Fact { question: question.into(), answer, consequence: consequence.into(), usable: true }
}

impl Machine {
    /// Sends an NMI to a vCPU through the interrupt controller in the kernel.
    fn message() -> Result<()> {
        let mut machine = Machine::new(1, Backing::PerSlot, Controller::InKernel)?;
        machine.reset(&tiny())?;
        let before = start(NOP, Ring::Kernel);
        machine.write_private(0, &before)?;
        let vcpu = &mut machine.vcpus[0];
        vcpu.restore(CpuPages::of(0).pml4, &before.regs, None)?;
        // KVM must take the state now: later that would cancel the NMI.
        vcpu.settle()?;
        vcpu.announce()?;
        // SDM vol. 3, 11.11: delivery mode NMI, to the local APIC with ID 0.
        let message = kvm_msi { address_lo: 0xfee0_0000, data: 4 << 8, ..kvm_msi::default() };
        let takers = machine.vm.signal_msi(message).map_err(MachineError::kvm("KVM_SIGNAL_MSI"))?;
        if takers < 1 {
            return Err(MachineError::Unavailable(format!("a vCPU that accepts it ({takers})")));
        }
        match machine.vcpus[0].run(&machine.guard, NOP)? {
            Exit::Doorbell(vector::NMI) => Ok(()),
            exit => Err(MachineError::Unavailable(format!("delivery: it ended in {exit:?}"))),
        }
    }
}
