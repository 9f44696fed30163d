//! The store buffer, rule by rule: what is late, what a CPU finds of its own stores, what waits until they are there.

use crossmod::explore::Transition;
use crossmod::memory::MemoryModel;
use crossmod::property::Property;
use crossmod::results::Status;
use crossmod::{CheckOptions, Report, Scenario};

use crate::bench::{SITE, check, inline, options, violated, walk};
use crate::kvm;

/// Two CPUs, each with a program, over the words `x`, `y`, `r0`, `r1` (all 0), with `rest` behind.
fn two(left: &str, right: &str, rest: &str) -> Scenario {
    let words = "[words]\nx = 0\ny = 0\nr0 = 7\nr1 = 7\n";
    let executor = |role: &str| format!("[[executor]]\nrole = \"{role}\"\npasses = 1\n");
    let executors = executor("left") + &executor("right");
    let programs = format!("[program]\nleft = [{left}]\nright = [{right}]\n");
    let last = "[[step]]\nabandon = {}\n[final]\nwords = [\"r0\", \"r1\"]\nexactly = []\n";
    inline("two", &format!("{rest}{SITE}{words}{executors}{programs}{last}"))
}

fn finals(scenario: &Scenario, options: &CheckOptions) -> Vec<Vec<u32>> {
    check(scenario, options).finals.unwrap().reached
}

/// Each stores its word, does what `between` says, and notes what it loads of the other's.
fn store_buffering(between: &str) -> Scenario {
    let side = |own: &str, other: &str, noted: &str| {
        format!(
            "{{ set = {{ {own} = 1 }} }}, {between} {{ load = {{ a = \"{other}\" }} }}, {{ set = {{ {noted} = \"a\" }} }}"
        )
    };
    two(&side("x", "y", "r0"), &side("y", "x", "r1"), "")
}

const WEAK: [[u32; 2]; 4] = [[0, 0], [0, 1], [1, 0], [1, 1]];

#[test]
fn a_load_passes_an_older_store() {
    kvm::required();
    assert_eq!(finals(&store_buffering(""), &options()), WEAK);
    assert_eq!(finals(&store_buffering("{ pause = {} },"), &options()), WEAK);
    let sc = CheckOptions { memory: Some(MemoryModel::Sc), ..options() };
    assert_eq!(finals(&store_buffering(""), &sc), WEAK[1..]);
}

#[test]
fn what_empties_the_buffer_is_not_passed() {
    kvm::required();
    for drain in [
        "fence = {}",
        "add = { r0 = 0 }",
        "take = \"lock\"",
        "serialise = {}",
        "serialise = { by = \"iret\" }",
    ] {
        let last = if drain.starts_with("take") { ", { drop = \"lock\" }," } else { "," };
        let between = format!("{{ {drain} }}{last}");
        // Dropping a lock is a plain store, which is late again, but behind the load that matters it is not.
        let found = finals(&store_buffering(&between), &options());
        assert_eq!(found, WEAK[1..], "{drain}");
    }
}

#[test]
fn a_cpu_finds_its_own_stores_at_once() {
    kvm::required();
    let own = "{ set = { x = 1 } }, { set = { x = 2 } }, { load = { a = \"x\" } }, { set = { r0 = \"a\" } }";
    let found = finals(&two(own, "{ load = { a = \"x\" } }, { set = { r1 = \"a\" } }", ""), &options());
    assert_eq!(found, [[2, 0], [2, 1], [2, 2]]);
}

/// Under SB with text in place of one word: a load of text that lies inside a store that is still in the buffer is
/// satisfied from there and passes; one that needs a byte more waits until the store is in memory.
#[test]
fn a_load_that_needs_more_than_the_newest_store_waits_for_it() {
    kvm::required();
    let side = |size: u32| {
        format!(
            "{{ store = {{ at = 0, bytes = \"e9\" }} }}, {{ load = {{ a = {{ text = 0, size = {size} }} }} }}, \
             {{ load = {{ b = \"y\" }} }}, {{ set = {{ r0 = \"b\" }} }}"
        )
    };
    let right = "{ set = { y = 1 } }, { fence = {} }, { load = { a = { text = 0, size = 1 } } }, \
        { if = { a = 0xe9, goto = \"new\" } }, { set = { r1 = 0 } }, { goto = \"end\" }, { label = \"new\", set = { r1 = 1 } }";
    assert_eq!(finals(&two(&side(1), right, ""), &options()), WEAK);
    assert_eq!(finals(&two(&side(2), right, ""), &options()), WEAK[1..]);
}

#[test]
fn interrupts_of_every_kind_wait_for_the_buffer() {
    kvm::required();
    let events = "events = { nmi = 1, irq = 1, smi = 1, nmi-runs = \"nothing\", irq-runs = \"nothing\" }\n";
    let (mut full, mut empty) = (0, 0);
    walk(
        &two("{ set = { x = 1 } }, { set = { y = 1 } }", "{ load = { a = \"x\" } }", events),
        |model, state, moves| {
            let pending = !model.buffer_of(state, 0).is_empty();
            assert_eq!(moves.contains(&Transition::Commit(0)), pending);
            let delivered = [Transition::Nmi(0), Transition::Irq(0), Transition::Smi(0)];
            let some = delivered.iter().any(|event| moves.contains(event));
            assert!(!(pending && some));
            full += u32::from(pending);
            empty += u32::from(some);
        },
    );
    assert!(full > 10 && empty > 10, "{full}, {empty}");
}

/// The receiver looks at what was stored before the message was sent.
fn message(send: &str) -> Scenario {
    let tell = "tell = [{ load = { a = \"x\" } }, { set = { r1 = \"a\" } }]\n";
    let send = format!("{{ set = {{ x = 1 }} }}, {{ broadcast = {{ run = \"tell\", to = [1]{send} }} }}");
    let text = two(&send, "{ pause = {} }", "").text.replace("right = [", &format!("{tell}right = ["));
    inline("message", &text.replace("title = \"two\"\nexpect = \"safe\"\n", ""))
}

#[test]
fn a_message_overtakes_stores_only_where_it_is_said() {
    kvm::required();
    assert_eq!(finals(&message(""), &options()), [[7, 1]]);
    assert_eq!(finals(&message(", send = \"x2apic\""), &options()), [[7, 0], [7, 1]]);
}

/// A program that says it is done before its store is in memory has said so too early.
#[test]
fn completion_is_declared_where_the_program_declares_it() {
    kvm::required();
    let patcher = |between: &str| {
        let left = format!("{{ store = {{ what = \"new\" }} }}, {between} {{ done = {{}} }}");
        let scenario = two(&left, "{ pass = {} }", "rule = \"amd\"\n");
        check(&scenario, &options())
    };
    let found = |report: &Report| violated(report).contains(&Property::Stale);
    assert!(found(&patcher("")), "a pass may begin between the statement and the commit");
    assert!(!found(&patcher("{ fence = {} },")));
}

#[test]
fn a_program_that_never_waits_is_refused_with_a_reason() {
    kvm::required();
    let scenario =
        two("{ label = \"again\", set = { x = 1 } }, { goto = \"again\" }", "{ load = { a = \"x\" } }", "");
    let error = crate::harness::checker().check(&scenario, &options(), |_| {}).unwrap_err().to_string();
    assert!(error.contains("more than 16 stores are in the store buffer: add a `fence`"), "{error}");
}

/// Every finding of a check was executed live, on a vCPU for each executor, before it was reported.
#[test]
fn what_a_late_store_breaks_is_confirmed_live() {
    kvm::required();
    let last = "{ check = { r1 = 7, else = \"text-data\" } }";
    let left = format!(
        "{{ set = {{ x = 1 }} }}, {{ if = {{ y = 1, goto = \"end\" }} }}, {{ set = {{ r0 = 0 }} }}, {last}"
    );
    let right = "{ set = { y = 1 } }, { if = { x = 1, goto = \"end\" } }, { set = { r1 = 0 } }";
    let report = check(&two(&left, right, ""), &options());
    assert_eq!((report.status, violated(&report)), (Status::Hazard, [Property::TextData].into()));
    assert!(report.findings[0].rendering.contains("store buffer: "), "{}", report.findings[0].rendering);
}

/// Its own store makes it trap, whatever stands behind the INT3 in memory: the bytes need not be an instruction.
#[test]
fn a_fetch_waits_for_an_own_store_whatever_the_bytes_are() {
    kvm::required();
    let left = "{ store = { at = 1, bytes = \"7b 45\" } }";
    let right = "{ store = { what = \"int3\" } }, { pass = {} }";
    for model in ["coherent", "amd"] {
        let options = CheckOptions { fetch: Some(model.parse().unwrap()), ..options() };
        let report = check(&two(left, right, "rule = \"amd\"\n"), &options);
        assert_eq!(violated(&report), [Property::UnclaimedTrap].into(), "{model}");
    }
}

/// A word that the host only writes: which of the two stores is the last one depends on when the program's is there.
#[test]
fn a_store_to_a_word_that_the_host_writes_is_late() {
    kvm::required();
    let program = "[words]\nx = 0\nw = 0\nr0 = 7\n[program]\nonly = [{ set = { x = 1 } }, { load = { a = \"w\" } }, \
        { set = { r0 = \"a\" } }]\n[executors]\nrole = \"only\"\ncount = 1\npasses = 1\n";
    let host = "[[step]]\nset = { w = 1 }\n[[step]]\nset = { x = 2 }\n[[step]]\nabandon = {}\n";
    let last = "[final]\nwords = [\"x\", \"r0\"]\nexactly = []\n";
    let scenario = inline("r", &format!("{SITE}{program}{host}{last}"));
    assert_eq!(finals(&scenario, &options()), [[1, 0], [1, 1], [2, 0], [2, 1]]);
    let sc = CheckOptions { memory: Some(MemoryModel::Sc), ..options() };
    assert_eq!(finals(&scenario, &sc), [[1, 1], [2, 0], [2, 1]]);
}
