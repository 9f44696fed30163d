//! Scenarios that test nothing are not *safe*. Regression tests for verdicts that claimed more than was tested.

use crossmod::property::Property;
use crossmod::report::{detail, junit, ktap, line};
use crossmod::results::Status;
use crossmod::{CheckOptions, Report};

use crate::bench::{SITE, check, inline, options, shipped, violated};
use crate::kvm;

/// A program `idle` that does `steps`, as the only executor, and a patcher that stores new.
fn with(steps: &str, rest: &str) -> Report {
    let text = format!(
        "{rest}[words]\nx = 0\n[program]\nidle = [{steps}]\n[executors]\nrole = \"idle\"\ncount = 1\n[[step]]\n\
         store = {{ what = \"new\" }}\n{SITE}"
    );
    check(&inline("idle", &text), &options())
}

#[test]
fn what_tests_nothing_is_not_safe() {
    kvm::required();
    let nobody = "nobody runs the site";
    let unseen = "nobody who runs the site meets what the steps have stored";
    let unreached = "no schedule reaches the check `idle.check-1`";
    let cases = [
        ("{ set = { x = 1 } }", "", nobody),
        (
            "{ unless = { x = 1, goto = \"end\" } }, { check = { x = 0, else = \"text-data\" } }",
            "",
            unreached,
        ),
    ];
    for (steps, rest, reason) in cases {
        let report = with(steps, rest);
        assert_eq!((report.status, report.holds()), (Status::Vacuous, false), "{}", detail(&report));
        assert_eq!(report.vacuous[0], reason);
        let told = format!("vacuous: {reason}");
        assert!(line(&report, 9).contains(&told), "{}", line(&report, 9));
        for text in [detail(&report), ktap(std::slice::from_ref(&report)), junit(&[report]).unwrap()] {
            assert!(text.contains(reason) && text.contains("vacuous"), "{text}");
        }
    }
    // The executor has run the site before the patcher begins.
    let late = format!(
        "[words]\ngone = 0\n[program]\nidle = [{{ pass = {{}} }}, {{ add = {{ gone = 1 }} }}]\n[executors]\nrole = \"idle\"\n\
         count = 1\npasses = 1\n[[step]]\nwait = {{ gone = 1 }}\n[[step]]\nstore = {{ what = \"new\" }}\n{SITE}"
    );
    assert_eq!(check(&inline("late", &late), &options()).vacuous, [unseen]);
    assert_eq!(with("{ pass = {} }", "rule = \"amd\"\n").status, Status::Safe);
}

#[test]
fn a_store_to_one_of_two_sites_says_which() {
    kvm::required();
    let sites = "[[site]]\nname = \"entry\"\nold = \"nop2\"\nnew = \"jmp8\"\noffset = 0x100\n[[site]]\nname = \"other\"\nold = \"nop2\"\n\
        new = \"jmp8\"\noffset = 0x108\n";
    let of = |site: &str| {
        let store = format!("[[step]]\nstore = {{ what = \"new\" }}\n{site}[[step]]\nabandon = {{}}\n");
        check(&inline("two", &format!("rule = \"amd\"\n[executors]\ncount = 1\n{sites}{store}")), &options())
    };
    let forgotten = of("");
    assert_eq!(forgotten.status, Status::Vacuous, "{}", detail(&forgotten));
    assert!(
        forgotten.vacuous[0]
            .starts_with("no step stores to the site `other`, and step `store-1` does not say")
    );
    assert_eq!(of("site = \"entry\"\n").status, Status::Safe);
}

#[test]
fn a_witness_is_a_schedule_to_the_end() {
    kvm::required();
    let options = CheckOptions { witness: true, ..options() };
    let report = check(&shipped("seed/fixup"), &options);
    let witness = report.witness.as_ref().unwrap();
    assert!(witness.schedule.len() > 20 && witness.rendering.contains("done: done"), "{}", witness.rendering);
    assert!(detail(&report).contains("one schedule to the end, "));
    assert!(
        check(&shipped("seed/naive-store"), &options).witness.is_none(),
        "a hazard has its own schedules"
    );
}

/// A round does not wait for a handler that interrupts reach into, so what the handler reads may be gone.
#[test]
fn a_round_reaches_into_a_handler_with_interrupts_on() {
    kvm::required();
    let of = |interrupts: &str| {
        let text = format!(
            "protocol = \"text_poke_fixup\"\n[executors]\ncount = 1\npasses = 1\n[handler]\ninterrupts = \"{interrupts}\"\n{SITE}"
        );
        violated(&check(&inline("handler", &text), &options()))
    };
    assert_eq!(of("off"), [].into());
    assert_eq!(of("on"), [Property::UnclaimedTrap].into());
}

/// A store of the bytes that are there already leaves nothing to serialise for.
#[test]
fn a_store_that_changes_nothing_needs_no_round() {
    kvm::required();
    let of = |what: &str| {
        let text = format!(
            "[executors]\ncount = 1\n[[step]]\nstore = {{ what = \"{what}\" }}\n[[step]]\nabandon = {{}}\n{SITE}"
        );
        violated(&check(&inline("same", &text), &options()))
    };
    assert_eq!(of("old"), [].into());
    assert_eq!(of("new"), [Property::Unserialised].into());
}

/// AMD's promise is about one store inside an aligned quadword, not about two in two of them.
#[test]
fn two_stores_that_are_exempt_alone_are_not_together() {
    kvm::required();
    let of = |first: &str, second: &str| {
        let text = format!(
            "rule = \"amd\"\n[executors]\ncount = 1\n[site]\nold = \"nop5\"\nnew = \"0f 1f 44 01 01\"\noffset = 0x104\n[[step]]\n\
             store = {{ {first} }}\n[[step]]\nstore = {{ {second} }}\n[[step]]\nabandon = {{}}\n"
        );
        violated(&check(&inline("two", &text), &options()))
    };
    // Bytes 0 to 3 are in one quadword, byte 4 in the next.
    assert!(of("at = 3, bytes = \"01\"", "at = 4, bytes = \"01\"").contains(&Property::Unserialised));
    assert!(!of("at = 2, bytes = \"44\"", "at = 3, bytes = \"01\"").contains(&Property::Unserialised));
}
