//! Faults injected into the machine monitor: guest code that breaks the rules, engines that lie, signals. Each
//! ends in an error with a name, and the same machine works afterwards.

mod engine;
mod guest;
mod halt;
mod signals;

use crossmod::layout::FILLER;
use crossmod::machine::{Machine, MachineError};
use crossmod::plan::{Events, HandlerVariant, Plan};
use crossmod::scenario::{self, Options};
use crossmod::step::{Landing, Stimulus};
use crossmod::x86::cpu::{Cpu, Regs};
use crossmod_abi::va;

/// Where the faulty code stands.
const SITE: u64 = va::SITE + 0x100;

/// A plan with one executor whose site has these two versions.
fn plan(old: &[u8], new: &[u8]) -> Plan {
    let library = scenario::library();
    let shipped = library.iter().find(|scenario| scenario.name == "seed/naive-store").expect("shipped");
    let mut plan = shipped.plan(&Options::default()).unwrap();
    plan.site.address = SITE;
    (plan.site.old.bytes, plan.site.old.boundaries) = (old.to_vec(), vec![0]);
    (plan.site.new.bytes, plan.site.new.boundaries) = (new.to_vec(), vec![0]);
    plan.site.intermediates.clear();
    plan.handler.variant = HandlerVariant::Plain;
    plan.events = Events::default();
    plan
}

/// A machine whose site holds these bytes, with NOPs behind them.
fn machine(bytes: &[u8]) -> Machine {
    let mut machine = Machine::oracle().unwrap();
    load(&mut machine, bytes);
    machine
}

fn load(machine: &mut Machine, bytes: &[u8]) {
    machine.reset(&plan(&[0x90], &[0x90])).unwrap();
    machine.write_view(0, va::SITE, &[FILLER; 0x1000]).unwrap();
    machine.write_view(0, SITE, &[0x90; 64]).unwrap();
    machine.write_view(0, SITE, bytes).unwrap();
}

fn at(rip: u64, user: bool) -> Cpu {
    Cpu::at(rip, SITE, 1, user)
}

/// The machine still does what a machine does, at both rings.
fn assert_works(machine: &mut Machine) {
    load(machine, &[0xcc]);
    for user in [false, true] {
        let (cpu, landing) = machine.step(0, &at(SITE + 1, user), Stimulus::Instruction).unwrap();
        assert_eq!((cpu.regs.rip, landing), (SITE + 2, Landing::Boundary), "user {user}");
        let (cpu, landing) = machine.step(0, &at(SITE, user), Stimulus::Breakpoint).unwrap();
        assert_eq!(landing, Landing::Handler(crossmod_abi::vector::BP), "user {user}");
        assert_eq!(cpu.frame(cpu.regs.gpr[4]).unwrap().rip, SITE + 1, "user {user}");
    }
    let (cpu, landing) = machine.step(0, &at(SITE, false), Stimulus::Nmi).unwrap();
    assert_eq!(landing, Landing::Handler(crossmod_abi::vector::NMI));
    assert!(cpu.regs.nmi_masked);
}

/// Without the private page, which is long.
fn brief(result: Result<(Cpu, Landing), MachineError>) -> Result<(Regs, Landing), MachineError> {
    result.map(|(cpu, landing)| (cpu.regs, landing))
}

/// The exit's name, of an error that must be an unexpected exit.
fn exit_of(result: Result<(Cpu, Landing), MachineError>) -> String {
    match result {
        Err(MachineError::UnexpectedExit { exit, .. }) => exit,
        other => panic!("no unexpected exit: {:x?}", brief(other)),
    }
}
