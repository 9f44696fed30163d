//! What this host can do, found out by doing it.

use crossmod_abi::{va, vector};
use kvm_ioctls::{Cap, Kvm};
use serde::Serialize;

use super::{FILLER, Landing, Machine, MachineError, Stimulus, open};
use crate::cpu::Cpu;
use crate::plan::{Action, Code, Events, Handler, HandlerVariant, Plan, Site, VendorRule};

/// One fact with what follows from it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fact {
    /// What was asked.
    pub question: &'static str,
    /// The answer.
    pub answer: String,
    /// What follows for Crossmod.
    pub consequence: String,
    /// False if exploration cannot run because of it.
    pub usable: bool,
}

/// Asks everything. An error means that there is no KVM at all.
pub fn probe() -> Result<Vec<Fact>, MachineError> {
    let kvm = open()?;
    let mut facts = vec![fact("KVM API", kvm.get_api_version().to_string(), "12 is the only one there is")];
    capabilities(&kvm, &mut facts);
    let serialize = cpuid_edx(&kvm, 7, 14);
    facts.push(fact(
        "SERIALIZE instruction",
        yes(serialize),
        "scenarios use MOV to CR2 and IRET to serialise, which every CPU has",
    ));
    stepping(&mut facts)?;
    Ok(facts)
}

fn capabilities(kvm: &Kvm, facts: &mut Vec<Fact>) {
    facts.push(fact(
        "state through the kvm_run page (KVM_CAP_SYNC_REGS)",
        format!("mask {:#x}", kvm.check_extension_int(Cap::SyncRegs)),
        "registers, segments and events travel without ioctls; 0x7 is needed",
    ));
    let irqchip = kvm.check_extension(Cap::Irqchip);
    facts.push(fact("in-kernel irqchip", yes(irqchip), "not used to explore: all events are injected"));
    facts.push(fact(
        "NMI by message (KVM_CAP_SIGNAL_MSI)",
        yes(kvm.check_extension(Cap::SignalMsi)),
        "not used to explore",
    ));
    facts.push(fact(
        "SMM (KVM_CAP_X86_SMM)",
        yes(kvm.check_extension(Cap::X86Smm)),
        "no shipped scenario raises an SMI",
    ));
    facts.push(fact(
        "recommended and most vCPUs",
        format!("{} and {}", kvm.get_nr_vcpus(), kvm.get_max_vcpus()),
        "exploring steps one vCPU at a time: eight executors work with any number of cores",
    ));
}

/// Tries the stepper's primitives on a site of one NOP and one INT3.
fn stepping(facts: &mut Vec<Fact>) -> Result<(), MachineError> {
    let plan = tiny();
    let mut machine = Machine::oracle()?;
    machine.reset(&plan)?;
    for (user, ring) in [(false, "ring 0"), (true, "ring 3")] {
        let at = |offset: u64| Cpu::at(plan.site.address + offset, plan.site.address, 1, user);
        let nop = machine.step(0, &at(0), Stimulus::Instruction);
        let good = matches!(&nop, Ok((cpu, Landing::Boundary)) if cpu.regs.rip == plan.site.address + 1);
        facts.push(Fact {
            question: if user { "single step at ring 3" } else { "single step at ring 0" },
            answer: answer(good, nop.as_ref().err()),
            consequence: if good {
                format!("instructions at {ring} are stepped one by one by RFLAGS.TF")
            } else {
                format!("executors at {ring} cannot be explored here")
            },
            usable: good,
        });
        let before = machine.assists().completed_breakpoints;
        let trap = machine.step(0, &at(1), Stimulus::Breakpoint);
        let good = matches!(&trap, Ok((_, Landing::Handler(vector::BP))));
        let helped = machine.assists().completed_breakpoints > before;
        facts.push(Fact {
            question: if user { "INT3 at ring 3" } else { "INT3 at ring 0" },
            answer: if helped { "KVM cannot emulate it".into() } else { answer(good, trap.as_ref().err()) },
            consequence: if helped {
                "the host completes the #BP delivery itself, and counts it".into()
            } else {
                "the CPU delivers #BP through the guest's gate".into()
            },
            usable: good,
        });
    }
    let nmi = machine.step(0, &Cpu::at(plan.site.address, plan.site.address, 1, false), Stimulus::Nmi);
    let masked = matches!(&nmi, Ok((cpu, Landing::Handler(vector::NMI))) if cpu.regs.nmi_masked);
    facts.push(Fact {
        question: "NMI injection and masking",
        answer: answer(masked, nmi.as_ref().err()),
        consequence: "NMIs are delivered at chosen boundaries and stay blocked until IRET".into(),
        usable: masked,
    });
    Ok(())
}

fn tiny() -> Plan {
    let code = |bytes: &[u8]| Code { bytes: bytes.to_vec(), boundaries: vec![0] };
    Plan {
        name: "probe".into(),
        title: String::new(),
        site: Site {
            address: va::SITE + 0x100,
            old: code(&[0x90, 0xcc]),
            new: code(&[FILLER, FILLER]),
            intermediates: Vec::new(),
        },
        pads: Vec::new(),
        executors: Vec::new(),
        handler: Handler { variant: HandlerVariant::Plain, action: Action::Resume(0), armed_at_start: false },
        events: Events { nmi: 0, nmi_runs_site: false, irq: 0, irq_runs_site: false },
        program: Vec::new(),
        rule: VendorRule::Intel,
        fetch: crate::fetch::FetchModel::COHERENT,
        expect: Vec::new(),
    }
}

fn cpuid_edx(kvm: &Kvm, function: u32, bit: u32) -> bool {
    kvm.get_supported_cpuid(kvm_bindings::KVM_MAX_CPUID_ENTRIES).is_ok_and(|cpuid| {
        cpuid
            .as_slice()
            .iter()
            .any(|entry| entry.function == function && entry.index == 0 && entry.edx & (1 << bit) != 0)
    })
}

fn fact(question: &'static str, answer: String, consequence: &str) -> Fact {
    Fact { question, answer, consequence: consequence.into(), usable: true }
}

fn yes(is: bool) -> String {
    if is { "yes".into() } else { "no".into() }
}

fn answer(good: bool, error: Option<&MachineError>) -> String {
    match error {
        Some(error) => error.to_string(),
        None if good => "works".into(),
        None => "does not do what it should".into(),
    }
}
