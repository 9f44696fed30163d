//! What a host lacks becomes a skip with a reason, never a pass; and what is not executed, or not silicon, is never
//! told as if it were.

use crossmod::host::Host;
use crossmod::machine::{Capabilities, Feature, capabilities, needed};
use crossmod::plan::Ring;
use crossmod::report;
use crossmod::results::{Modelled, Reason, Results, Status};
use crossmod::scenario::Options;
use crossmod::{CheckError, CheckOptions, Checker, Report, Scenario, scenario};

use crate::bench::{inline, shipped};
use crate::kvm;

fn checker(capabilities: Capabilities) -> Checker {
    Checker::on(Host::read(), capabilities).unwrap()
}

fn check(checker: &mut Checker, scenario: &Scenario) -> Report {
    checker.check(scenario, &CheckOptions::default(), |_| {}).unwrap()
}

#[test]
fn what_a_host_lacks_skips_exactly_the_scenarios_that_need_it() {
    kvm::required();
    let plans: Vec<_> =
        scenario::library().iter().map(|one| one.plan(&Options::default()).unwrap()).collect();
    for feature in Feature::ALL {
        let known = capabilities().unwrap().without(feature);
        assert!(!known.has(feature));
        assert_eq!(known.usable(), feature.optional(), "{feature}");
        for plan in &plans {
            let reason = known.lacking(plan);
            assert_eq!(reason.is_some(), needed(plan).contains(&feature), "{} without {feature}", plan.name);
            assert!(reason.is_none_or(|reason| reason.contains(&feature.to_string())));
        }
        // Executors at ring 3 are rare, and SMIs can be modelled.
        let used = plans.iter().any(|plan| needed(plan).contains(&feature));
        let kernel = !matches!(
            feature,
            Feature::Smi
                | Feature::Step(Ring::User)
                | Feature::Breakpoint(Ring::User)
                | Feature::Nmi(Ring::User)
                | Feature::Interrupt(Ring::User)
                | Feature::MachineCheck(Ring::User)
        );
        assert!(used || !kernel, "{feature} is asked for by nothing");
    }
}

#[test]
fn a_skip_says_why_in_every_format_and_is_no_pass() {
    kvm::required();
    for (name, feature) in [
        ("seed/fixup-mce", Feature::MachineCheck(Ring::Kernel)),
        ("seed/fixup-nmi", Feature::Nmi(Ring::Kernel)),
        ("seed/fixup", Feature::Breakpoint(Ring::Kernel)),
        ("seed/stop-machine", Feature::Interrupt(Ring::Kernel)),
    ] {
        let mut checker = checker(capabilities().unwrap().without(feature));
        let skipped = check(&mut checker, &shipped(name));
        let reason = format!("KVM on this host lacks {feature}: withheld");
        assert_eq!(
            (skipped.status, &skipped.reason),
            (Status::Skipped, &Some(Reason::Other(reason.clone()))),
            "{name}"
        );
        // What has nothing to do with it goes on.
        let other = check(&mut checker, &shipped("seed/naive-store"));
        assert_eq!(other.status, Status::Hazard, "{name}");
        let reports = [skipped, other];
        let host = Host::read();
        let results = Results::of(host.clone(), reports.to_vec());
        assert!(report::line(&reports[0], 20).starts_with("skip "));
        assert!(report::detail(&reports[0]).contains(&reason));
        assert!(report::ktap(&reports).contains(&format!("ok 1 {name} # SKIP {reason}")));
        let junit = report::junit(&reports).unwrap();
        assert!(junit.contains("<skipped") && junit.contains(&reason), "{junit}");
        let json = report::json(&results).unwrap();
        assert!(json.contains("\"status\": \"skipped\"") && json.contains(&reason), "{json}");
    }
}

#[test]
fn a_trace_that_this_host_cannot_replay_is_skipped_too() {
    kvm::required();
    let all = capabilities().unwrap();
    let report = check(&mut checker(all.clone()), &shipped("seed/stop-machine-nmi"));
    let trace = report.findings[0].trace.clone().expect("proved");
    let mut without = checker(all.without(Feature::NmiMask));
    match without.replay(&trace, 100) {
        Err(CheckError::Machine(error)) => {
            assert!(error.to_string().contains("lacks NMI masking"), "{error}")
        }
        other => panic!("{other:?}"),
    }
}

/// Of an SMI, real or modelled, the same is visible; only the report says which it was.
#[test]
fn an_smi_that_is_modelled_is_labelled_and_changes_no_hash() {
    kvm::required();
    for name in ["seed/fixup-smi", "seed/stop-machine-smi"] {
        let all = capabilities().unwrap();
        let here = check(&mut checker(all.clone()), &shipped(name));
        assert_eq!(here.modelled.is_empty(), all.has(Feature::Smi));
        let modelled = check(&mut checker(all.without(Feature::Smi)), &shipped(name));
        assert_eq!(modelled.modelled, [Modelled::Smi]);
        assert!(modelled.holds());
        assert_eq!((modelled.status, &modelled.digest), (here.status, &here.digest), "{name}");
        let label = "SMIs: KVM here has no SMM";
        let reports = [modelled];
        let host = Host::read();
        let results = Results::of(host.clone(), reports.to_vec());
        assert!(report::detail(&reports[0]).contains(label));
        assert!(report::ktap(&reports).contains(label));
        assert!(report::junit(&reports).unwrap().contains(label));
        let json: serde_json::Value = serde_json::from_str(&report::json(&results).unwrap()).unwrap();
        assert_eq!(json["reports"][0]["modelled"][0], "smi");
    }
}

/// Which instructions KVM emulates, and which a CPU has, differs: no verdict may depend on it.
#[test]
fn a_site_that_this_host_cannot_execute_is_skipped_and_never_judged() {
    kvm::required();
    let mut checker = checker(capabilities().unwrap());
    let mut verdicts = 0;
    for (bytes, name) in
        [("f3 0f b8 c1 90", "popcnt"), ("0f 01 e8 66 90", "serialize"), ("0f 1f 44 00 00", "nop")]
    {
        for ring in [Ring::Kernel, Ring::User] {
            let text = format!(
                "protocol = \"plain_store\"\n[executors]\ncount = 1\npasses = 1\n[site]\nold = \"{bytes}\"\n\
                 new = \"jmp32\"\noffset = 0x100\n"
            );
            let options = CheckOptions { ring: Some(ring), ..CheckOptions::default() };
            let report = checker.check(&inline(name, &text), &options, |_| {}).unwrap();
            match report.status {
                Status::Skipped => {
                    let reason = report.reason.expect("a reason").to_string();
                    assert!(reason.contains(&format!("`{name} ")) || reason.contains(&format!("`{name}`")));
                    assert!(
                        reason.contains("cannot emulate") || reason.contains("the CPU lacks"),
                        "{reason}"
                    );
                    eprintln!("{reason}");
                }
                status => {
                    assert_eq!(status, Status::Hazard, "{name}: {}", report::detail(&report));
                    verdicts += 1;
                }
            }
        }
    }
    assert!(verdicts >= 2, "a NOP runs everywhere");
}

/// An emulated CPU's time is nobody's: no form of a report has one.
#[test]
fn nothing_that_an_emulated_cpu_did_is_told_as_time() {
    kvm::required();
    for emulated in [true, false] {
        let host = Host { emulated, ..Host::read() };
        assert_eq!(host.line().starts_with("QEMU/TCG lab: correctness only; "), emulated);
        let mut checker = Checker::on(host.clone(), capabilities().unwrap()).unwrap();
        let sampled = CheckOptions { mode: crossmod::Mode::Random { runs: 3 }, ..CheckOptions::default() };
        let reports = [
            check(&mut checker, &shipped("seed/naive-store")),
            checker.check(&shipped("seed/naive-store"), &sampled, |_| {}).unwrap(),
        ];
        let results = Results::of(host.clone(), reports.to_vec());
        let json: serde_json::Value = serde_json::from_str(&report::json(&results).unwrap()).unwrap();
        for (index, one) in reports.iter().enumerate() {
            assert_eq!(one.counts.seconds.is_none(), emulated);
            assert_eq!(json["reports"][index]["counts"]["seconds"].is_null(), emulated);
            assert_eq!(report::line(one, 20).contains(" ms"), !emulated);
        }
        let timed = |text: &str| text.lines().any(|line| line.contains("explored") && line.ends_with(" s"));
        assert_eq!(timed(&report::detail(&reports[0])), !emulated);
        assert_eq!(report::table(20, !emulated).contains("time"), !emulated);
        assert_eq!(json["host"]["emulated"], emulated);
        let junit = report::junit(&reports).unwrap();
        assert_eq!(junit.contains("<testcase") && junit.contains(" time="), !emulated, "{junit}");
        assert!(!report::ktap(&reports).contains(" ms"));
    }
}
