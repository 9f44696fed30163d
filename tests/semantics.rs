//! The rules that the verdicts rest on, each tested where breaking it would show: what may be delivered when, what
//! a wait waits for, how a store is cut, what is exempt. `scripts/break-properties` breaks them in turn.

use crossmod::engine::SteppingEngine;
use crossmod::explore::{Memo, Model, Reduction, System, Transition};
use crossmod::machine::{Feature, Machine, capabilities};
use crossmod::plan::{OpKind, Ring};
use crossmod::property::Property;
use crossmod::scenario::Options;
use crossmod::state::Actor;
use crossmod::{CheckOptions, Scenario};
use crossmod_abi::vector;

use crate::bench::{SITE, assert_exactly, check, inline, options, shipped, violated, walk};
use crate::{harness, kvm};

/// One executor, one pass, so that all of it can be walked through.
fn small(name: &str, body: &str) -> crossmod::Scenario {
    inline(name, &format!("{body}\n[executors]\ncount = 1\npasses = 1\n{SITE}"))
}

#[test]
fn interrupts_are_delivered_with_interrupts_on_only() {
    kvm::required();
    let text = "protocol = \"single_ipi_hold\"\nevents = { irq = 1 }";
    let (mut offered, mut withheld) = (0, 0);
    walk(&small("hold", text), |model, state, moves| {
        let on = model.cpu_of(state, 0).regs.interrupts_on();
        let waiting = model.ghost_of(state, 0).pending != 0 || state.global.irq > 0;
        let delivers = moves.iter().any(|step| matches!(step, Transition::Ipi(..) | Transition::Irq(_)));
        assert_eq!(delivers, on && waiting);
        offered += u32::from(delivers);
        withheld += u32::from(waiting && !on);
    });
    assert!(offered > 10 && withheld > 10, "{offered}, {withheld}");
    // An executor that keeps interrupts off keeps the round from ending.
    assert_exactly(&shipped("seed/retry-irqs-off"), &[Property::Deadlock]);
}

#[test]
fn nmis_are_masked_from_delivery_to_iret() {
    kvm::required();
    let scenario = small("two-nmis", "protocol = \"plain_store\"\nevents = { nmi = 2 }");
    let (mut masked, mut coalesced) = (0, 0);
    walk(&scenario, |model, state, moves| {
        let closed = model.cpu_of(state, 0).regs.nmi_masked;
        let latched = model.ghost_of(state, 0).nmi_latched;
        assert_eq!(moves.contains(&Transition::Nmi(0)), !closed && (latched || state.global.nmi > 0));
        assert_eq!(moves.contains(&Transition::RaiseNmi(0)), closed && !latched && state.global.nmi > 0);
        masked += u32::from(closed);
        coalesced += u32::from(latched);
    });
    assert!(masked > 10 && coalesced > 10, "{masked}, {coalesced}");
    // No trap re-opens NMIs here, so the second one waits for the first one's IRET.
    assert_exactly(&scenario, &[Property::Unserialised]);
}

#[test]
fn machine_checks_come_with_everything_masked_but_not_into_each_other() {
    kvm::required();
    kvm::feature_required(Feature::MachineCheck(Ring::Kernel));
    let text = "protocol = \"single_ipi_hold\"\nevents = { mce = 2, nmi = 1, nmi-runs = \"nothing\" }";
    let (mut masked, mut inside) = (0, 0);
    walk(&small("machine-checks", text), |model, state, moves| {
        let within = model.ghost_of(state, 0).inside(vector::MC);
        assert_eq!(moves.contains(&Transition::MachineCheck(0)), state.global.mce > 0 && !within);
        let regs = &model.cpu_of(state, 0).regs;
        masked += u32::from(state.global.mce > 0 && regs.nmi_masked && !regs.interrupts_on());
        inside += u32::from(state.global.mce > 0 && within);
    });
    assert!(masked > 10 && inside > 10, "{masked}, {inside}");
}

#[test]
fn an_smi_comes_wherever_it_likes_and_serialises() {
    kvm::required();
    let scenario = small("smi", "protocol = \"plain_store\"\nevents = { smi = 1 }");
    let mut offered = 0;
    walk(&scenario, |_, state, moves| {
        assert_eq!(moves.contains(&Transition::Smi(0)), state.global.smi > 0);
        offered += u32::from(state.global.smi > 0);
    });
    assert!(offered > 5, "{offered}");
    // The SMI need not come, so the executor may stay unserialised.
    assert_exactly(&scenario, &[Property::Unserialised]);
    let plan = scenario.plan(&Options::default()).unwrap();
    let mut machine = Machine::oracle().unwrap();
    machine.set_real_smis(capable(Feature::Smi));
    let mut engine = SteppingEngine::new(&mut machine, &plan).unwrap();
    let mut model = Model::new(&plan, &mut engine, Memo::disabled()).unwrap();
    let mut state = model.initial().unwrap();
    for step in [Transition::Piece(0), Transition::Smi(0)] {
        assert_eq!(model.ghost_of(&state, 0).serialised, 0);
        state = model.apply(&state, step, Reduction::None).unwrap().next;
    }
    assert_eq!((model.ghost_of(&state, 0).serialised, state.global.smi), (1, 0));
}

fn capable(feature: Feature) -> bool {
    capabilities().unwrap().has(feature)
}

#[test]
fn a_round_waits_for_every_executor() {
    kvm::required();
    let text =
        "executors = { count = 2, passes = 1 }\n[[step]]\nsync = {}\n[[step]]\nstore = { what = \"new\" }\n";
    let scenario = inline("one-round", &format!("{text}{SITE}"));
    let plan = scenario.plan(&Options::default()).unwrap();
    let (mut passed, mut one_of_two) = (0, 0);
    walk(&scenario, |model, state, moves| {
        if !matches!(
            plan.program.get(usize::from(state.global.pc)).map(|op| &op.kind),
            Some(OpKind::WaitAcks { .. })
        ) {
            return;
        }
        let acknowledged = [0, 1].map(|slot| model.cpu_of(state, slot).acknowledged());
        assert_eq!(moves.contains(&Transition::Patcher), acknowledged == [true, true]);
        passed += u32::from(acknowledged == [true, true]);
        one_of_two += u32::from(acknowledged[0] != acknowledged[1]);
    });
    assert!(passed > 10 && one_of_two > 10, "{passed}, {one_of_two}");
}

#[test]
fn a_new_round_needs_new_acknowledgements() {
    kvm::required();
    // What an executor acknowledged of the first two rounds says nothing about the last one.
    assert_exactly(&small("rounds", "protocol = \"text_poke_fixup\""), &[]);
}

#[test]
fn stores_are_cut_at_cache_lines_and_their_pieces_come_in_any_order() {
    kvm::required();
    let mut machine = Machine::oracle().unwrap();
    let mut pieces = |offset: u64, old: &str, new: &str| {
        let text =
            format!("protocol = \"plain_store\"\n[site]\nold = {old}\nnew = {new}\noffset = {offset:#x}\n");
        let plan = inline("pieces", &text).plan(&Options::default()).unwrap();
        let mut engine = SteppingEngine::new(&mut machine, &plan).unwrap();
        let mut model = Model::new(&plan, &mut engine, Memo::disabled()).unwrap();
        let state = model.initial().unwrap();
        let mut moves = Vec::new();
        model.transitions(&state, Reduction::None, &mut moves).unwrap();
        moves.retain(|step| step.actor() == Actor::Patcher);
        let first: Vec<Transition> = (0..model.pieces().len() as u8).map(Transition::Piece).collect();
        assert_eq!(moves, first, "every piece may be the first");
        model.pieces().iter().map(|piece| (piece.offset, piece.bytes.len())).collect::<Vec<_>>()
    };
    let five = ["\"nop5\"", "\"jmp32\""];
    assert_eq!(pieces(0x100, five[0], five[1]), [(0, 5)]);
    assert_eq!(pieces(0x13b, five[0], five[1]), [(0, 5)], "up to the last byte of a line");
    assert_eq!(pieces(0x13e, five[0], five[1]), [(0, 2), (2, 3)]);
    assert_eq!(pieces(0x140, five[0], five[1]), [(0, 5)]);
    assert_eq!(pieces(0xffc, five[0], five[1]), [(0, 4), (4, 1)]);
    let eight =
        ["[\"nop8\", \"nop8\", \"nop8\", \"nop8\"]", "[\"jmp32\", \"nop3\", \"nop8\", \"nop8\", \"nop8\"]"];
    assert_eq!(pieces(0x130, eight[0], eight[1]), [(0, 16), (16, 16)]);
}

/// A torn instruction to which a handler returns may be a HLT. The report says so, and no later instruction halts.
#[test]
fn a_torn_halt_ends_an_execution_and_no_other() {
    kvm::required();
    let site = "old = \"3e b1 10 0f 1f 00\"\nnew = \"2e e8 bc f4 85 00\"\noffset = 0xc5e";
    let text =
        format!("protocol = \"text_poke_fixup\"\nexecutors = {{ count = 2, passes = 2 }}\n[site]\n{site}\n");
    let report = check(&inline("torn-halt", &text), &options());
    let torn = report.finding(Property::Torn).expect("site+3 is the middle of the call");
    assert!(torn.violation.detail.contains("f4 "), "{}", torn.violation.detail);
    assert!(torn.rendering.contains("the CPU halts until an interrupt comes"), "{}", torn.rendering);
}

#[test]
fn remembered_steps_are_told_apart_by_the_shared_bytes_they_read() {
    kvm::required();
    // The handler finds itself armed in one schedule and not in another, with all else equal.
    for name in ["seed/fixup-armed-late", "seed/hold-1", "seed/lock-dependency-fixup"] {
        let scenario = shipped(name);
        let with = |memo| {
            let options = CheckOptions { memo, recheck: 0, ..options() };
            check(&scenario, &options)
        };
        let (remembered, executed) = (with(true), with(false));
        assert_eq!(remembered.digest, executed.digest, "{name}");
        assert_eq!(remembered.outcomes, executed.outcomes, "{name}");
        assert!(remembered.counts.memo.executed < executed.counts.memo.executed, "{name}");
    }
}

#[test]
fn remembered_steps_are_executed_again_and_compared() {
    kvm::required();
    let report = check(&shipped("seed/stop-machine"), &CheckOptions { recheck: 1, ..options() });
    let memo = report.counts.memo;
    assert!(report.counts.lookups > 500);
    assert_eq!(memo.rechecked, report.counts.lookups, "a list of successors for each state and executor");
    assert!(memo.executed > memo.rechecked, "with reduction a move is one instruction or more");
}

#[test]
fn searches_of_one_guest_share_steps_and_those_of_two_guests_none() {
    kvm::required();
    let mut checker = harness::checker();
    checker.forget();
    let mut look = |scenario: &Scenario, fetch: &str, verify| {
        let fetch = Some(fetch.parse().unwrap());
        let before = checker.assists();
        let options = CheckOptions { fetch, verify, recheck: 0, ..options() };
        let report = checker.check(scenario, &options, |_| {}).unwrap();
        (report, (checker.assists() - before).steps)
    };
    let [fixup, other] = ["seed/fixup", "seed/fixup-call"].map(shipped);
    let (first, _) = look(&fixup, "line", false);
    let memo = first.counts.memo;
    assert!(memo.executed > 100 && memo.earlier == 0, "{memo:?}");
    // Another vendor's rule comes with this model.
    let (shared, _) = look(&fixup, "amd", false);
    assert!(shared.counts.memo.earlier > 100, "{:?}", shared.counts.memo);
    let (again, _) = look(&fixup, "line", false);
    assert_eq!((again.counts.memo.executed, again.counts.memo.earlier), (0, memo.executed));
    assert_eq!(again.digest, first.digest);
    let (_, steps) = look(&fixup, "line", true);
    assert!(steps >= memo.executed, "the second of two searches executes its own");
    let (elsewhere, _) = look(&other, "line", false);
    assert_eq!(elsewhere.counts.memo.earlier, 0);
    let (alone, _) = look(&fixup, "amd", false);
    assert_eq!((alone.counts.memo.earlier, &alone.digest), (0, &shared.digest));
    // What the host does is not part of the guest.
    let [whole, mutant] = ["", "[[step]]\nsync = {}\n"].map(|step| {
        let store = "[[step]]\nstore = { what = \"new\" }\n";
        inline("steps", &format!("[executors]\ncount = 1\npasses = 1\n{SITE}{store}{step}"))
    });
    assert_eq!(look(&whole, "line", false).0.counts.memo.earlier, 0);
    assert!(look(&mutant, "line", false).0.counts.memo.earlier > 0);
    let [_, own] = [true, false].map(|memo| {
        let fetch = Some("line".parse().unwrap());
        checker.check(&fixup, &CheckOptions { fetch, memo, ..options() }, |_| {}).unwrap()
    });
    assert_eq!((own.counts.memo.earlier, &own.digest), (0, &first.digest), "without a memo");
}

#[test]
fn the_frame_of_the_trap_itself_stands_nowhere_in_the_new_code() {
    kvm::required();
    // It points behind the INT3, into the tail that is being exchanged, until the handler moves it.
    let mut between = 0;
    let scenario = small("trapped", "protocol = \"text_poke_fixup\"");
    let site = scenario.plan(&Options::default()).unwrap().site.address;
    walk(&scenario, |model, state, _| {
        let cpu = model.cpu_of(state, 0);
        let frames = &model.ghost_of(state, 0).contexts;
        let behind = |frame: u64| cpu.frame(frame).is_some_and(|frame| frame.rip == site + 1);
        between += u32::from(frames.iter().any(|context| behind(context.frame)));
    });
    assert!(between > 100, "{between}");
    assert_exactly(&scenario, &[]);
}

#[test]
fn quiescence_looks_at_saved_instruction_pointers_too() {
    kvm::required();
    // A trap that is being handled shows in its frame only, and in no RIP.
    let text = "protocol = \"text_poke_fixup\"\nwithout = [\"sync-first\"]\n\
        order = [\"arm\", \"int3\", \"sync-int3\", \"tail\", \"sync-tail\", \"first\", \"grace\", \"disarm\"]\n";
    let grace = "[[step]]\nlabel = \"grace\"\nquiesce = {}\n";
    assert_exactly(
        &inline("grace", &format!("{text}[executors]\ncount = 1\npasses = 1\n{SITE}{grace}")),
        &[],
    );
    // Nor does an executor that was interrupted between two instructions.
    assert_exactly(&shipped("seed/interior-quiesced"), &[]);
}

#[test]
fn the_amd_rule_exempts_one_store_inside_a_quadword_and_no_other() {
    kvm::required();
    let at = |offset: u64, rule: &str| {
        let text = format!(
            "protocol = \"plain_store\"\nrule = \"{rule}\"\n[executors]\ncount = 1\npasses = 1\n\
             [site]\nold = \"nop5\"\nnew = \"jmp32\"\noffset = {offset:#x}\n"
        );
        inline("quadword", &text)
    };
    assert_exactly(&at(0x103, "amd"), &[]);
    assert_exactly(&at(0x104, "amd"), &[Property::Unserialised]);
    assert_exactly(&at(0x103, "intel"), &[Property::Unserialised]);
}

/// Only there, and only under AMD's rule, is every store allowed: not where old leads, not where the handler returns to,
/// and not for the store that leads there.
#[test]
fn the_amd_rule_exempts_stores_to_bytes_that_nobody_reaches() {
    kvm::required();
    let sled = shipped("catalogue/xray_sled");
    let changed = |from: &str, to: &str| {
        assert!(sled.text.contains(from));
        Scenario { text: sled.text.replacen(from, to, 1), ..sled.clone() }
    };
    let found = |scenario: &Scenario, fetch: &str| {
        let options = CheckOptions { fetch: Some(fetch.parse().unwrap()), ..options() };
        violated(&check(scenario, &options)).contains(&Property::Unserialised)
    };
    assert!(!found(&sled, "amd") && !found(&sled, "amd-block"));
    assert!(found(&sled, "line"));
    assert!(found(&changed("[site]", "[handler]\nresume = { at = 2 }\n[site]"), "amd"));
    assert!(found(&changed("eb 09", "66 90"), "amd"));
    // The store that leads there lies in two quadwords.
    assert!(found(&changed("offset = 0x100", "offset = 0x107"), "amd"));
}

#[test]
fn an_int3_over_a_first_byte_needs_no_serialising() {
    kvm::required();
    let steps = |steps: &str| {
        let site = "[site]\nold = \"nop1\"\nnew = \"f8\"\noffset = 0x100\n";
        let handler = "[handler]\nresume = \"next\"\narmed = true\n";
        inline("one-byte", &format!("[executors]\ncount = 1\npasses = 1\n{site}{handler}{steps}"))
    };
    let direct = "[[step]]\nstore = { what = \"new\" }\n";
    let guarded = format!("[[step]]\nstore = {{ what = \"int3\" }}\n{direct}");
    let unserialised = |steps_of: &str| {
        let report = check(&steps(steps_of), &options());
        assert!(report.counts.states > 5, "{}", crossmod::report::detail(&report));
        report.finding(Property::Unserialised).is_some()
    };
    assert!(unserialised(direct), "a one-byte store is no exception by itself");
    assert!(!unserialised(&guarded), "INT3 may be put there and taken away");
}
