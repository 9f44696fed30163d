//! Tests of the language.

mod reference;
mod refusals;
mod robustness;

use crossmod_model::plan::{Action, Function, HandlerVariant, OpKind, Role, Start, Word};
use crossmod_model::property::Property;
use crossmod_model::x86::VendorRule;

use super::*;

const SITE: &str = "[site]\nold = \"nop5\"\nnew = \"jmp32\"\noffset = 0x100\n";

/// A scenario with the given head, the default site and the given rest.
fn scenario(head: &str, rest: &str) -> String {
    format!("title = \"t\"\nexpect = \"safe\"\n{head}\n{SITE}{rest}")
}

fn plan(text: &str) -> Plan {
    parse("test/x", text, &Options::default())
        .unwrap_or_else(|error| panic!("{:?}", miette::Report::new(error)))
}

fn at(address_offset: u64) -> u64 {
    crossmod_abi::va::SITE + address_offset
}

/// Checks an error's place, by the text that it points at, and parts of its message and help.
#[track_caller]
fn refused(text: &str, pointed: &str, message: &str, help: &str) {
    let error = parse("test/x", text, &Options::default()).unwrap_err();
    let shown = format!("{error}\n{:?}\n{}", error.position(), error.advice());
    assert!(error.to_string().contains(message), "{shown}");
    assert!(error.advice().contains(help), "{shown}");
    let (line, column) = error.position().unwrap_or_else(|| panic!("{shown}"));
    let rest: String = text.lines().nth(line - 1).unwrap_or("").chars().skip(column - 1).collect();
    assert!(rest.starts_with(pointed), "points at line {line}, column {column}: {rest:?}\n{shown}");
}

#[test]
fn every_shipped_scenario_parses_at_both_rings() {
    let library = library();
    assert!(library.len() >= 60);
    assert!(library.iter().filter(|scenario| scenario.name.starts_with("linux/")).count() >= 12);
    assert!(library.iter().all(|scenario| !scenario.name.starts_with("protocols/")));
    assert!(library.is_sorted_by(|a, b| a.name < b.name));
    let mut skipped = Vec::new();
    for scenario in &library {
        let own = scenario.plan(&Options::default());
        let own = own.unwrap_or_else(|error| panic!("{:?}", miette::Report::new(error)));
        assert_eq!(own.name, scenario.name);
        let bare = !["bugs/", "catalogue/"].iter().any(|group| scenario.name.starts_with(group));
        assert!(!bare || own.executors.iter().all(|executor| executor.ring == Ring::Kernel));
        match scenario.plan(&Options { ring: Some(Ring::User), ..Options::default() }) {
            Ok(plan) => assert!(!bare || plan.digest() != own.digest(), "{}", scenario.name),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
                if bare {
                    skipped.push(scenario.name.as_str());
                }
            }
        }
    }
    let needs_ring_0 = [
        "seed/lock-dependency-fixup",
        "seed/lock-dependency-hold",
        "seed/retry-irqs-off",
        "seed/retry-irqs-off-counting",
    ];
    assert_eq!(skipped, needs_ring_0);
}

#[test]
fn every_protocol_is_used() {
    let library = library();
    for (name, _) in protocols() {
        let key = format!("protocol = \"{name}\"");
        assert!(library.iter().any(|scenario| scenario.text.contains(&key)), "{name}");
    }
}

#[test]
fn no_shipped_scenario_repeats_another() {
    let mut seen = std::collections::HashMap::new();
    // The catalogue applies protocols that others look at in parts, and some bugs of the museum were asked about in 2009.
    let others = |one: &Scenario| !one.name.starts_with("catalogue/") && !one.name.starts_with("bugs/");
    for scenario in library().into_iter().filter(others) {
        // What the groups have in common is looked at under other fetch models.
        let key = (plan(&scenario.text).digest(), scenario.models().unwrap());
        if let Some(other) = seen.insert(key, scenario.name.clone()) {
            panic!("{} is {other}", scenario.name);
        }
    }
}

#[test]
fn text_poke_fixup_resolves_to_the_five_steps() {
    let plan = plan(&scenario("protocol = \"text_poke_fixup\"", ""));
    let mask = 3;
    let sync = [OpKind::Broadcast { function: Function::Sync, mask }, OpKind::WaitAcks { mask }];
    let mut expected = vec![OpKind::Describe(0), OpKind::Armed(true)];
    expected.push(OpKind::Store { offset: 0, bytes: vec![0xcc] });
    expected.extend(sync.clone());
    expected.push(OpKind::Store { offset: 1, bytes: plan.site.new.bytes[1..].to_vec() });
    expected.extend(sync.clone());
    expected.push(OpKind::Store { offset: 0, bytes: vec![0xe9] });
    expected.extend(sync);
    expected.extend([OpKind::Armed(false), OpKind::Done(1)]);
    assert_eq!(plan.program.iter().map(|op| op.kind.clone()).collect::<Vec<_>>(), expected);
    assert_eq!(plan.program[3].step, "sync-int3");
    assert_eq!(plan.site.intermediates, [vec![0xcc]]);
    assert_eq!(plan.site.address, at(0x100));
    let target = plan.pads[1].address;
    assert_eq!((plan.pads[0].address, plan.pads[0].mark), (at(0x105), 1));
    assert_eq!((plan.pads[1].mark, plan.pads[1].name.as_str()), (4, "new target"));
    assert_eq!(plan.handler.actions, [Action::Resume(target)]);
    assert!(plan.site.new.bytes.iter().all(|byte| *byte != 0));
    assert_eq!((plan.executors.len(), plan.executors[0].passes), (2, 2));
    assert_eq!(plan.rule, VendorRule::Intel);
}

#[test]
fn calls_are_emulated_with_their_return_address() {
    let text = scenario("protocol = \"text_poke_fixup\"", "")
        .replace("\"nop5\"", "\"call\"")
        .replace("jmp32", "call");
    let plan = plan(&text);
    assert_eq!(plan.pads.iter().map(|pad| pad.mark).collect::<Vec<_>>(), [1, 0x10, 0x20]);
    let target = plan.pads[2].address;
    assert_eq!(plan.handler.actions, [Action::Call { target, return_to: at(0x105) }]);
}

#[test]
fn settings_reach_the_plan() {
    let text = scenario(
        "rule = \"amd\"",
        "intermediates = [\"eb fe\"]\nnew-target = 0x40\n\
         [handler]\nresume = { at = 0x40 }\nvariant = \"counting\"\narmed = true\n\
         [events]\nnmi = 2\nirq = 1\nirq-runs = \"nothing\"\nsmi = 3\nmce = 1\nmce-runs = \"nothing\"\n\
         [[executor]]\nring = 3\n[[executor]]\nrole = \"lock-irqs-off\"\npasses = 5\n\
         [[step]]\nstore = { what = \"new\", each = 2 }\n\
         [[step]]\ndelay = { moves = 2 }\n\
         [[step]]\nset = { flag = 7 }\n\
         [[step]]\nwait = { flag = 7 }\n\
         [[step]]\nbroadcast = { run = \"early\", to = [1] }\n\
         [[step]]\nwait = { arrived = \"all\" }\n\
         [[step]]\nfree = { what = \"new-target\" }\n",
    );
    let plan = plan(&text);
    assert_eq!(plan.rule, VendorRule::Amd);
    assert_eq!(plan.site.new.bytes, [0xe9, 0x3b, 0, 0, 0]);
    assert_eq!(plan.site.intermediates, [vec![0xeb, 0xfe]]);
    assert_eq!(plan.handler.actions, [Action::Resume(at(0x140))]);
    assert_eq!(plan.handler.variant, HandlerVariant::Counting);
    assert!(plan.handler.armed_at_start);
    assert_eq!((plan.events.nmi, plan.events.nmi_runs_site), (2, true));
    assert_eq!((plan.events.irq, plan.events.irq_runs_site), (1, false));
    assert_eq!((plan.events.smi, plan.events.mce, plan.events.mce_runs_site), (3, 1, false));
    assert_eq!((plan.executors[0].ring, plan.executors[0].role), (Ring::User, Role::Loop));
    assert_eq!((plan.executors[1].passes, plan.executors[1].role), (5, Role::LockIrqOff));
    let kinds: Vec<_> = plan.program.iter().map(|op| op.kind.clone()).collect();
    assert_eq!(
        kinds,
        [
            OpKind::Store { offset: 0, bytes: vec![0xe9, 0x3b] },
            OpKind::Store { offset: 2, bytes: vec![0, 0] },
            OpKind::Store { offset: 4, bytes: vec![0] },
            OpKind::Delay,
            OpKind::Delay,
            OpKind::SetWord { word: Word::Flag, value: 7 },
            OpKind::WaitWord { word: Word::Flag, value: 7 },
            OpKind::Broadcast { function: Function::Early, mask: 2 },
            OpKind::WaitWord { word: Word::Arrived, value: 1 },
            OpKind::FreeTarget(at(0x140)),
            OpKind::Done(1),
        ]
    );
    assert_eq!(plan.program[0].step, "store-1");
    assert_eq!(plan.program[3].step, "delay-1");
}

#[test]
fn interior_boundaries_come_from_the_decoder() {
    let text = scenario("protocol = \"text_poke_fixup\"", "[executors]\nstart = { interior = 2 }\n")
        .replace("\"nop5\"", "[\"xor-ecx-ecx\", \"0f 1f 00\"]");
    let plan = plan(&text);
    assert_eq!(plan.site.old.boundaries, [0, 2]);
    assert_eq!(plan.executors[0].start, Start::Interior(2));
    refused(
        &text.replace("= 2 }", "= 3 }"),
        "{ interior = 3 }",
        "no instruction of `old` begins at byte 3",
        "[2]",
    );
}

#[test]
fn mutants_drop_reorder_and_add_steps() {
    let dropped =
        plan(&scenario("protocol = \"text_poke_fixup\"\nwithout = [\"sync-tail\", \"disarm\"]", ""));
    let labels = |plan: &Plan| {
        let mut labels: Vec<_> = plan.program.iter().map(|op| op.step.clone()).collect();
        labels.dedup();
        labels.join(" ")
    };
    assert_eq!(labels(&dropped), "arm int3 sync-int3 tail first sync-first done");
    let order = "protocol = \"stop_machine\"\norder = [\"stop\", \"done\", \"stopped\", \"store\", \"release\", \"acks\"]";
    let reordered = plan(&scenario(order, "[[step]]\nlabel = \"done\"\ndone = {}\n"));
    assert_eq!(labels(&reordered), "stop done stopped store release acks");
    let abandoned = plan(&scenario("", "[[step]]\nstore = { what = \"int3\" }\n[[step]]\nabandon = {}\n"));
    assert_eq!(labels(&abandoned), "store-1");
}

#[test]
fn expectations_are_sorted_properties() {
    let text = scenario("protocol = \"plain_store\"", "").replace("\"safe\"", "[\"unserialised\", \"torn\"]");
    assert_eq!(plan(&text).expect, [Property::Torn, Property::Unserialised]);
    refused(&text.replace("torn", "tron"), "\"tron\"", "unknown property `tron`", "did you mean `torn`?");
    refused(&text.replace("torn", "unserialised"), "\"unserialised\"]", "expected twice", "once");
    refused(&text.replace("\"unserialised\", \"torn\"", ""), "[]", "without a property", "\"safe\"");
    refused(&text.replace("torn", "safe"), "\"safe\"", "unknown property `safe`", "");
}
