//! A step fetches what was written before it, also across pages, and starts from the state that it was given.

use crossmod::layout::MAX_CPUS;
use crossmod::machine::Machine;
use crossmod::step::{Landing, Stimulus};
use crossmod::x86::cpu::{IF, reg};
use crossmod_abi::{PAGE, va, vector};

use super::places;
use super::world::World;
use crate::kvm;

const STEPS: u64 = 2_000;

/// `mov eax, value`.
fn load_eax(value: u32) -> [u8; 5] {
    let [a, b, c, d] = value.to_le_bytes();
    [0xb8, a, b, c, d]
}

#[test]
fn an_instruction_across_two_pages_that_is_rewritten_before_each_step_is_never_seen_old_or_mixed() {
    kvm::required();
    let mut machine = Machine::oracle().unwrap();
    machine.reset(&places::plans()[0]).unwrap();
    let mut random = fastrand::Rng::with_seed(11);
    for user in [false, true] {
        let mut wrong = 0;
        for step in 0..STEPS {
            let at = va::SITE + PAGE - 1 - step % 4; // 1 to 4 bytes on the first page
            let value = random.u32(..);
            machine.write_view(0, at, &load_eax(value)).unwrap();
            let before = World::random(&mut random, at, user);
            let mut wanted = before.clone();
            wanted.cpu.regs.gpr[reg::RAX] = value.into();
            wanted.cpu.regs.rip = at + 5;
            let after = before.step(&mut machine, 0, Stimulus::Instruction);
            wrong += u64::from(wanted.difference(&after).is_some());
        }
        assert_eq!(wrong, 0, "of {STEPS}, user {user}");
    }
}

#[test]
fn every_vcpu_fetches_from_its_own_view() {
    kvm::required();
    let mut machine = Machine::live(MAX_CPUS).unwrap();
    machine.reset(&places::plans()[0]).unwrap();
    let mut random = fastrand::Rng::with_seed(12);
    let at = va::SITE + PAGE - 3;
    let mut seen = [0; MAX_CPUS];
    for step in 0..STEPS as usize {
        // Every other step rewrites one view; the others must not notice.
        let slot = random.usize(..MAX_CPUS);
        if step % 2 == 0 || seen[slot] == 0 {
            seen[slot] = random.u32(1..);
            machine.write_view(slot, at, &load_eax(seen[slot])).unwrap();
        }
        let user = random.bool();
        let before = World::random(&mut random, at, user);
        let mut wanted = before.clone();
        wanted.cpu.regs.gpr[reg::RAX] = seen[slot].into();
        wanted.cpu.regs.rip = at + 5;
        let after = before.step(&mut machine, slot, Stimulus::Instruction);
        assert_eq!(wanted.difference(&after), None, "step {step}, vCPU {slot}, user {user}");
    }
}

/// A restore must not lose the single step, whatever the vCPU did before it.
#[test]
fn every_step_after_a_restore_is_a_single_one() {
    kvm::required();
    let site = va::SITE + 0x100;
    let mut machine = Machine::oracle().unwrap();
    machine.reset(&places::plans()[0]).unwrap();
    machine.write_view(0, site, &[0x90; 64]).unwrap();
    let mut random = fastrand::Rng::with_seed(13);
    let begun = machine.assists();
    let mut events = 0;
    for user in [false, true] {
        let mut single = 0;
        for step in 0..STEPS {
            if step % 7 == 0 {
                let ring = random.bool();
                let mut other = World::random(&mut random, site, ring);
                other.cpu.regs.nmi_masked = false;
                other.cpu.regs.rflags |= IF;
                let event = if random.bool() { Stimulus::Nmi } else { Stimulus::Interrupt(vector::IRQ) };
                let delivered = other.step(&mut machine, 0, event);
                assert_ne!(delivered.landing, Landing::Boundary);
                events += 1;
            }
            let at = site + random.u64(..60);
            let before = World::random(&mut random, at, user);
            let mut wanted = before.clone();
            wanted.cpu.regs.rip = at + 1;
            let after = before.step(&mut machine, 0, Stimulus::Instruction);
            single += u64::from(wanted.difference(&after).is_none());
        }
        assert_eq!(single, STEPS, "user {user}");
    }
    let assists = machine.assists();
    assert_eq!(assists.steps - begun.steps, 2 * STEPS + events);
    assert_eq!(assists.user_traps - begun.user_traps, STEPS, "each ring-3 step comes back through #DB");
    assert_eq!(assists.planted_stops, 0);
}
