//! The reference of the scenario language: every example in it is a scenario that behaves as it says.

use crossmod::plan::Ring;
use crossmod::report::{Status, detail};
use crossmod::scenario::{Options, Scenario};
use crossmod::{CheckOptions, Checker};

use crate::kvm;

const REFERENCE: &str = include_str!("scenarios/LANGUAGE.md");

fn examples() -> Vec<Scenario> {
    let blocks = REFERENCE.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    blocks
        .enumerate()
        .map(|(number, text)| Scenario {
            name: format!("reference/{}", number + 1),
            text: text.to_owned(),
            path: "LANGUAGE.md".into(),
        })
        .collect()
}

#[test]
fn every_example_of_the_reference_behaves_as_it_says_at_both_rings() {
    if !kvm::required() {
        return;
    }
    let mut checker = Checker::new().unwrap();
    let (mut held, mut skipped) = (0, 0);
    for scenario in examples() {
        for fetch in scenario.models().unwrap() {
            for ring in [None, Some(Ring::User)] {
                let options = CheckOptions { ring, fetch: Some(fetch), ..CheckOptions::default() };
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

/// What the parser knows and the reference does not show is not found by those who read only the reference.
#[test]
fn the_reference_shows_every_step_of_programs() {
    let steps = [
        "pass",
        "trap",
        "serialise",
        "interrupts",
        "load",
        "set",
        "add",
        "wait",
        "if",
        "unless",
        "goto",
        "check",
        "fail",
        "take",
        "drop",
        "flags",
        "acknowledge",
        "resume",
        "decline",
        "store",
        "arm",
        "disarm",
        "broadcast",
        "done",
    ];
    for step in steps {
        assert!(REFERENCE.contains(&format!("{step} = ")), "`{step}` is in no example");
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
        ("{ load = { d = 1 } }", "`d` is no register", "a, b or c"),
        ("{ load = { a = { text = 4, size = 4 } } }", "cannot be read", "1, 2 or 4 of its 5 bytes"),
        ("{ check = { a = 1, else = \"tron\" } }", "no property `tron`", "`torn`"),
        ("{ check = { a = 1 } }", "`else` is missing", "else"),
        ("{ if = { a = 1, b = 2, goto = \"end\" } }", "one condition", "one thing"),
        ("{ quiesce = {} }", "no step for `mine`", "[[step]]"),
        ("{ decline = {} }", "no step for `mine`", "[handler]"),
        ("{ wait = { opcode = 1 } }", "[handler] only", "a word"),
        ("{ broadcast = { run = \"mien\" } }", "no program `mien`", "`mine`"),
        ("{ flags = { df = 1 } }", "no status flag", "zf"),
        ("{ add = { guard = 5000 } }", "how much", "1 or -1"),
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
