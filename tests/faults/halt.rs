//! The exit of a HLT. Some hosts report it late: it is ignored once, and only where one is due.

use std::sync::Arc;

use crossmod::machine::{Machine, MachineError};
use crossmod::step::{Landing, Stimulus};
use crossmod::x86::cpu::{Cpu, reg};
use crossmod_abi::va;

use super::{SITE, at, machine};
use crate::kvm;

/// Steps a HLT.
fn halt(machine: &mut Machine) -> Result<(), MachineError> {
    machine.write_view(0, SITE, &[0xf4])?;
    let (_, landing) = machine.step(0, &at(SITE, false), Stimulus::Instruction)?;
    assert_eq!(landing, Landing::Boundary);
    Ok(())
}

/// IRETQ to ring 3; returns where that went on.
fn leave(machine: &mut Machine) -> Result<u64, MachineError> {
    machine.write_view(0, SITE, &[0x48, 0xcf])?;
    let mut cpu = at(SITE, false);
    let end = Cpu::at(SITE + 0x20, SITE, 1, true).regs;
    cpu.regs.gpr[reg::RSP] -= 64;
    let frame = (cpu.regs.gpr[reg::RSP] - va::PRIVATE) as usize;
    let words = [end.rip, end.cs.into(), end.rflags, end.gpr[reg::RSP], end.ss.into()];
    for (offset, word) in (frame..).step_by(8).zip(words) {
        Arc::make_mut(&mut cpu.private)[offset..][..8].copy_from_slice(&u64::to_le_bytes(word));
    }
    machine.step(0, &cpu, Stimulus::InstructionTo(end.rip)).map(|(cpu, _)| cpu.regs.rip)
}

fn assert_reported<T>(result: Result<T, MachineError>) {
    assert!(matches!(result, Err(MachineError::UnexpectedExit { exit, .. }) if exit == "HLT"));
}

/// Each of the two kinds of host shows one half of it.
#[test]
fn a_halt_is_passed_over_once_and_only_where_it_is_owed() {
    kvm::required();
    let mut machine = machine(&[0x90]);
    let first = halt(&mut machine);
    if first.is_err() {
        assert_reported(first);
        assert!(!machine.replace_halt_owed(true), "an exit came, and none is owed");
        // Whatever is owed, this one is the instruction's own.
        assert_reported(halt(&mut machine));
        return;
    }
    assert_eq!(leave(&mut machine).unwrap(), SITE + 0x20, "passed over");
    assert!(!machine.replace_halt_owed(false), "it has come");
    // The same exit, when nothing is known of why it comes.
    halt(&mut machine).unwrap();
    assert!(machine.replace_halt_owed(false));
    assert_reported(leave(&mut machine));
    assert_eq!(leave(&mut machine).unwrap(), SITE + 0x20, "nothing lingers");
}
