//! Every diagnostic: its place, its message, its help.

use super::*;

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
    refused(
        &site("\"nop5\"", "\"0f 1f 44\""),
        "\"0f 1f 44\"",
        "the site ends inside the instruction",
        "missing bytes",
    );
    refused(
        &site("\"nop5\"", "\"06 90 90 90 90\""),
        "\"06",
        "byte 0 is not the beginning of an instruction",
        "64-bit",
    );
    refused(&site("\"nop5\"", "[\"rdtsc\", \"nop3\"]"), "\"rdtsc\"", "neither bytes", "one of nop1");
    refused(&site("\"nop5\"", "\"0f 31 0f 1f 00\""), "\"0f 31", "rdtsc", "another instruction");
    refused(&site("\"nop5\"", "[\"push-rbp\", \"nop4\"]"), "[\"push", "stack is -8 bytes off", "POP");
    refused(&site("\"nop5\"", "[\"pop-rbp\", \"nop4\"]"), "[\"pop", "stack is +8 bytes off", "POP");
    refused(&site("0x100", "0x1000"), "0x1000", "4096 is not a valid value", "from 0 to 4095");
    refused(&site("\"nop5\"", "\"\""), "\"\"", "neither bytes", "give bytes");
    refused(&site("\"nop5\"", "[]"), "[]", "without bytes", "at least one");
    refused(&format!("{text}old-target = 9\n"), "9", "belongs to no branch", "remove it");
    refused(
        &format!("{text}intermediates = [\"eb 20\"]\n"),
        "\"eb 20\"",
        "no landing pad",
        "end of the site",
    );
    refused(&format!("{text}intermediates = [\"90 90\"]\n"), "\"90 90\"", "one instruction", "of its own");
    refused(
        &format!("{text}intermediates = [\"nop9\"]\n"),
        "\"nop9\"",
        "9 bytes, the site 5",
        "fit into the site",
    );
}

#[test]
fn landing_pads_that_collide_are_refused() {
    let text = scenario("protocol = \"text_poke_fixup\"", "new-target = 7\n");
    refused(&text, "\"jmp32\"", "collides with `next`", "4 bytes apart");
    refused(&text.replace("= 7", "= -3"), "\"jmp32\"", "overlap the site", "before it");
    refused(&text.replace("= 7", "= 2"), "\"jmp32\"", "byte 2, inside another instruction", "[0]");
    refused(&text.replace("= 7", "= 0x1efe"), "\"jmp32\"", "cross the end of its page", "0xffc");
    refused(&text.replace("= 7", "= 0x3efe"), "\"jmp32\"", "cross the end of its page", "0xffc");
    refused(&text.replace("= 7", "= 0x80000000"), "0x80000000", "not a valid value", "to 2147483647");
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
    refused(&with("store = { at = 0, bytes = \"9g\" }"), "\"9g\"", "not a list of bytes", "hex");
    refused(&with("store = { at = 0 }"), "{ at = 0 }", "a store needs", "`bytes`");
    refused(&with("store = { what = \"new\", each = 0 }"), "0 }", "not a valid value", "from 1");
    refused(&with("sync = { to = [0, 2] }"), "2]", "no executor 2", "from 0 to 1");
    refused(&with("sync = { to = [] }"), "{ to", "is empty", "\"all\"");
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
    refused(&scenario("", ""), "title", "the patcher has no steps", "`protocol`");
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
    refused(&fixup("order = [\"arm\", \"arm\"]"), "\"arm\"]", "twice", "once");
    refused(
        &fixup("order = [\"arm\"]"),
        "[\"arm\"]",
        "does not name the step `int3`",
        "without = [\"int3\"]",
    );
    let own = scenario("protocol = \"plain_store\"", "[[step]]\nquiesce = {}\n");
    refused(&own, "[[step]]", "without saying where", "order = [...]");
    let unknown = scenario("protocol = \"text_poke_fixpu\"", "");
    refused(&unknown, "\"text_poke_fixpu\"", "no protocol", "did you mean `text_poke_fixup`?");
}

#[test]
fn an_error_in_a_protocol_names_its_file() {
    let text = scenario("protocol = \"text_poke_fixup\"", "").replace("\"nop5\"", "\"nop1\"");
    // CMC.
    let error = parse("test/x", &text.replace("jmp32", "f5"), &Options::default()).unwrap_err();
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
    refused(&with("[executors]\ncount = 9\n"), "9", "9 is not a valid value", "from 1 to 8");
    refused(&with("[executors]\npasses = 0\n"), "0", "number of passes", "from 1 to 8");
    refused(&with("[executors]\nring = 1\n"), "1", "no ring 1", "0 (kernel) or 3 (user)");
    let both = "[executors]\ncount = 1\n[[executor]]\npasses = 1\n";
    refused(&with(both), "[[executor]]", "described twice", "either");
    refused(&scenario("protocol = \"plain_store\"\nexecutor = []", ""), "", "0 executors", "1 to 8");
    let irqs = "[executors]\nring = 3\nrole = \"lock-irqs-off\"\n";
    refused(&with(irqs), "\"lock-irqs-off\"", "cannot switch interrupts off", "`ring = 3`");
    let lock = "[executors]\nrole = \"lock\"\nstart = { interior = 2 }\n";
    refused(&with(lock), "{ interior", "before it has it", "\"loop\"");
    let trapped = "[executors]\nstart = \"handler\"\n";
    let plain = scenario("protocol = \"plain_store\"", trapped);
    refused(&plain, "\"handler\"", "there is none", "[handler]");
    let lock = format!("{trapped}role = \"lock\"\n");
    refused(&with(&lock), "\"handler\"", "before it has it", "\"loop\"");
    let inside = "[executors]\nstart = { interior = 2 }\n";
    refused(&with(inside), "{ interior", "begins at byte 2", "one instruction");
    refused(&with("[handler]\nresume = { at = 0x30 }\n"), "{ at", "no code 48 bytes", "5 (next)");
    refused(&with("[events]\nnmi = 300\n"), "300", "event budget", "from 0 to 8");
    refused(&with("").replace("\"t\"", "\"a\\nb\""), "\"a\\nb\"", "one line", "comment");
    let complex = with("").replace("\"jmp32\"", "[\"xor-eax-eax\", \"nop3\"]");
    let error = parse("x", &complex, &Options::default()).unwrap_err();
    assert!(error.advice().contains("\"next\""), "{}", error.advice());
}

#[test]
fn a_ring_from_outside_makes_a_scenario_unsupported_not_wrong() {
    let text = scenario("protocol = \"text_poke_fixup\"", "[executors]\nrole = \"lock-irqs-off\"\n");
    let error = parse("x", &text, &Options { ring: Some(Ring::User), ..Options::default() }).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    let text = text.replace("[executors]", "[executors]\nring = 3");
    assert_eq!(parse("x", &text, &Options::default()).unwrap_err().kind(), ErrorKind::Invalid);
    assert!(parse("x", &text, &Options { ring: Some(Ring::Kernel), ..Options::default() }).is_ok());
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

#[test]
fn steps_that_a_vcpu_cannot_perform_are_refused() {
    let text = |head: &str, rest: &str| scenario(&format!("patcher = \"vcpu\"\n{head}"), rest);
    let store = "[[step]]\nstore = { what = \"new\" }\n";
    let program = "[program]\npatcher = [{ pass = {} }]\n[executors]\nrole = \"patcher\"\n";
    refused(&text("", &format!("{program}{store}")), "\"vcpu\"", "has a program `patcher`", "another name");
    refused(&text("", program), "\"vcpu\"", "no steps", "add a [[step]]");
    let eight = format!("[executors]\ncount = 8\n{store}");
    refused(&text("", &eight), "\"vcpu\"", "executor 8", "fewer executors");
    let words: String = (0..8).map(|number| format!("w{number} = 0\n")).collect();
    let round = format!("[words]\n{words}[[step]]\nsync = {{}}\n");
    refused(&text("", &round), "\"vcpu\"", "needs 1 words", "share a word");
    let some = "[[step]]\nbroadcast = { run = \"sync\" }\n[[step]]\nwait = { acks = [1] }\n";
    refused(&text("", some), "[1]", "cannot tell from whom", "all executors");
    let stray = "[events]\nnmi = 1\nnmi-runs = \"answer\"\n[program]\nanswer = [{ acknowledge = {} }]\n[[step]]\n\
        broadcast = { run = \"nmi\" }\n[[step]]\nwait = { acks = \"all\" }\n";
    refused(&text("", stray), "{ acknowledge", "nobody sent", "ask a word");
    plan(&text("", &stray.replace("nmi = 1\n", "")));
    // A vCPU performs the steps of programs, too.
    let fence = format!("[[step]]\nfence = {{}}\n{store}");
    plan(&text("", &fence));
    refused(&scenario("", &fence), "[[step]]", "the patcher here is the host", "patcher = \"vcpu\"");
    // What no patcher can do is refused as of the host's.
    refused(&text("", "[[step]]\narm = {}\n"), "[[step]]", "does not say what it does", "[handler]");
    let twice = "[[step]]\ndone = {}\n[[step]]\ndone = {}\n";
    refused(&text("", twice), "[[step]]", "declared twice", "keep one `done`");
}

#[test]
fn every_shipped_list_of_steps_runs_on_a_vcpu() {
    let mut moved = 0;
    for scenario in library() {
        let vcpu = scenario.patched_by_a_vcpu().unwrap();
        if vcpu.text == scenario.text {
            continue;
        }
        moved += 1;
        let host = scenario.plan(&Options::default()).unwrap();
        let plan =
            vcpu.plan(&Options::default()).unwrap_or_else(|error| panic!("{:?}", miette::Report::new(error)));
        assert_eq!(plan.executors.len(), host.executors.len() + 1, "{}", scenario.name);
        let sends = |op: &crossmod_model::plan::Op| {
            matches!(op.kind, OpKind::Store { .. } | OpKind::Broadcast { .. })
        };
        assert!(!plan.program.iter().any(sends), "{}", scenario.name);
        assert!(plan.programs.completes || host.program.iter().all(|op| !matches!(op.kind, OpKind::Done(_))));
        assert_eq!(vcpu.comment(), scenario.comment());
    }
    assert!(moved > 200, "{moved}");
}
