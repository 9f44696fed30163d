//! The stepping primitive: every instruction that a run may meet is executed by [`Machine::step`] from random
//! states, and the complete state afterwards is compared with what the manuals say. Everything else rests on
//! this: a form of instruction that has no row here cannot enter the guest or the shipped scenarios.

mod accepted;
mod events;
mod fetch;
mod places;
mod rows;
mod world;

use std::collections::BTreeSet;

use crossmod::machine::{Ability, Assists, Feature, Machine, capabilities};
use crossmod::plan::Ring;
use crossmod::step::Stimulus;
use crossmod::x86::decode;
use iced_x86::Instruction;

use crate::kvm;
use places::Form;
use rows::{Place, Row};
use world::World;

/// Random states for each instruction.
const STATES: usize = 8;

/// The stimulus that the explorer uses for an instruction which goes on at `to`.
fn stimulus(instruction: &Instruction, to: u64) -> Stimulus {
    if decode::is_int3(instruction) {
        Stimulus::Breakpoint
    } else if decode::needs_planted_stop(instruction) {
        Stimulus::InstructionTo(to)
    } else {
        Stimulus::Instruction
    }
}

/// Runs one instruction from many states, and counts in `counted` what the steps should have cost.
fn compare(
    machine: &mut Machine,
    row: &Row,
    instruction: &Instruction,
    place: &Place,
    random: &mut fastrand::Rng,
    counted: &mut Assists,
) {
    for _ in 0..STATES {
        let from_user = place.user && !row.returns();
        let mut before = World::random(random, instruction.ip(), from_user);
        (row.prepare)(instruction, place, random, &mut before);
        let mut wanted = before.clone();
        wanted.cpu.regs.rip = instruction.next_ip();
        (row.effect)(instruction, place, &mut wanted);
        let stimulus = stimulus(instruction, wanted.cpu.regs.rip);
        let actual = before.step(machine, 0, stimulus);
        if let Some(difference) = wanted.difference(&actual) {
            panic!(
                "{} at {:#x} ({stimulus:x?}): {difference}\nfrom {:x?}",
                row.form,
                instruction.ip(),
                before.cpu.regs
            );
        }
        counted.steps += 1;
        match stimulus {
            Stimulus::InstructionTo(_) => counted.planted_stops += 1,
            Stimulus::Breakpoint if !from_user => counted.completed_breakpoints += 1,
            Stimulus::Instruction if from_user => counted.user_traps += 1,
            _ => {}
        }
    }
}

/// What the host has to do for INT3 at ring 0 depends on the host: nothing, or all of it. The probe says which,
/// and the counts must agree with it.
fn assert_counts(machine: &Machine, mut wanted: Assists) {
    if *capabilities().unwrap().ability(Feature::Breakpoint(Ring::Kernel)) != Ability::HostHelps {
        wanted.completed_breakpoints = 0;
    }
    assert_eq!(machine.assists(), wanted);
}

#[test]
fn every_instruction_of_guest_and_sites_has_a_row_and_every_row_is_used() {
    let mut used: BTreeSet<Form> = places::image().iter().map(|place| Form::of(&place.instruction)).collect();
    used.extend(places::sites(places::plans()).iter().map(|place| Form::of(&place.instruction)));
    let rows: Vec<Form> = rows::table().iter().map(|row| row.form).collect();
    let known: BTreeSet<Form> = rows.iter().copied().collect();
    assert_eq!(known.len(), rows.len(), "two rows for one form");
    assert_eq!(without(&used, &known), "", "executed without a row in tests/stepping/rows.rs");
    assert_eq!(without(&known, &used), "", "rows that nothing uses any more");
    // The comparison can fail: one more instruction in the image, and each row taken away, is told by its form.
    for code in [&[0x0f, 0xc8][..], &[0x0f, 0x01, 0xe8], &[0xfb], &[0xff, 0x20], &[0x87, 0xc1]] {
        let mut more = used.clone();
        let form = Form::of(&decode::decode(code, 0).expect("an instruction"));
        more.insert(form);
        assert_eq!(without(&more, &known), form.to_string());
    }
    for form in &known {
        let fewer = known.iter().copied().filter(|other| other != form).collect();
        assert_eq!(without(&used, &fewer), form.to_string());
    }
}

/// The forms of the first set that the second does not have.
fn without(these: &BTreeSet<Form>, those: &BTreeSet<Form>) -> String {
    these.difference(those).map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

#[test]
fn every_instruction_of_the_guest_steps_as_the_table_says() {
    kvm::required();
    let mut machine = Machine::oracle().unwrap();
    let plans = places::plans();
    machine.reset(&plans[0]).unwrap();
    let label = |name: &str| machine.image().label(name).unwrap();
    let (elsewhere, bp_entry) = (label("exec_loop"), label("bp_plain"));
    let (mut random, mut counted) = (fastrand::Rng::with_seed(1), Assists::default());
    for found in places::image() {
        let table = rows::table();
        let row = table.iter().find(|row| row.form == Form::of(&found.instruction)).expect("has a row");
        for user in [false, true] {
            // Handlers run at ring 0, but those return to both.
            if !user || found.user || row.returns() {
                let place = Place { elsewhere, bp_entry, bp_interrupts: false, user };
                compare(&mut machine, row, &found.instruction, &place, &mut random, &mut counted);
            }
        }
    }
    assert_counts(&machine, counted);
}

#[test]
fn every_instruction_of_a_site_steps_as_the_table_says_at_both_rings() {
    kvm::required();
    let mut machine = Machine::oracle().unwrap();
    let image = machine.image();
    let (elsewhere, bp_entry) = (image.label("exec_loop").unwrap(), image.label("bp_plain").unwrap());
    let (mut random, mut counted) = (fastrand::Rng::with_seed(2), Assists::default());
    let plans = places::plans();
    let table = rows::table();
    let mut crossing = 0;
    for found in places::sites(plans) {
        let instruction = &found.instruction;
        let mut plan = plans[found.plan].clone();
        plan.handler.variant = crossmod::plan::HandlerVariant::Plain;
        plan.programs = crossmod::plan::Programs::default();
        machine.reset(&plan).unwrap();
        machine.write_view(0, instruction.ip(), &found.bytes).unwrap();
        let row = table.iter().find(|row| row.form == Form::of(instruction)).expect("has a row");
        for user in [false, true] {
            let place = Place { elsewhere, bp_entry, bp_interrupts: plan.handler.interrupts, user };
            compare(&mut machine, row, instruction, &place, &mut random, &mut counted);
        }
        crossing += usize::from((instruction.ip() ^ (instruction.next_ip() - 1)) & !0xfff != 0);
    }
    assert!(crossing > 0, "some shipped site crosses a page");
    assert_counts(&machine, counted);
}
