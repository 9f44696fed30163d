//! Tests of the language.

use proptest::prelude::*;

use super::*;
use crate::plan::{Action, Function, HandlerVariant, OpKind, Role, Start, VendorRule, Word};
use crate::property::Property;

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
        assert!(own.executors.iter().all(|executor| executor.ring == Ring::Kernel));
        match scenario.plan(&Options { ring: Some(Ring::User) }) {
            Ok(plan) => assert_ne!(plan.digest(), own.digest(), "{}", scenario.name),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
                skipped.push(scenario.name.as_str());
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
    for scenario in library() {
        let digest = plan(&scenario.text).digest();
        if let Some(other) = seen.insert(digest, scenario.name.clone()) {
            panic!("{} is {other}", scenario.name);
        }
    }
}

#[test]
fn text_poke_fixup_resolves_to_the_five_steps() {
    let plan = plan(&scenario("protocol = \"text_poke_fixup\"", ""));
    let mask = 3;
    let sync = [OpKind::Broadcast { function: Function::Sync, mask }, OpKind::WaitAcks { mask }];
    let mut expected = vec![OpKind::Describe, OpKind::Armed(true)];
    expected.push(OpKind::Store { offset: 0, bytes: vec![0xcc] });
    expected.extend(sync.clone());
    expected.push(OpKind::Store { offset: 1, bytes: plan.site.new.bytes[1..].to_vec() });
    expected.extend(sync.clone());
    expected.push(OpKind::Store { offset: 0, bytes: vec![0xe9] });
    expected.extend(sync);
    expected.extend([OpKind::Armed(false), OpKind::Done]);
    assert_eq!(plan.program.iter().map(|op| op.kind.clone()).collect::<Vec<_>>(), expected);
    assert_eq!(plan.program[3].step, "sync-int3");
    assert_eq!(plan.site.intermediates, [vec![0xcc]]);
    assert_eq!(plan.site.address, at(0x100));
    let target = plan.pads[1].address;
    assert_eq!((plan.pads[0].address, plan.pads[0].mark), (at(0x105), 1));
    assert_eq!((plan.pads[1].mark, plan.pads[1].name.as_str()), (4, "new target"));
    assert_eq!(plan.handler.action, Action::Resume(target));
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
    assert_eq!(plan.handler.action, Action::Call { target, return_to: at(0x105) });
}

#[test]
fn settings_reach_the_plan() {
    let text = scenario(
        "rule = \"amd\"",
        "intermediates = [\"eb fe\"]\nnew-target = 0x40\n\
         [handler]\nresume = { at = 0x40 }\nvariant = \"counting\"\narmed = true\n\
         [events]\nnmi = 2\nirq = 1\nirq-runs = \"nothing\"\n\
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
    assert_eq!(plan.handler.action, Action::Resume(at(0x140)));
    assert_eq!(plan.handler.variant, HandlerVariant::Counting);
    assert!(plan.handler.armed_at_start);
    assert_eq!((plan.events.nmi, plan.events.nmi_runs_site), (2, true));
    assert_eq!((plan.events.irq, plan.events.irq_runs_site), (1, false));
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
            OpKind::Done,
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
    refused(&text.replace("torn", "tron"), "\"tron\"", "no property `tron`", "did you mean `torn`?");
    refused(&text.replace("torn", "unserialised"), "\"unserialised\"]", "expected twice", "once");
    refused(&text.replace("\"unserialised\", \"torn\"", ""), "[]", "without a property", "\"safe\"");
    refused(&text.replace("torn", "safe"), "\"safe\"", "no property `safe`", "");
}

#[test]
fn toml_errors_have_a_place_and_a_remedy() {
    let text = scenario("protocol = \"plain_store\"", "");
    refused(&text.replace("offset", "ofset"), "ofset", "unknown field", "did you mean `offset`?");
    refused(&text.replace("0x100", "\"far\""), "\"far\"", "invalid type", "form that is expected");
    refused(&text.replace("offset = 0x100", ""), "[site]", "missing field `offset`", "add `offset = ...`");
    refused(&text.replace("protocol", "protokol"), "protokol", "unknown field", "`protocol`");
    refused(&format!("{text}[handler]\nvariant = \"pain\"\n"), "\"pain\"", "unknown variant", "`plain`");
    refused(&format!("{text}offset = 3\n"), "offset = 3", "duplicate key", "once");
    let cut = &text[..text.find("jmp32").unwrap() + 2];
    refused(cut, "", "", "");
    let error = parse("x", "title = \"t\"\nexpect = [\n", &Options::default()).unwrap_err();
    assert_eq!(
        (error.kind(), error.advice()),
        (ErrorKind::Syntax, "the file seems to end too early: is it complete?")
    );
    let error = parse("x", " \n", &Options::default()).unwrap_err();
    assert!(error.advice().contains("empty"), "{}", error.advice());
    assert_eq!(error.file(), "x.toml");
}

#[test]
fn contradictions_in_the_site_are_refused() {
    let text = scenario("protocol = \"text_poke_fixup\"", "");
    let site = |from: &str, to: &str| text.replace(from, to);
    refused(&site("\"jmp32\"", "\"jmp8\""), "\"jmp8\"", "old has 5 bytes and new has 2", "same length");
    refused(&site("\"nop5\"", "\"nop55\""), "\"nop55\"", "neither bytes in hex nor", "did you mean `nop5`?");
    refused(&site("\"nop5\"", "\"0f 1f 44\""), "\"0f 1f 44\"", "cut by the end of the site", "missing bytes");
    refused(&site("\"nop5\"", "\"06 90 90 90 90\""), "\"06", "byte 0 begins no instruction", "64-bit");
    refused(&site("\"nop5\"", "[\"rdtsc\", \"nop3\"]"), "\"rdtsc\"", "neither bytes", "one of nop1");
    refused(&site("\"nop5\"", "\"0f 31 0f 1f 00\""), "\"0f 31", "rdtsc", "another instruction");
    refused(&site("\"nop5\"", "[\"push-rbp\", \"nop4\"]"), "[\"push", "stack is -8 bytes off", "POP");
    refused(&site("\"nop5\"", "[\"pop-rbp\", \"nop4\"]"), "[\"pop", "stack is +8 bytes off", "POP");
    refused(&site("0x100", "0x1000"), "0x1000", "4096 is no possible value", "from 0 to 4095");
    refused(&site("\"nop5\"", "\"\""), "\"\"", "neither bytes", "give bytes");
    refused(&site("\"nop5\"", "[]"), "[]", "without bytes", "at least one");
    refused(&format!("{text}old-target = 9\n"), "9", "without a branch", "remove it");
    refused(
        &format!("{text}intermediates = [\"eb 20\"]\n"),
        "\"eb 20\"",
        "no landing pad",
        "end of the site",
    );
    refused(&format!("{text}intermediates = [\"90 90\"]\n"), "\"90 90\"", "one instruction", "one by one");
    refused(
        &format!("{text}intermediates = [\"nop9\"]\n"),
        "\"nop9\"",
        "9 bytes, the site 5",
        "within the site",
    );
}

#[test]
fn landing_pads_that_collide_are_refused() {
    let text = scenario("protocol = \"text_poke_fixup\"", "new-target = 7\n");
    refused(&text, "\"jmp32\"", "collides with `next`", "4 bytes apart");
    refused(&text.replace("= 7", "= -3"), "\"jmp32\"", "over the site", "before it");
    refused(&text.replace("= 7", "= 2"), "\"jmp32\"", "byte 2, inside another instruction", "[0]");
    refused(&text.replace("= 7", "= 0x1efe"), "\"jmp32\"", "cross the end of its page", "0xffc");
    refused(&text.replace("= 7", "= 0x3efe"), "\"jmp32\"", "cross the end of its page", "0xffc");
    refused(&text.replace("= 7", "= 0x80000000"), "0x80000000", "no possible value", "to 2147483647");
    assert_eq!(plan(&text.replace("= 7", "= 5")).pads.len(), 1);
    assert_eq!(plan(&text.replace("= 7", "= 9")).pads.len(), 2);
    let two = text.replace("\"nop5\"", "\"jmp32\"").replace("= 7", "= 0x5001\nold-target = 0x9000");
    refused(&two, "\"jmp32\"", "collides with `old target`", "low 12 bits");
    let near = scenario("protocol = \"text_poke_fixup\"", "new-target = 200\n");
    let near = near.replace("\"nop5\"", "\"nop2\"").replace("jmp32", "jmp8");
    refused(&near, "200", "does not reach a target 198 bytes after its end", "`jmp32`");
}

#[test]
fn contradictions_in_steps_are_refused() {
    let with = |step: &str| scenario("", &format!("[handler]\n[[step]]\n{step}\n"));
    refused(
        &with("store = { at = 3, bytes = \"90 90 90\" }"),
        "3,",
        "outside of the site, which has 5",
        "0..5",
    );
    refused(&with("store = { at = -1, bytes = \"90\" }"), "-1", "outside of the site", "0..5");
    refused(&with("store = { at = 0, bytes = \"9g\" }"), "\"9g\"", "no list of bytes", "hex");
    refused(&with("store = { at = 0 }"), "{ at = 0 }", "what is stored", "`bytes`");
    refused(&with("store = { what = \"new\", each = 0 }"), "0 }", "no possible value", "from 1");
    refused(&with("sync = { to = [0, 2] }"), "2]", "no executor 2", "from 0 to 1");
    refused(&with("sync = { to = [] }"), "{ to", "without any", "\"all\"");
    refused(&with("sync = { to = \"none\" }"), "\"none\"", "invalid value", "form");
    refused(&with("wait = { acks = \"all\" }"), "\"all\"", "executor 0 gets no broadcast", "broadcast");
    refused(
        &with("sync = { to = [0] }\n[[step]]\nwait = { acks = [1] }"),
        "[1]",
        "executor 1 gets no",
        "broadcast",
    );
    refused(&with("wait = { arrived = 1 }"), "1 }", "count at most 0 arrivals", "`hold`");
    refused(
        &with("sync = {}\n[[step]]\nwait = { arrived = \"all\" }"),
        "\"all\"",
        "counts arrivals",
        "`hold`",
    );
    refused(&with("wait = { flag = 1 }"), "1 }", "only the patcher writes", "`arrived`");
    refused(&with("wait = {}"), "{}", "waits for one thing", "exactly one");
    refused(&with("set = { flag = 1, release = 1 }"), "{ flag", "writes one word", "exactly one");
    refused(&with("free = { what = \"old-target\" }"), "{ what", "`old` has no branch", "jump or a call");
    refused(&with("label = \"x\""), "[[step]]", "without an operation", "store");
    refused(&with("arm = {}\ndisarm = {}"), "[[step]]", "2 operations", "move `disarm`");
    refused(&with("done = {}\n[[step]]\ndone = {}"), "[[step]]", "declared twice", "keep one");
    refused(&with("abandon = {}\n[[step]]\narm = {}"), "[[step]]", "after `abandon`", "last step");
    refused(&with("done = {}\n[[step]]\nabandon = {}"), "[[step]]", "is abandoned", "either");
    refused(&with("stor = {}"), "stor", "unknown field", "did you mean `store`?");
    refused(&with("label = \"a b\"\narm = {}"), "\"a b\"", "one word", "short name");
    let twice = "label = \"a\"\narm = {}\n[[step]]\nlabel = \"a\"\ndisarm = {}";
    refused(&with(twice), "\"a\"", "two steps have the label `a`", "of its own");
    refused(
        &with("arm = {}").replace("[handler]\n", ""),
        "[[step]]",
        "does not say what it does",
        "[handler]",
    );
    refused(&scenario("", ""), "title", "nothing to do", "`protocol`");
}

#[test]
fn contradictions_in_mutants_are_refused() {
    let fixup = |more: &str| scenario(&format!("protocol = \"text_poke_fixup\"\n{more}"), "");
    refused(
        &fixup("without = [\"sync-in3\"]"),
        "\"sync-in3\"",
        "no step `sync-in3`",
        "did you mean `sync-int3`?",
    );
    refused(&fixup("order = [\"quux\"]"), "\"quux\"", "no step `quux`", "the labels are arm, int3");
    refused(&fixup("order = [\"arm\", \"arm\"]"), "\"arm\"]", "twice in the order", "once");
    refused(&fixup("order = [\"arm\"]"), "[\"arm\"]", "where `int3` stands", "without = [\"int3\"]");
    let own = scenario("protocol = \"plain_store\"", "[[step]]\nquiesce = {}\n");
    refused(&own, "[[step]]", "where in the protocol", "order = [...]");
    let unknown = scenario("protocol = \"text_poke_fixpu\"", "");
    refused(&unknown, "\"text_poke_fixpu\"", "no protocol", "did you mean `text_poke_fixup`?");
}

#[test]
fn an_error_in_a_protocol_names_its_file() {
    let text = scenario("protocol = \"text_poke_fixup\"", "").replace("\"nop5\"", "\"nop1\"");
    let error = parse("test/x", &text.replace("jmp32", "ret"), &Options::default()).unwrap_err();
    assert!(error.to_string().contains("cannot be emulated"), "{error}");
    assert_eq!(error.file(), "protocols/text_poke_fixup.toml");
    assert!(error.position().is_some());
    let text = format!("{}[handler]\nresume = \"next\"\n", text.replace("jmp32", "ret"));
    let error = parse("test/x", &text, &Options::default()).unwrap_err();
    assert!(error.to_string().contains("no tail"), "{error}");
    assert!(error.advice().contains("without = [\"tail\"]"), "{}", error.advice());
}

#[test]
fn contradictions_elsewhere_are_refused() {
    let with = |more: &str| scenario("protocol = \"text_poke_fixup\"", more);
    refused(&with("[executors]\ncount = 9\n"), "9", "9 is no possible value", "from 1 to 8");
    refused(&with("[executors]\npasses = 0\n"), "0", "number of passes", "from 1 to 8");
    refused(&with("[executors]\nring = 1\n"), "1", "no ring 1", "0 (kernel) or 3 (user)");
    let both = "[executors]\ncount = 1\n[[executor]]\npasses = 1\n";
    refused(&with(both), "[[executor]]", "described twice", "either");
    refused(&with("executor = []\n").replace(SITE, &format!("[x]\n{SITE}")), "x", "unknown field", "");
    let irqs = "[executors]\nring = 3\nrole = \"lock-irqs-off\"\n";
    refused(&with(irqs), "\"lock-irqs-off\"", "cannot switch interrupts off", "`ring = 3`");
    let lock = "[executors]\nrole = \"lock\"\nstart = { interior = 2 }\n";
    refused(&with(lock), "{ interior", "before it has it", "\"loop\"");
    let inside = "[executors]\nstart = { interior = 2 }\n";
    refused(&with(inside), "{ interior", "begins at byte 2", "one instruction");
    refused(&with("[handler]\nresume = { at = 0x30 }\n"), "{ at", "nothing to execute 48 bytes", "5 (next)");
    refused(&with("[events]\nnmi = 300\n"), "300", "event budget", "from 0 to 8");
    refused(&with("").replace("\"t\"", "\"a\\nb\""), "\"a\\nb\"", "one line", "comment");
    let complex = with("").replace("\"jmp32\"", "[\"xor-eax-eax\", \"nop3\"]");
    let error = parse("x", &complex, &Options::default()).unwrap_err();
    assert!(error.advice().contains("\"next\""), "{}", error.advice());
}

#[test]
fn a_ring_from_outside_makes_a_scenario_unsupported_not_wrong() {
    let text = scenario("protocol = \"text_poke_fixup\"", "[executors]\nrole = \"lock-irqs-off\"\n");
    let error = parse("x", &text, &Options { ring: Some(Ring::User) }).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    let text = text.replace("[executors]", "[executors]\nring = 3");
    assert_eq!(parse("x", &text, &Options::default()).unwrap_err().kind(), ErrorKind::Invalid);
    assert!(parse("x", &text, &Options { ring: Some(Ring::Kernel) }).is_ok());
}

#[test]
fn a_report_shows_file_line_and_caret() {
    let text = scenario("protocol = \"plain_store\"", "").replace("\"jmp32\"", "\"jmp8\"");
    let error = parse("mine/site", &text, &Options::default()).unwrap_err();
    let mut shown = String::new();
    let handler = miette::GraphicalReportHandler::new_themed(miette::GraphicalTheme::unicode_nocolor());
    handler.render_report(&mut shown, &error).unwrap();
    assert!(shown.contains("mine/site.toml:6:7"), "{shown}");
    assert!(shown.contains("of another length than `old`"), "{shown}");
    assert!(shown.contains("help: give both versions the same length"), "{shown}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_text_never_panics(text in "\\PC*") {
        let _ = parse("fuzz", &text, &Options::default());
    }

    #[test]
    fn mutated_scenarios_never_panic(
        pick in any::<prop::sample::Index>(),
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0..6usize, any::<i64>(), "\\PC{0,6}"), 1..6),
    ) {
        let library = library();
        let mut text = pick.get(&library).text.clone();
        for (place, kind, number, junk) in edits {
            let mut words: Vec<&str> = text.split_inclusive([' ', '\n', '"', ',']).collect();
            let at = place.index(words.len());
            let number = number.to_string();
            match kind {
                0 => { words.remove(at); }
                1 => words.insert(at, words[at]),
                2 => words[at] = &junk,
                3 => words[at] = &number,
                4 => { let other = words.len() / 2; words.swap(at, other); }
                _ => words.truncate(at),
            }
            text = words.concat();
            if text.is_empty() {
                break;
            }
        }
        if let Err(error) = parse("fuzz", &text, &Options::default()) {
            prop_assert!(!error.advice().is_empty());
            let mut shown = String::new();
            let handler = miette::GraphicalReportHandler::new();
            prop_assert!(handler.render_report(&mut shown, &error).is_ok());
        }
    }

    #[test]
    fn random_site_bytes_never_panic(
        old in prop::collection::vec(any::<u8>(), 1..12),
        offset in 0..0x1000u16,
        target in any::<i32>(),
    ) {
        let hex: Vec<_> = old.iter().map(|byte| format!("{byte:02x}")).collect();
        let site = format!(
            "title = \"t\"\nexpect = \"safe\"\nprotocol = \"text_poke_fixup\"\n[site]\nold = \"{}\"\nnew = \"jmp32\"\n\
             offset = {offset}\nnew-target = {target}\n", hex.join(" "));
        let _ = parse("fuzz", &site, &Options::default());
    }
}
