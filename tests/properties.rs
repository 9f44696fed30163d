//! One test for each property: a scenario that violates it, by the shortest schedule and for the right
//! reason, and the nearest scenario that does not. `scripts/break-properties` disables each check in turn and
//! requires that the test of its name fails.

use crossmod::Scenario;
use crossmod::property::Property;
use crossmod::report::detail;

use crate::bench::{SITE, assert_exactly, inline, shipped};
use crate::{golden, kvm};

/// What a test says about a property.
struct Case<'a> {
    property: Property,
    /// A scenario that violates it.
    broken: Scenario,
    /// What else that scenario violates.
    besides: &'a [Property],
    /// Length of the shortest schedule.
    moves: usize,
    /// A part of the finding's sentence.
    says: &'a [&'a str],
    /// The nearest scenario that keeps the property,
    fixed: Scenario,
    /// and what it violates instead.
    instead: &'a [Property],
}

impl Case<'_> {
    fn holds(&self) {
        let mut expected = vec![self.property];
        expected.extend(self.besides);
        let report = assert_exactly(&self.broken, &expected);
        let finding = report.finding(self.property).unwrap();
        for part in self.says {
            assert!(finding.violation.detail.contains(part), "`{part}` is missing in {}", detail(&report));
        }
        assert_eq!(finding.schedule.len(), self.moves, "{}", detail(&report));
        assert!(finding.trace.as_ref().is_some_and(|trace| trace.moves.len() == self.moves));
        let name = self.broken.name.rsplit('/').next().unwrap();
        golden::compare(&format!("{name}.{}", self.property), finding);
        assert!(!self.instead.contains(&self.property));
        assert_exactly(&self.fixed, self.instead);
    }
}

#[test]
fn torn_is_found() {
    kvm::required();
    Case {
        property: Property::Torn,
        broken: shipped("seed/naive-store-crossing-line"),
        besides: &[Property::Unserialised],
        moves: 4,
        says: &["site+0 reads e9 3d 44 00 00 = jmp", "neither old nor new"],
        fixed: shipped("seed/naive-store"),
        instead: &[Property::Unserialised],
    }
    .holds();
}

#[test]
fn order_is_found() {
    kvm::required();
    Case {
        property: Property::Order,
        broken: shipped("seed/abort-emulating-new"),
        besides: &[],
        moves: 45,
        says: &["this pass has the outcome of old, an earlier one had that of new"],
        fixed: shipped("seed/abort-emulating-old"),
        instead: &[],
    }
    .holds();
}

/// Two instructions, exchanged one after the other, first one first.
fn pairwise(name: &str, steps: &str) -> Scenario {
    inline(
        name,
        &format!(
            "[site]\nold = \"31 c9 31 c9\"\nnew = \"31 d2 31 d2\"\noffset = 0x100\n\
             [executors]\ncount = 1\npasses = 1\n{steps}"
        ),
    )
}

#[test]
fn order_within_a_pass_is_found() {
    kvm::required();
    let first = "[[step]]\nlabel = \"first\"\nstore = { at = 0, bytes = \"31 d2\" }\n";
    let second = "[[step]]\nlabel = \"second\"\nstore = { at = 2, bytes = \"31 d2\" }\n";
    Case {
        property: Property::Order,
        broken: pairwise("leftover", &format!("{first}{second}")),
        besides: &[Property::Unserialised],
        moves: 5,
        says: &["a pass runs a new instruction and then a leftover old one"],
        fixed: pairwise("back-to-front", &format!("{second}{first}")),
        instead: &[Property::Unserialised],
    }
    .holds();
}

#[test]
fn stale_is_found() {
    kvm::required();
    Case {
        property: Property::Stale,
        broken: shipped("seed/done-too-early"),
        besides: &[],
        moves: 38,
        says: &["a pass that began after completion runs the protocol's INT3"],
        fixed: shipped("seed/fixup"),
        instead: &[],
    }
    .holds();
}

#[test]
fn unclaimed_trap_is_found() {
    kvm::required();
    Case {
        property: Property::UnclaimedTrap,
        broken: shipped("seed/fixup-without-sync-first"),
        besides: &[],
        moves: 43,
        says: &["does not claim the #BP"],
        fixed: shipped("seed/fixup"),
        instead: &[],
    }
    .holds();
}

#[test]
fn wrong_resume_is_found() {
    kvm::required();
    Case {
        property: Property::WrongResume,
        broken: shipped("seed/skip-over-call"),
        besides: &[],
        moves: 23,
        says: &["against old: RAX is 0x1, not 0x11", "against new: RAX is 0x1, not 0x21"],
        fixed: shipped("seed/fixup-call"),
        instead: &[],
    }
    .holds();
}

/// A push and its pop become NOPs.
fn balanced(name: &str, steps: &str) -> Scenario {
    let site = "[site]\nold = [\"push-rbp\", \"pop-rbp\"]\nnew = [\"nop1\", \"nop1\"]\noffset = 0x100\n";
    inline(name, &format!("{steps}\n[executors]\ncount = 1\npasses = 1\n{site}"))
}

/// The same with an INT3 and a grace period, and a handler that continues at `resume`.
fn quiesced(resume: &str) -> Scenario {
    let steps = ["arm", "int3", "sync-int3", "grace", "tail", "sync-tail", "first", "sync-first", "disarm"];
    let mut scenario = balanced("quiesced", &format!("protocol = \"text_poke_fixup\"\norder = {steps:?}"));
    scenario.text.push_str(&format!("[handler]\nresume = {resume}\n"));
    scenario.text.push_str("[[step]]\nlabel = \"grace\"\nquiesce = {}\n");
    scenario
}

#[test]
fn wrong_resume_into_nothing_is_found() {
    kvm::required();
    Case {
        property: Property::WrongResume,
        broken: balanced("pushed-not-popped", "protocol = \"plain_store\""),
        besides: &[Property::Unserialised],
        moves: 8,
        says: &["a jump to nowhere at RIP 0x0", "neither old nor new leads there"],
        fixed: quiesced("\"new\""),
        instead: &[],
    }
    .holds();
}

#[test]
fn wrong_resume_by_the_stack_is_found() {
    kvm::required();
    Case {
        property: Property::WrongResume,
        broken: quiesced("{ at = 1 }"),
        besides: &[Property::Unserialised],
        moves: 24,
        says: &["takes more from the stack than it has put there"],
        fixed: quiesced("\"new\""),
        instead: &[],
    }
    .holds();
}

#[test]
fn interior_is_found() {
    kvm::required();
    Case {
        property: Property::Interior,
        broken: shipped("seed/interior-parked"),
        besides: &[Property::Torn, Property::Unserialised],
        moves: 16,
        says: &["CPU 0: a saved RIP stands at site+2"],
        fixed: shipped("seed/interior-quiesced"),
        instead: &[],
    }
    .holds();
}

/// `text_poke_fixup` whose handler goes on at an offset of the site.
fn resuming(at: &str) -> Scenario {
    let text = "protocol = \"text_poke_fixup\"\n[executors]\ncount = 1\npasses = 1\n";
    inline("resume-inside", &format!("{text}{SITE}[handler]\nresume = {at}\n"))
}

#[test]
fn interior_by_a_step_is_found() {
    kvm::required();
    Case {
        property: Property::Interior,
        broken: resuming("{ at = 2 }"),
        besides: &[Property::Torn, Property::Unserialised],
        moves: 21,
        says: &["RIP stands at site+2"],
        fixed: resuming("\"next\""),
        instead: &[],
    }
    .holds();
}

#[test]
fn lifetime_of_a_descriptor_is_found() {
    kvm::required();
    Case {
        property: Property::Lifetime,
        broken: shipped("seed/descriptor-freed-early"),
        besides: &[Property::UnclaimedTrap],
        moves: 47,
        says: &["the handler uses its descriptor after that was withdrawn"],
        fixed: shipped("seed/descriptor-freed"),
        instead: &[],
    }
    .holds();
}

#[test]
fn lifetime_of_code_is_found() {
    kvm::required();
    Case {
        property: Property::Lifetime,
        broken: shipped("seed/old-target-freed"),
        besides: &[],
        moves: 57,
        says: &["old target is executed after it was withdrawn"],
        fixed: shipped("seed/fixup-call"),
        instead: &[],
    }
    .holds();
}

#[test]
fn nmi_frame_is_found() {
    kvm::required();
    let once = "protocol = \"text_poke_fixup\"\n[executors]\ncount = 1\npasses = 1\n[events]\nnmi = 1\n";
    Case {
        property: Property::NmiFrame,
        broken: shipped("seed/nmi-nested"),
        besides: &[],
        moves: 24,
        says: &["delivered inside the NMI handler", "overwrites its frame"],
        fixed: inline("nmi-once", &format!("{once}{SITE}")),
        instead: &[],
    }
    .holds();
}

#[test]
fn recursion_is_found() {
    kvm::required();
    let plain = "protocol = \"text_poke_fixup\"\n[executors]\ncount = 1\npasses = 1\n";
    Case {
        property: Property::Recursion,
        broken: shipped("seed/traced-handler"),
        besides: &[],
        moves: 17,
        says: &["the #BP handler itself runs into the site's INT3"],
        fixed: inline("plain-handler", &format!("{plain}{SITE}")),
        instead: &[],
    }
    .holds();
}

#[test]
fn unserialised_is_found() {
    kvm::required();
    Case {
        property: Property::Unserialised,
        broken: shipped("seed/fixup-without-sync-tail"),
        besides: &[],
        moves: 22,
        says: &[
            "at site+0..5 overlaps the store of step `tail`",
            "what is missing is a serialising instruction",
        ],
        fixed: shipped("seed/fixup"),
        instead: &[],
    }
    .holds();
}

#[test]
fn deadlock_is_found() {
    kvm::required();
    Case {
        property: Property::Deadlock,
        broken: shipped("seed/lock-dependency-hold"),
        besides: &[],
        // One more than without reduction: the states there are not the same.
        moves: 22,
        says: &["no schedule completes from here: the patcher is at step `arrived`", "interrupts off"],
        fixed: shipped("seed/lock-dependency-fixup"),
        instead: &[],
    }
    .holds();
}

#[test]
fn livelock_is_found() {
    kvm::required();
    Case {
        property: Property::Livelock,
        broken: shipped("seed/retry-irqs-off-counting"),
        besides: &[],
        moves: 31,
        says: &["though memory keeps changing", "the patcher is at step `sync-int3`"],
        fixed: shipped("seed/retry"),
        instead: &[],
    }
    .holds();
}

#[test]
fn stall_is_measured() {
    kvm::required();
    let stalls = |name: &str| {
        let report = assert_exactly(&shipped(name), &[]);
        report.stalls.iter().map(|stall| (stall.patcher, stall.others)).collect::<Vec<_>>()
    };
    // From the IPI's delivery on, with one executor and no reduction of the patcher: it sees the arrival,
    // stores the first byte, assumes synchronisation, releases, sees the acknowledgement, disarms and
    // declares completion, all while the executor may still be on its way out of the handler.
    assert_eq!(stalls("seed/softirq-none"), [(7, 7)]);
    // The same, with eight other moves before the release.
    assert_eq!(stalls("seed/softirq-8"), [(15, 15)]);
    // The store alone keeps no executor waiting.
    let stalls = |name: &str| {
        let report = assert_exactly(&shipped(name), &[Property::Unserialised]);
        report.stalls.iter().map(|stall| stall.patcher).collect::<Vec<_>>()
    };
    assert_eq!(stalls("seed/naive-store"), [0, 0]);
}
