//! The reference of the scenario language: every example in it is a scenario that behaves as it says.

use crossmod::explore::Limits;
use crossmod::plan::Ring;
use crossmod::property::Property;
use crossmod::reference;
use crossmod::report::detail;
use crossmod::results::Status;
use crossmod::scenario::{Options, Scenario};
use crossmod::{CheckOptions, Checker};

use crate::bench::options;
use crate::{harness, kvm};

/// Far more than any example needs: whatever makes one endless is not decided, at once.
fn bounded() -> CheckOptions {
    CheckOptions { limits: Limits { max_states: 1 << 18, ..Limits::default() }, ..options() }
}

fn examples() -> Vec<Scenario> {
    let page = reference::markdown();
    let blocks = page.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    blocks
        .filter(|text| text.starts_with("title = ") && text.contains("[site]"))
        .enumerate()
        .map(|(number, text)| Scenario {
            name: format!("reference/{}", number + 1),
            text: text.to_owned(),
            path: "REFERENCE.md".into(),
        })
        .collect()
}

#[test]
fn every_example_of_the_reference_behaves_as_it_says_at_both_rings() {
    kvm::required();
    let mut checker = harness::checker();
    let (mut held, mut skipped) = (0, 0);
    for scenario in examples() {
        for fetch in scenario.models().unwrap() {
            for ring in [None, Some(Ring::User)] {
                let options = CheckOptions { ring, fetch: Some(fetch), ..bounded() };
                let report = checker.check(&scenario, &options, |_| {}).unwrap();
                assert!(report.holds(), "{}", detail(&report));
                if report.status == Status::Skipped {
                    assert_eq!(ring, Some(Ring::User), "{}", detail(&report));
                    skipped += 1;
                } else {
                    held += 1;
                }
            }
        }
    }
    assert!(held > 60 && skipped < 10, "{held} ran, {skipped} were skipped");
}

/// An executor that begins in the handler is there: who does not wait takes the handler away from under it.
#[test]
fn a_trap_at_the_start_is_handled_before_a_round_is_over() {
    kvm::required();
    let mut checker = harness::checker();
    let found = |text: &str, ring, checker: &mut Checker| {
        let scenario =
            Scenario { name: "trapped".into(), text: text.to_owned(), path: "trapped.toml".into() };
        let report = checker.check(&scenario, &CheckOptions { ring: Some(ring), ..bounded() }, |_| {});
        report.unwrap().findings.iter().any(|finding| finding.violation.property == Property::UnclaimedTrap)
    };
    let example =
        examples().into_iter().find(|example| example.text.contains("start = \"handler\"")).unwrap();
    let waits = example.text.replace("# [[step]]\n# sync = {}", "[[step]]\nsync = {}");
    assert_ne!(waits, example.text);
    for ring in [Ring::Kernel, Ring::User] {
        assert!(found(&example.text, ring, &mut checker));
        assert!(!found(&waits, ring, &mut checker));
    }
}

/// A check that nothing comes to is no claim, and the report says so.
#[test]
fn steps_that_no_schedule_comes_to_are_named() {
    kvm::required();
    let mut checker = harness::checker();
    let mut example = examples().into_iter().find(|example| example.text.contains("old callback")).unwrap();
    let report = checker.check(&example, &bounded(), |_| {}).unwrap();
    assert_eq!(report.unreached, [""; 0]);
    assert!(!detail(&report).contains("unreached"));
    example.text = example.text.replace("{ if = { went = \"new\", goto = \"new\" } }", "{ goto = \"new\" }");
    let report = checker.check(&example, &bounded(), |_| {}).unwrap();
    assert_eq!(report.unreached, ["tracepoint.check-1", "tracepoint.goto-2"]);
    assert!(
        detail(&report).contains("unreached  no schedule reached tracepoint.check-1, "),
        "{}",
        detail(&report)
    );
}

/// What the parser knows and no example shows is not found by those who read only the reference.
#[test]
fn the_worked_examples_and_entries_show_every_step() {
    let page = reference::markdown();
    let steps = crossmod::scenario::operations();
    assert!(steps.len() > 30 && steps.contains(&"pause"), "{steps:?}");
    for step in steps {
        assert!(page.contains(&format!("### `step.{step}`")), "`{step}` has no entry");
        assert!(page.contains(&format!("{step} = ")), "`{step}` is in no example");
    }
}

/// An error in a program points at its step.
#[test]
fn what_is_wrong_in_a_program_has_a_place_and_a_remedy() {
    let with = |program: &str| {
        format!(
            "title = \"t\"\nexpect = \"safe\"\n[site]\nold = \"nop5\"\nnew = \"jmp32\"\noffset = 0x100\n[words]\nguard = 0\n\
             [program]\nmine = [{program}]\n[executors]\nrole = \"mine\"\n[[step]]\nstore = {{ what = \"new\" }}\n"
        )
    };
    for (program, message, remedy) in [
        ("{ wait = { gard = 0 } }", "no word `gard`", "`guard`"),
        ("{ goto = \"there\" }", "no step `there`", "`label`"),
        ("{ load = { d = 1 } }", "`d` is not a register", "a, b or c"),
        ("{ load = { a = { text = 4, size = 4 } } }", "cannot be read", "1, 2 or 4 of its 5 bytes"),
        ("{ check = { a = 1, else = \"tron\" } }", "unknown property `tron`", "`torn`"),
        ("{ check = { a = 1 } }", "`else` is missing", "else"),
        ("{ if = { a = 1, b = 2, goto = \"end\" } }", "one condition", "one thing"),
        ("{ quiesce = {} }", "not a step for `mine`", "[[step]]"),
        ("{ decline = {} }", "not a step for `mine`", "[handler]"),
        ("{ wait = { opcode = 1 } }", "[handler] only", "a word"),
        ("{ broadcast = { run = \"mien\" } }", "no program `mien`", "`mine`"),
        ("{ flags = { df = 1 } }", "not a status flag", "zf"),
        ("{ add = { guard = 5000 } }", "how much", "1 or -1"),
        ("{ add = { guard = 1, unless = 0 } }", "with a condition", "neither"),
        ("{ set = { guard = 3000000000 } }", "does not fit", "smaller"),
        ("{ pass = {}, serialise = {} }", "2 operations", "`serialise`"),
    ] {
        let error = crossmod::scenario::parse("test/x", &with(program), &Options::default()).unwrap_err();
        assert!(error.to_string().contains(message), "{program}: {error}");
        assert!(error.advice().contains(remedy), "{program}: {}", error.advice());
        let (line, _) = error.position().unwrap();
        assert_eq!(line, 10, "{program}: {error}");
    }
}

/// The int3 protocol without some of its steps, by the host or by a vCPU that takes no other part.
fn poke(dropped: u32, vcpu: bool) -> String {
    let mut head =
        "title = \"t\"\nexpect = \"safe\"\n[site]\nold = \"nop5\"\nnew = \"jmp32\"\noffset = 0x7e\n\
        [handler]\nresume = \"new\"\n"
            .to_owned();
    let (mut host, mut program, mut told) = (String::new(), String::new(), 0);
    let steps = ["arm", "int3", "sync", "new-tail", "sync", "new-first", "sync", "disarm"];
    for (_, step) in (0..).zip(steps).filter(|(number, _)| dropped >> number & 1 == 0) {
        match step {
            "sync" => {
                told += 1;
                host += "[[step]]\nsync = {}\n";
                program += &format!(
                    "{{ broadcast = {{ run = \"tell\", to = [0] }} }}, {{ wait = {{ told = {told} }} }}, "
                );
            }
            "arm" | "disarm" => {
                host += &format!("[[step]]\n{step} = {{}}\n");
                program += &format!("{{ {step} = {{}} }}, ");
            }
            what => {
                host += &format!("[[step]]\nstore = {{ what = \"{what}\" }}\n");
                program += &format!("{{ store = {{ what = \"{what}\" }} }}, ");
            }
        }
    }
    if !vcpu {
        return format!("{head}[executors]\ncount = 1\npasses = 2\n{host}");
    }
    head += "[words]\ntold = 0\n";
    let tell = "tell = [{ serialise = {} }, { add = { told = 1 } }]";
    format!(
        "{head}[program]\n{tell}\npoke = [{program}{{ fence = {{}} }}, {{ done = {{}} }}]\n[[executor]]\npasses = 2\n[[executor]]\nrole = \"poke\"\n\
         passes = 1\n"
    )
}

/// Who patches makes no difference to those who run the site, once the patcher does not declare its modification complete
/// while a store is still in its buffer: the host's atomic steps and a vCPU's instructions, stepped
/// on KVM, violate the same properties, whatever step is missing.
#[test]
fn the_host_and_a_vcpu_patch_alike() {
    kvm::required();
    let mut checker = harness::checker();
    let mut hazards = 0;
    let single = (0..8).map(|step| 1u32 << step);
    let pairs = (0..8).flat_map(|a| (0..a).map(move |b| 1u32 << a | 1 << b));
    for dropped in [0].into_iter().chain(single).chain(pairs) {
        for model in ["coherent", "amd", "line-block", "intel"] {
            let mut found = [false, true].map(|vcpu| {
                let scenario = Scenario {
                    name: format!("poke/{dropped:b}-{vcpu}"),
                    text: poke(dropped, vcpu),
                    path: "poke.toml".into(),
                };
                let options = CheckOptions { fetch: Some(model.parse().unwrap()), ..bounded() };
                let report = checker.check(&scenario, &options, |_| {}).unwrap();
                assert!(
                    matches!(report.status, Status::Safe | Status::Vacuous | Status::Hazard),
                    "{}",
                    detail(&report)
                );
                let mut properties: Vec<_> =
                    report.findings.iter().map(|finding| finding.violation.property).collect();
                properties.sort();
                properties
            });
            found.iter_mut().for_each(Vec::dedup);
            assert_eq!(found[0], found[1], "without {dropped:08b}, {model}: host, vCPU");
            hazards += usize::from(!found[0].is_empty());
        }
    }
    assert!(hazards > 80, "only {hazards} of the mutants show anything");
}

/// However a fetch model cuts a store, a data reader finds what lies inside an aligned quadword at once.
#[test]
fn a_data_reader_finds_a_store_inside_a_quadword_whole() {
    kvm::required();
    let mut checker = harness::checker();
    let mut torn = |offset: u64, model: &str| {
        let text = format!(
            "title = \"t\"\nexpect = \"safe\"\n[site]\nold = \"e9 11 11 11 11\"\nnew = \"e9 22 22 22 22\"\noffset = {offset}\n\
             [program]\nreader = [{{ load = {{ a = {{ text = 1, size = 4 }} }} }}, {{ if = {{ a = 0x11111111, goto = \"end\" }} }}, \
             {{ check = {{ a = 0x22222222, else = \"torn\" }} }}]\n[executors]\ncount = 1\nrole = \"reader\"\n\
             [[step]]\nstore = {{ what = \"new-tail\" }}\n"
        );
        let scenario = Scenario { name: "data/reader".into(), text, path: "reader.toml".into() };
        let options = CheckOptions { fetch: Some(model.parse().unwrap()), ..bounded() };
        let report = checker.check(&scenario, &options, |_| {}).unwrap();
        assert!(
            matches!(report.status, Status::Safe | Status::Vacuous | Status::Hazard),
            "{}",
            detail(&report)
        );
        report.status == Status::Hazard
    };
    assert!(!torn(0x103, "intel"), "0x104 to 0x108 lies in one quadword, and is cut into bytes");
    assert!(torn(0x105, "intel") && torn(0x105, "amd"), "0x106 to 0x10a lies in two");
    assert!(!torn(0x105, "line"), "and in one line");
}
