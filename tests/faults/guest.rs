//! Guest code that does what no step may do.

use std::sync::Arc;

use crossmod::machine::MachineError;
use crossmod::step::{Landing, Stimulus};
use crossmod::x86::cpu::reg;
use crossmod_abi::{port, va, vector};

use super::{SITE, assert_works, at, brief, exit_of, load, machine};
use crate::kvm;

#[test]
fn a_triple_fault_has_a_name_and_reset_repairs_what_caused_it() {
    kvm::required();
    // mov [rax], rcx: the guest overwrites its own gates one after the other.
    let mut machine = machine(&[0x48, 0x89, 0x08]);
    for number in [vector::UD, vector::GP, vector::DF] {
        let mut cpu = at(SITE, false);
        cpu.regs.gpr[reg::RAX] = va::IDT + 16 * u64::from(number);
        machine.step(0, &cpu, Stimulus::Instruction).unwrap();
    }
    let filler = SITE + 0x200;
    assert_eq!(
        exit_of(machine.step(0, &at(filler, false), Stimulus::Instruction)),
        "SHUTDOWN (triple fault)"
    );
    assert_works(&mut machine);
    let (_, landing) = machine.step(0, &at(filler, false), Stimulus::Instruction).unwrap();
    assert_eq!(landing, Landing::Handler(vector::UD), "the gate is back");
}

#[test]
fn a_double_fault_has_a_name() {
    kvm::required();
    // push rax without a stack: the #PF has none either.
    let mut machine = machine(&[0x50]);
    let mut cpu = at(SITE, false);
    cpu.regs.gpr[reg::RSP] = 0x7000_0000_0000;
    let exit = exit_of(machine.step(0, &cpu, Stimulus::Instruction));
    assert!(exit.starts_with("double fault"), "{exit}");
    assert_works(&mut machine);
}

/// div ecx with ECX = 0. With a gate of its own: what a missing one leads to is not the same on every CPU, and
/// QEMU's emulation of one raises #GP where others raise #DF.
#[test]
fn a_division_by_zero_is_a_fault_like_any_other() {
    kvm::required();
    let mut machine = machine(&[0xf7, 0xf1]);
    for user in [false, true] {
        let (cpu, landing) = machine.step(0, &at(SITE, user), Stimulus::Instruction).unwrap();
        assert_eq!(landing, Landing::Handler(vector::DE), "user {user}");
        assert_eq!(cpu.frame(cpu.regs.gpr[reg::RSP]).unwrap().rip, SITE, "user {user}");
    }
    assert_works(&mut machine);
}

/// What KVM's emulator refuses is an internal error there, and an instruction like any other on hardware.
#[test]
fn what_kvm_cannot_emulate_has_a_name_and_the_bytes() {
    kvm::required();
    let mut machine = machine(&[]);
    let mut refused = 0;
    for code in [&[0xf3, 0x0f, 0xb8, 0xc1][..], &[0x66, 0x0f, 0xef, 0xc0], &[0x0f, 0x57, 0xc0]] {
        load(&mut machine, code);
        match machine.step(0, &at(SITE, false), Stimulus::Instruction) {
            Ok((cpu, Landing::Boundary)) => assert_eq!(cpu.regs.rip, SITE + code.len() as u64, "{code:02x?}"),
            other => {
                let exit = exit_of(other);
                assert!(exit.starts_with("INTERNAL_ERROR (emulation failed; 0x"), "{exit}");
                refused += 1;
            }
        }
        // Ring 3 is executed by the CPU on every host.
        let (cpu, landing) = machine.step(0, &at(SITE, true), Stimulus::Instruction).unwrap();
        assert_eq!((cpu.regs.rip, landing), (SITE + code.len() as u64, Landing::Boundary), "{code:02x?}");
    }
    eprintln!("this KVM refuses {refused} of 3 at ring 0");
    assert_eq!(machine.assists().completed_breakpoints, 0, "an internal error elsewhere is no INT3");
    assert_works(&mut machine);
}

#[test]
fn an_endless_loop_is_ended_and_what_was_planted_is_taken_away() {
    kvm::required();
    let mut machine = machine(&[0xeb, 0xfe]);
    let result = machine.step(0, &at(SITE, true), Stimulus::InstructionTo(SITE + 0x20));
    let Err(MachineError::Endless { from, .. }) = result else { panic!("{:x?}", brief(result)) };
    assert_eq!(from, SITE);
    let (cpu, _) = machine.step(0, &at(SITE + 0x20, true), Stimulus::Instruction).unwrap();
    assert_eq!(cpu.regs.rip, SITE + 0x21, "a NOP, and no doorbell");
    // At ring 0 some hosts execute one iteration instead. Either way the loop is where it was.
    match machine.step(0, &at(SITE, false), Stimulus::InstructionTo(SITE + 0x20)) {
        Ok((cpu, Landing::Boundary)) => assert_eq!(cpu.regs.rip, SITE),
        Err(MachineError::Endless { from, .. }) => assert_eq!(from, SITE),
        other => panic!("{:x?}", brief(other)),
    }
    // With TF it is an instruction like any other.
    for user in [false, true] {
        let (cpu, landing) = machine.step(0, &at(SITE, user), Stimulus::Instruction).unwrap();
        assert_eq!((cpu.regs.rip, landing), (SITE, Landing::Boundary), "user {user}");
    }
    assert_works(&mut machine);
}

/// Ports are what guest code can reach that is not memory: every guest-virtual address that is mapped is
/// backed by memory, so that an MMIO exit cannot be caused from inside.
#[test]
fn foreign_io_has_a_name_and_does_not_leak_into_the_next_step() {
    kvm::required();
    let mut machine = machine(&[]);
    for (code, number, name, rings) in [
        (&[0xec][..], 0x80, "IO (in from port 0x80)", &[false, true][..]), // in al, dx
        (&[0xed], 0x80, "IO (in from port 0x80)", &[false, true]),         // in eax, dx
        (&[0xee], 0x3f8, "IO (out to port 0x3f8)", &[false]),              // out dx, al
    ] {
        for &user in rings {
            load(&mut machine, code);
            let mut cpu = at(SITE, user);
            cpu.regs.gpr[2] = number;
            assert_eq!(exit_of(machine.step(0, &cpu, Stimulus::Instruction)), name, "user {user}");
            // KVM still owes that instruction its result: it must not reach another state.
            for address in [SITE, SITE + 8] {
                machine.write_view(0, address, &[0x0f, 0x1f, 0x44, 0, 0]).unwrap();
                let before = at(address, user);
                let (after, _) = machine.step(0, &before, Stimulus::Instruction).unwrap();
                assert_eq!(after.regs.rip, address + 5, "{name}, user {user}");
                assert_eq!(after.regs.gpr, before.regs.gpr, "{name}, user {user}");
            }
        }
    }
    assert_works(&mut machine);
}

#[test]
fn hlt_stops_no_vcpu_at_ring_0_and_faults_at_ring_3() {
    kvm::required();
    let mut machine = machine(&[0xf4]);
    // Some hosts end the single step before the halt: then it is an instruction that did nothing.
    match machine.step(0, &at(SITE, false), Stimulus::Instruction) {
        Ok((cpu, Landing::Boundary)) => assert_eq!(cpu.regs.rip, SITE + 1),
        other => assert_eq!(exit_of(other), "HLT"),
    }
    let (_, landing) = machine.step(0, &at(SITE, true), Stimulus::Instruction).unwrap();
    assert_eq!(landing, Landing::Handler(vector::GP));
    assert_works(&mut machine);
}

/// A KVM that steps over a HLT may remember it, and halt where another state's instruction is.
#[test]
fn a_halt_that_was_stepped_over_does_not_come_later() {
    kvm::required();
    const IRETQ: [u8; 2] = [0x48, 0xcf];
    for halt in [&[0xf4][..], &[0x66, 0xf4], &[0x2e, 0x48, 0xf4]] {
        let mut machine = machine(halt);
        for user in [false, true] {
            let _ = machine.step(0, &at(SITE, false), Stimulus::Instruction);
            load(&mut machine, &IRETQ);
            let mut cpu = at(SITE, false);
            let end = at(SITE, user).regs;
            let frame = cpu.regs.gpr[reg::RSP] - 64;
            let words = [SITE + 0x20, end.cs.into(), end.rflags, end.gpr[reg::RSP], end.ss.into()];
            for (offset, word) in (frame - va::PRIVATE..).step_by(8).zip(words) {
                Arc::make_mut(&mut cpu.private)[offset as usize..][..8]
                    .copy_from_slice(&u64::to_le_bytes(word));
            }
            cpu.regs.gpr[reg::RSP] = frame;
            let (after, landing) = machine.step(0, &cpu, Stimulus::InstructionTo(SITE + 0x20)).unwrap();
            assert_eq!(
                (after.regs.rip, landing),
                (SITE + 0x20, Landing::Boundary),
                "{halt:02x?}, user {user}"
            );
            assert_eq!(after.regs.user(), user);
            load(&mut machine, halt);
        }
        assert_works(&mut machine);
    }
}

/// A doorbell counts only where it belongs: otherwise guest code could pass for a handler, or for an end.
#[test]
fn doorbells_rung_by_the_wrong_code_are_told() {
    kvm::required();
    let mut machine = machine(&[]);
    for (number, name) in [
        (0x77, "doorbell 0x77"),
        (vector::BP, "doorbell 0x3"),
        (vector::NMI, "doorbell 0x2"),
        (vector::DB, "doorbell 0x1"),
        (vector::IPI_SYNC, "doorbell 0x40"),
        (port::STOP, "planted doorbell"),
    ] {
        load(&mut machine, &[0xe6, number]);
        for user in [false, true] {
            for stimulus in
                [Stimulus::Instruction, Stimulus::Breakpoint, Stimulus::InstructionTo(SITE + 0x20)]
            {
                let exit = exit_of(machine.step(0, &at(SITE, user), stimulus));
                assert_eq!(exit, name, "user {user}, {stimulus:x?}");
            }
        }
    }
    assert_works(&mut machine);
}

#[test]
fn a_stack_pointer_that_is_in_no_stack_breaks_the_contract() {
    kvm::required();
    let mut machine = machine(&[0x48, 0x89, 0xc4]); // mov rsp, rax
    for user in [false, true] {
        for rsp in [0, 0x1234, va::PRIVATE, va::SITE, u64::MAX] {
            let mut cpu = at(SITE, user);
            cpu.regs.gpr[reg::RAX] = rsp;
            match machine.step(0, &cpu, Stimulus::Instruction) {
                Err(MachineError::Contract { what, rip }) => {
                    assert!(what.contains(&format!("RSP {rsp:#x} is outside of every stack")), "{what}");
                    assert_eq!(rip, SITE + 3);
                }
                other => panic!("user {user}, {rsp:#x}: {:x?}", brief(other)),
            }
        }
    }
    assert_works(&mut machine);
}

#[test]
fn a_stop_that_cannot_be_planted_breaks_the_contract() {
    kvm::required();
    let mut machine = machine(&[0x0f, 0xae, 0xf0]);
    for to in [SITE, SITE + 1, SITE - 1, 0, va::SHARED, va::PRIVATE, u64::MAX] {
        let result = brief(machine.step(0, &at(SITE, false), Stimulus::InstructionTo(to)));
        assert!(matches!(result, Err(MachineError::Contract { .. })), "{to:#x}: {result:x?}");
    }
    let (cpu, _) = machine.step(0, &at(SITE, false), Stimulus::InstructionTo(SITE + 3)).unwrap();
    assert_eq!(cpu.regs.rip, SITE + 3);
    assert_works(&mut machine);
}
