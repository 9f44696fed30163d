//! Deliveries: the frame, the stack, the masks, at both rings and on top of each other.

use crossmod::layout::FILLER;
use crossmod::machine::{Ability, Feature, Machine, capabilities};
use crossmod::plan::{Events, HandlerVariant, Plan, Ring};
use crossmod::step::{Landing, Stimulus};
use crossmod::x86::cpu::IF;
use crossmod_abi::{va, vector};

use super::places;
use super::world::{KERNEL_TOP, NMI_TOP, TASK_TOP, World};
use crate::kvm;

const SITE: u64 = va::SITE + 0x100;

/// A machine whose two site pages are filler, but for these bytes at [`SITE`].
fn machine(bytes: &[u8]) -> Machine {
    let mut machine = Machine::oracle().unwrap();
    machine.reset(&plain()).unwrap();
    machine.write_view(0, va::SITE, &[FILLER; 0x1000]).unwrap();
    machine.write_view(0, SITE, bytes).unwrap();
    machine
}

fn plain() -> Plan {
    let shipped = places::plans().iter().find(|plan| plan.name == "seed/naive-store").expect("shipped");
    let mut plan = shipped.clone();
    plan.handler.variant = HandlerVariant::Plain;
    plan.programs = Default::default();
    plan.events = Events::default();
    plan
}

/// Every vector that the explorer delivers, with its handler.
const DELIVERED: [(u8, &str); 9] = [
    (vector::NMI, "nmi_plain"),
    (vector::IRQ, "irq_plain"),
    (vector::IPI_SYNC, "ipi_sync"),
    (vector::IPI_ACK_FIRST, "ipi_ack_first"),
    (vector::IPI_ACK_ONLY, "ipi_ack_only"),
    (vector::IPI_HOLD, "ipi_hold"),
    (vector::IPI_STOP, "ipi_stop"),
    (vector::IPI_EARLY, "ipi_early"),
    (vector::MC, "mc_plain"),
];

fn event(number: u8) -> Stimulus {
    match number {
        vector::NMI => Stimulus::Nmi,
        vector::MC => Stimulus::MachineCheck,
        _ => Stimulus::Interrupt(number),
    }
}

#[test]
fn events_are_delivered_as_the_manual_says_at_both_rings() {
    kvm::required();
    let mut machine = machine(&[0x90]);
    let mut random = fastrand::Rng::with_seed(3);
    for (number, handler) in DELIVERED {
        let entry = machine.image().label(handler).unwrap();
        for user in [false, true] {
            let ring = if user { Ring::User } else { Ring::Kernel };
            if number == vector::MC && !capabilities().unwrap().has(Feature::MachineCheck(ring)) {
                eprintln!("SKIPPED: no machine checks at ring {}", ring.number());
                continue;
            }
            for _ in 0..8 {
                let mut before = World::random(&mut random, SITE, user);
                before.cpu.regs.rflags |= IF;
                before.cpu.regs.nmi_masked &= number != vector::NMI;
                let mut wanted = before.clone();
                wanted.deliver(number, entry, SITE);
                let after = before.step(&mut machine, 0, event(number));
                assert_eq!(wanted.difference(&after), None, "{handler}, user {user}");
            }
        }
    }
}

#[test]
fn int3_traps_at_both_rings_and_the_host_helps_exactly_where_the_probe_says() {
    kvm::required();
    let mut machine = machine(&[0xcc, 0x90]);
    let entry = machine.image().label("bp_plain").unwrap();
    let mut random = fastrand::Rng::with_seed(4);
    for user in [false, true] {
        let before_all = machine.assists().completed_breakpoints;
        for _ in 0..100 {
            let before = World::random(&mut random, SITE, user);
            let mut wanted = before.clone();
            wanted.deliver(vector::BP, entry, SITE + 1);
            let after = before.step(&mut machine, 0, Stimulus::Breakpoint);
            assert_eq!(wanted.difference(&after), None, "user {user}");
        }
        let ring = if user { Ring::User } else { Ring::Kernel };
        let ability = capabilities().unwrap().ability(Feature::Breakpoint(ring)).clone();
        let helped = if ability == Ability::HostHelps { 100 } else { 0 };
        assert_eq!(machine.assists().completed_breakpoints - before_all, helped, "{ability:?}");
    }
}

/// A breakpoint that is not there any more, or not yet: what executes is what the view says.
#[test]
fn a_breakpoint_step_over_other_bytes_executes_those() {
    kvm::required();
    let mut machine = machine(&[0x90, 0x90]);
    for user in [false, true] {
        let before = World::random(&mut fastrand::Rng::with_seed(5), SITE, user);
        let after = before.step(&mut machine, 0, Stimulus::Breakpoint);
        assert_eq!((after.cpu.regs.rip, after.landing), (SITE + 1, Landing::Boundary), "user {user}");
    }
    assert_eq!(machine.assists().completed_breakpoints, 0);
}

#[test]
fn an_nmi_stays_masked_until_its_iret() {
    kvm::required();
    // The handler runs these three, then returns.
    let mut machine = machine(&[0x90, 0x50, 0x58]);
    let iret = machine.image().label("nmi_iret_plain").unwrap();
    for user in [false, true] {
        let mut before = World::random(&mut fastrand::Rng::with_seed(6), SITE, user);
        before.cpu.regs.nmi_masked = false;
        let mut world = before.step(&mut machine, 0, Stimulus::Nmi);
        for offset in 0..3 {
            assert!(world.cpu.regs.nmi_masked, "before {offset}, user {user}");
            world.cpu.regs.rip = SITE + offset;
            world = world.step(&mut machine, 0, Stimulus::Instruction);
            assert_eq!(world.landing, Landing::Boundary);
        }
        assert!(world.cpu.regs.nmi_masked, "user {user}");
        world.cpu.regs.rip = iret;
        let after = world.step(&mut machine, 0, Stimulus::InstructionTo(SITE));
        assert_eq!(before.difference(&World { landing: Landing::Boundary, ..after }), None, "user {user}");
    }
}

#[test]
fn a_machine_check_comes_wherever_it_likes_and_again_after_its_handler() {
    kvm::required();
    kvm::feature_required(Feature::MachineCheck(Ring::Kernel));
    let mut machine = machine(&[0x90]);
    let entry = machine.image().label("mc_plain").unwrap();
    let mut before = World::random(&mut fastrand::Rng::with_seed(15), SITE, false);
    // Interrupts off, in an NMI handler.
    before.cpu.regs.rflags &= !IF;
    before.cpu.regs.nmi_masked = true;
    for time in 0..3 {
        let mut wanted = before.clone();
        wanted.deliver(vector::MC, entry, SITE);
        let inside = before.step(&mut machine, 0, Stimulus::MachineCheck);
        assert_eq!(wanted.difference(&inside), None, "time {time}");
    }
}

/// An SMI leaves no visible trace, whatever it interrupts; where the host has SMIs, it was a real one.
#[test]
fn an_smi_leaves_everything_as_it_was() {
    kvm::required();
    let real = capabilities().unwrap().has(Feature::Smi);
    let mut machine = machine(&[0x90, 0x90]);
    machine.set_real_smis(real);
    let mut random = fastrand::Rng::with_seed(16);
    let park = machine.image().label("exec_park").unwrap();
    for user in [false, true] {
        for rip in [SITE, SITE + 1, park] {
            for _ in 0..8 {
                let before = World::random(&mut random, rip, user);
                let after = before.step(&mut machine, 0, Stimulus::Smi);
                assert_eq!(before.difference(&after), None, "{rip:#x}, user {user}");
                // The doorbell that stood there is gone, and KVM owes nothing to it.
                if rip == SITE {
                    let next = after.step(&mut machine, 0, Stimulus::Instruction);
                    assert_eq!((next.cpu.regs.rip, next.landing), (SITE + 1, Landing::Boundary));
                }
            }
        }
    }
    assert_eq!(machine.assists().smis, if real { 48 } else { 0 });
}

/// The explorer never offers it, but a pending NMI must not break a masked vCPU's step, nor leak into another.
#[test]
fn an_nmi_that_is_raised_while_masked_waits_and_is_forgotten_by_the_next_restore() {
    kvm::required();
    let mut machine = machine(&[FILLER, 0x90]);
    let ud = machine.image().label("ud_stub").unwrap();
    let mut masked = World::random(&mut fastrand::Rng::with_seed(7), SITE, false);
    masked.cpu.regs.nmi_masked = true;
    let mut wanted = masked.clone();
    wanted.deliver(vector::UD, ud, SITE);
    let after = masked.step(&mut machine, 0, Stimulus::Nmi);
    assert_eq!(wanted.difference(&after), None, "the invalid instruction runs; the NMI waits");
    let mut open = World::random(&mut fastrand::Rng::with_seed(8), SITE + 1, false);
    open.cpu.regs.nmi_masked = false;
    let after = open.step(&mut machine, 0, Stimulus::Instruction);
    assert_eq!((after.cpu.regs.rip, after.landing), (SITE + 2, Landing::Boundary));
    assert!(!after.cpu.regs.nmi_masked);
}

/// #BP out of ring 3, an interrupt that finds SS null, an NMI on top, and all the way back.
#[test]
fn nested_handlers_return_to_where_they_came_from() {
    kvm::required();
    let mut machine = machine(&[0xcc, 0x90]);
    let image = machine.image();
    let [bp, irq, nmi] = ["bp_plain", "irq_plain", "nmi_plain"].map(|name| image.label(name).unwrap());
    for user in [false, true] {
        let mut start = World::random(&mut fastrand::Rng::with_seed(9), SITE, user);
        start.cpu.regs.nmi_masked = false;
        let mut worlds = vec![start];
        for (number, entry) in [(vector::BP, bp), (vector::IRQ, irq), (vector::NMI, nmi)] {
            let before = worlds.last().expect("begun").clone();
            let mut wanted = before.clone();
            let trap = number == vector::BP;
            wanted.deliver(number, entry, before.cpu.regs.rip + u64::from(trap));
            let after = before.step(&mut machine, 0, if trap { Stimulus::Breakpoint } else { event(number) });
            assert_eq!(wanted.difference(&after), None, "vector {number}, user {user}");
            // The #BP handler opens interrupts, or none would come.
            let mut after = after;
            after.cpu.regs.rflags |= if trap { IF } else { 0 };
            worlds.push(after);
        }
        let tops = if user {
            [TASK_TOP, KERNEL_TOP, KERNEL_TOP, NMI_TOP]
        } else {
            [TASK_TOP, TASK_TOP, TASK_TOP, NMI_TOP]
        };
        for (world, top) in worlds.iter().zip(tops) {
            assert!(world.rsp() < top && world.rsp() > top - 0x100, "user {user}");
        }
        // No stop is planted at this address.
        let iret = nmi + 2;
        while let Some(inner) = worlds.pop() {
            let Some(outer) = worlds.last() else { break };
            let mut wanted = World { landing: Landing::Boundary, ..outer.clone() };
            wanted.cpu.regs.rip += u64::from(worlds.len() == 1);
            let mut inner = inner;
            inner.cpu.regs.rip = iret;
            let back = inner.step(&mut machine, 0, Stimulus::InstructionTo(wanted.cpu.regs.rip));
            assert_eq!(wanted.difference(&back), None, "back to depth {}, user {user}", worlds.len());
        }
    }
}

/// KVM finishes the OUT of a planted stop in its next run; the instruction under the stop must run all the same.
#[test]
fn the_instruction_under_a_planted_stop_executes_next() {
    kvm::required();
    let mut machine = machine(&[0x0f, 0x1f, 0x44, 0, 0, 0x40, 0xff, 0xc0]);
    let iret = machine.image().label("irq_plain").unwrap() + 2;
    let mut random = fastrand::Rng::with_seed(10);
    for _ in 0..50 {
        for user in [false, true] {
            let mut before = World::random(&mut random, SITE, user);
            before.cpu.regs.rflags |= IF;
            let mut inner = before.step(&mut machine, 0, Stimulus::Interrupt(vector::IRQ));
            inner.cpu.regs.rip = iret;
            let back = inner.step(&mut machine, 0, Stimulus::InstructionTo(SITE));
            assert_eq!((back.cpu.regs.rip, back.landing), (SITE, Landing::Boundary));
            let nop = back.step(&mut machine, 0, Stimulus::Instruction);
            assert_eq!(nop.cpu.regs.rip, SITE + 5, "user {user}");
            let increment = nop.step(&mut machine, 0, Stimulus::Instruction);
            assert_eq!(increment.cpu.regs.rip, SITE + 8, "user {user}");
            assert_eq!(
                increment.cpu.regs.gpr[0],
                u64::from((before.cpu.regs.gpr[0] as u32).wrapping_add(1)),
                "user {user}"
            );
        }
    }
}
