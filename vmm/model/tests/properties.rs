//! The checks as pure functions: no KVM, no exploration.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::sync::Arc;

use crossmod_abi::{private, shared, va, vector};
use crossmod_model::checks::*;
use crossmod_model::plan::Plan;
use crossmod_model::property::Property;
use crossmod_model::state::Id;
use crossmod_model::state::ghost::{Context, GhostState, Pass};
use crossmod_model::state::shared_state::{SharedState, SiteHistory, pieces};
use crossmod_model::x86::cpu::{Cpu, reg};
use crossmod_model::x86::decode::{self, Access};
use crossmod_scenario::{self as scenario, Options};

fn plan(site: &str, more: &str) -> Plan {
    let text =
        format!("title = \"t\"\nprotocol = \"text_poke_fixup\"\nexpect = \"safe\"\n{more}\n[site]\n{site}\n");
    scenario::parse("test", &text, &Options::default()).unwrap()
}

fn five_bytes() -> Plan {
    plan("old = \"nop5\"\nnew = \"jmp32\"\noffset = 0x100", "")
}

fn two_instructions() -> Plan {
    plan("old = [\"xor-ecx-ecx\", \"nop3\"]\nnew = \"jmp32\"\noffset = 0x100", "")
}

/// The shared state after the first `commits` pieces of the plan's stores.
fn after(plan: &Plan, commits: u8) -> (SharedState, SiteHistory) {
    let mut shared_state = SharedState::initial(plan);
    shared_state.commits = (0..commits).collect();
    let history = SiteHistory::of(plan, &pieces(plan), &shared_state);
    (shared_state, history)
}

fn pass() -> Pass {
    Pass {
        label: 0,
        entry: Id::new(0),
        begun: true,
        new_before: 0,
        after_done: 0,
        ran_new: 0,
        trapped: false,
        depth: 0,
    }
}

/// What the fetch at `offset` violates.
fn fetch(plan: &Plan, commits: u8, ghost: &GhostState, offset: usize) -> Vec<Property> {
    let (shared_state, history) = after(plan, commits);
    fetch_of(plan, &shared_state, &history, ghost, offset, history.current())
}

fn fetch_of(
    plan: &Plan,
    shared_state: &SharedState,
    history: &SiteHistory,
    ghost: &GhostState,
    offset: usize,
    site: &[u8],
) -> Vec<Property> {
    let rip = plan.site.address + offset as u64;
    let bytes = &site[offset..];
    let instruction = decode::decode(bytes, rip);
    let version = plan.site.version_at(offset, bytes);
    let fetch =
        Fetch { plan, shared_state, history, ghost, rip, bytes, instruction: instruction.as_ref(), version };
    at_fetch(&fetch).into_iter().map(|violation| violation.property).collect()
}

#[test]
fn unserialised_asks_every_version_that_may_still_be_seen() {
    let plan = five_bytes();
    let at =
        |commits, serialised| fetch(&plan, commits, &GhostState { serialised, ..GhostState::default() }, 0);
    assert_eq!(at(1, 0), [], "an INT3 over the first byte is exempt");
    assert_eq!(
        at(2, 0),
        [Property::Unserialised],
        "with the INT3 unserialised, the old instruction meets the tail"
    );
    assert_eq!(at(2, 1), [], "serialised for the INT3: only its one byte is fetched");
    assert_eq!(at(3, 1), [Property::Unserialised], "new first byte, tail not serialised for");
    assert_eq!(at(3, 2), [], "taking the INT3 away is exempt");
}

#[test]
fn the_amd_rule_exempts_one_store_inside_a_quadword() {
    let site = |offset: u32| format!("old = \"nop5\"\nnew = \"jmp32\"\noffset = {offset}");
    let text = |rule: &str, offset| {
        let text = format!(
            "title = \"t\"\nprotocol = \"plain_store\"\nexpect = \"safe\"\nrule = \"{rule}\"\n[site]\n{}\n",
            site(offset)
        );
        scenario::parse("test", &text, &Options::default()).unwrap()
    };
    let ghost = GhostState::default();
    assert_eq!(fetch(&text("amd", 0x100), 1, &ghost, 0), []);
    assert_eq!(fetch(&text("amd", 0x104), 1, &ghost, 0), [Property::Unserialised]);
    assert_eq!(fetch(&text("intel", 0x100), 1, &ghost, 0), [Property::Unserialised]);
}

/// Behind a jump nobody is: what is stored there may be anything, in any order, until the store that takes the jump away.
#[test]
fn the_amd_rule_exempts_stores_to_bytes_that_nobody_reaches() {
    let text = |rule: &str, old: &str, rest: &str| {
        let text = format!(
            "title = \"t\"\nexpect = \"safe\"\nrule = \"{rule}\"\n[site]\nold = {old}\nnew = [\"41 ba 78 56 34 12\", \"call\"]\n\
             offset = 0x100\n[executors]\ncount = 1\n{rest}[[step]]\nstore = {{ what = \"new\", each = 1 }}\n"
        );
        scenario::parse("test", &text, &Options::default()).unwrap_or_else(|error| panic!("{error}: {text}"))
    };
    // The jump's own two bytes come last: the commits are those of bytes 0 to 10, so take 2 to 10, then 0 and 1.
    let violated = |plan: &Plan, offset: usize| {
        let mut shared_state = SharedState::initial(plan);
        shared_state.commits = (2..11).chain(0..2).collect();
        let history = SiteHistory::of(plan, &pieces(plan), &shared_state);
        fetch_of(plan, &shared_state, &history, &GhostState::default(), offset, history.current())
    };
    let jump = "[\"eb 09\", \"66 0f 1f 84 00 00 02 00 00\"]";
    let nops = "[\"nop2\", \"nop9\"]";
    for (rule, old, rest, expected) in [
        ("amd", jump, "", vec![]),
        ("intel", jump, "", vec![Property::Unserialised]),
        ("amd", nops, "", vec![Property::Unserialised]),
        // An executor begins there.
        ("amd", jump, "start = { interior = 2 }\n", vec![Property::Unserialised]),
    ] {
        let plan = text(rule, old, rest);
        assert_eq!(violated(&plan, 6), expected, "{rule} {old} {rest}");
    }
}

#[test]
fn torn_is_what_belongs_to_no_version() {
    let plan = five_bytes();
    let (shared_state, history) = after(&plan, 0);
    let ghost = GhostState { serialised: 0, ..GhostState::default() };
    let mut mixed = plan.site.old.bytes.clone();
    mixed[0] = plan.site.new.bytes[0];
    assert_eq!(fetch_of(&plan, &shared_state, &history, &ghost, 0, &mixed), [Property::Torn]);
    assert_eq!(fetch_of(&plan, &shared_state, &history, &ghost, 0, &plan.site.new.bytes), []);
    assert_eq!(fetch_of(&plan, &shared_state, &history, &ghost, 0, &plan.site.old.bytes), []);
}

#[test]
fn stale_needs_a_pass_that_began_after_completion() {
    let plan = five_bytes();
    let within =
        |after_done| GhostState { passes: vec![Pass { after_done, ..pass() }], ..GhostState::default() };
    assert_eq!(fetch(&plan, 0, &within(1), 0), [Property::Stale], "old code");
    assert_eq!(fetch(&plan, 1, &within(1), 0), [Property::Stale], "the trap");
    assert_eq!(fetch(&plan, 0, &within(0), 0), []);
    let serialised = GhostState { serialised: 3, ..within(1) };
    assert_eq!(fetch(&plan, 3, &serialised, 0), [], "new code");
}

#[test]
fn order_is_broken_by_leftover_old_code_and_by_an_old_outcome_after_a_new_one() {
    let plan = two_instructions();
    let within = |ran_new| GhostState { passes: vec![Pass { ran_new, ..pass() }], ..GhostState::default() };
    assert_eq!(fetch(&plan, 0, &within(1), 2), [Property::Order]);
    assert_eq!(fetch(&plan, 0, &within(0), 2), []);
    assert!(order::at_pass_end(&Pass { new_before: 1, ..pass() }, 0).is_some());
    assert!(order::at_pass_end(&pass(), 0).is_none());
}

#[test]
fn recursion_is_a_trap_of_the_handler_itself_not_of_an_nmi_above_it() {
    let plan = five_bytes();
    let within = |vectors: &[u8]| GhostState {
        contexts: vectors.iter().map(|&vector| Context { vector, frame: 0, foreign: false }).collect(),
        ..GhostState::default()
    };
    assert_eq!(fetch(&plan, 1, &within(&[vector::BP]), 0), [Property::Recursion]);
    assert_eq!(fetch(&plan, 1, &within(&[vector::BP, vector::NMI]), 0), []);
    assert_eq!(fetch(&plan, 0, &within(&[vector::BP]), 0), [], "no trap there");
}

#[test]
fn interior_is_a_place_whose_instruction_is_gone() {
    let plan = two_instructions();
    let inside = Cpu::at(plan.site.address + 2, plan.site.address, 1, false);
    let broken = |commits| {
        let (_, history) = after(&plan, commits);
        interior::at_commit(&plan, &history, &inside, &GhostState::default()).is_some()
    };
    assert!(!broken(0), "a boundary of old");
    assert!(!broken(1), "the INT3 over the first byte changes nothing behind it");
    assert!(broken(2), "the tail of new is there");
}

#[test]
fn interior_sees_saved_rips_but_not_an_int3s_own_frame() {
    let plan = two_instructions();
    let (_, history) = after(&plan, 2);
    let saved = |rip: u64, vector: u8| {
        let mut cpu = Cpu::at(0x10_0000, plan.site.address, 1, false);
        let frame = cpu.regs.gpr[reg::RSP] - 40;
        let at = (frame - va::PRIVATE) as usize;
        Arc::make_mut(&mut cpu.private)[at..at + 8].copy_from_slice(&rip.to_le_bytes());
        let ghost =
            GhostState { contexts: vec![Context { vector, frame, foreign: false }], ..GhostState::default() };
        interior::at_commit(&plan, &history, &cpu, &ghost).is_some()
    };
    assert!(saved(plan.site.address + 2, vector::IPI_SYNC));
    assert!(!saved(plan.site.address, vector::IPI_SYNC));
    assert!(!saved(plan.site.address + 1, vector::BP), "the handler is about to move it");
    assert!(saved(plan.site.address + 1, vector::NMI), "nobody moves this one");
}

#[test]
fn nmi_frame_needs_a_frame_that_still_stands_where_the_next_one_goes() {
    let top = va::PRIVATE + private::NMI_STACK + private::STACK;
    let within = |vector, frame| GhostState {
        contexts: vec![Context { vector, frame, foreign: false }],
        ..GhostState::default()
    };
    assert!(nmi_frame::at_delivery(&within(vector::NMI, top - 40)).is_some());
    assert!(nmi_frame::at_delivery(&within(vector::NMI, top - private::NMI_COPY)).is_none(), "it was copied");
    assert!(nmi_frame::at_delivery(&within(vector::BP, top - 40)).is_none());
}

#[test]
fn lifetime_covers_the_descriptors_body_and_withdrawn_pads() {
    let plan = five_bytes();
    let mut shared_state = SharedState::initial(&plan);
    let read = |offset: u64| Access { address: va::SHARED + offset, size: 8, reads: true, writes: false };
    assert!(lifetime::at_access(&shared_state, &read(shared::RESUME)).is_none());
    shared_state.free_descriptor();
    assert!(lifetime::at_access(&shared_state, &read(shared::RESUME)).is_some());
    assert!(lifetime::at_access(&shared_state, &read(shared::ARRIVED)).is_none());
    let pad = plan.pads.iter().position(|pad| pad.name == "new target").unwrap();
    shared_state.pads_freed = 1 << pad;
    let history = SiteHistory::of(&plan, &[], &SharedState::initial(&plan));
    let ghost = GhostState::default();
    let rip = plan.pads[pad].address;
    let fetch = Fetch {
        plan: &plan,
        shared_state: &shared_state,
        history: &history,
        ghost: &ghost,
        rip,
        bytes: &[0xc3],
        instruction: None,
        version: None,
    };
    let found: Vec<Property> = at_fetch(&fetch).into_iter().map(|violation| violation.property).collect();
    assert_eq!(found, [Property::Lifetime]);
}

#[test]
fn wrong_resume_compares_everything_but_nmi_masking() {
    let old = Cpu::at(0x10_0000, va::SITE, 1, false);
    let mut new = old.clone();
    new.regs.gpr[reg::RAX] = 4;
    let verdict = |end: &Cpu| (wrong_resume::same(end, &old), wrong_resume::same(end, &new));
    assert_eq!(verdict(&old), (true, false));
    assert_eq!(verdict(&new), (false, true));
    let mut end = new.clone();
    end.regs.nmi_masked = true;
    assert_eq!(verdict(&end), (false, true));
    end.regs.rflags ^= 1;
    assert_eq!(verdict(&end), (false, false), "a flag");
    let detail = wrong_resume::at_pass_end(&end, Some(&old), Some(&new)).detail;
    assert!(detail.contains("against new: RFLAGS is"), "{detail}");
    let mut end = old.clone();
    Arc::make_mut(&mut end.private)[0x100] = 1;
    assert_eq!(verdict(&end), (false, false), "a stack byte");
}

#[test]
fn names_come_back() {
    for property in Property::ALL {
        assert_eq!(property.name().parse(), Ok(property));
    }
    assert!("turn".parse::<Property>().unwrap_err().contains("torn"));
}

#[test]
fn every_property_has_its_row() {
    for property in Property::ALL {
        assert_eq!(serde_json::to_value(property).unwrap(), property.name());
        assert!(property.describe().split_whitespace().count() >= 4, "{property}");
    }
}
