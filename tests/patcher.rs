//! The patcher's steps on a vCPU of its own: what a vCPU must do that the host's patcher need not.

use crossmod::property::Property::{self, *};
use crossmod::results::Status;
use crossmod::scenario::Options;
use crossmod::{CheckOptions, Report, Scenario};

use crate::bench::{SITE, check, inline, options, plain, shipped, violated};
use crate::{kvm, shipped};

fn found(report: &Report) -> Vec<Property> {
    violated(report).into_iter().collect()
}

/// A patcher that is slower and is interrupted shows every hazard that the host's patcher shows.
#[test]
fn what_the_host_breaks_a_vcpu_breaks() {
    kvm::required();
    let mut fallen = Vec::new();
    for scenario in shipped::group("seed") {
        let vcpu = scenario.patched_by_a_vcpu().unwrap();
        assert_eq!(vcpu.patched_by_a_vcpu().unwrap().text, vcpu.text);
        if vcpu.text == scenario.text {
            continue;
        }
        let host = plain(&scenario, None, None);
        let vcpu = check(&vcpu, &CheckOptions { stalls: crossmod::explore::Stalls::No, ..options() });
        let lost: Vec<_> = violated(&host).difference(&violated(&vcpu)).copied().collect();
        assert!(lost.is_empty(), "{}: {lost:?}", scenario.name);
        if host.status == Status::Safe && vcpu.status == Status::Hazard {
            fallen.push(scenario.name);
        }
    }
    assert_eq!(fallen, ["seed/hold-1-nmi", "seed/hold-2-nmi", "seed/naive-store-quadword-amd"]);
}

#[test]
fn a_request_is_late_without_a_fence() {
    kvm::required();
    let steps = |fence: &str| {
        format!(
            "fetch = \"line\"\n[words]\nstop = 0\nhere = 0\n[program]\nreader = [{{ add = {{ here = 1 }} }}, {{ serialise = {{}} }}, \
             {{ if = {{ stop = 1, goto = \"out\" }} }}, {{ pass = {{}} }}, {{ label = \"out\", add = {{ here = -1 }} }}]\n\
             [[executor]]\nrole = \"reader\"\npasses = 1\n{SITE}[[step]]\nset = {{ stop = 1 }}\n{fence}[[step]]\n\
             wait = {{ here = 0 }}\n[[step]]\nstore = {{ what = \"new\" }}\n[[step]]\nabandon = {{}}\n"
        )
    };
    for (who, fence, expected) in [
        ("", "", vec![]),
        ("patcher = \"vcpu\"\n", "", vec![Torn, Unserialised]),
        ("patcher = \"vcpu\"\n", "[[step]]\nfence = {}\n", vec![]),
    ] {
        let report = check(&inline("request", &format!("{who}{}", steps(fence))), &options());
        assert_eq!(found(&report), expected, "{who}{fence}");
    }
}

/// Under AMD's rule one store inside a quadword needs no handshake. Five bytes are two stores.
#[test]
fn a_store_of_five_bytes_is_two_instructions() {
    kvm::required();
    let text = "rule = \"amd\"\n[[step]]\nstore = { what = \"new\" }\n[[step]]\nabandon = {}\n[executors]\ncount = 1\n";
    let two = SITE.replace("nop5", "nop2").replace("jmp32", "jmp8");
    for (who, site, expected) in [
        ("", SITE, vec![]),
        ("patcher = \"vcpu\"\n", SITE, vec![Torn]),
        ("patcher = \"vcpu\"\n", &two, vec![]),
    ] {
        let report = check(&inline("store", &format!("{who}{text}{site}")), &options());
        assert_eq!(found(&report), expected, "{who}{site}");
        assert!(report.status != Status::Vacuous);
    }
}

/// The host performs what no CPU can do by itself, once the program asks for it.
#[test]
fn the_host_performs_what_no_cpu_can() {
    kvm::required();
    let each =
        "[each]\nbusy = 1\n[program]\nreader = [{ pass = {} }, { set = { busy = 0 } }, { serialise = {} }]\n";
    let steps = "[[step]]\nlabel = \"idle\"\nwait = { busy = 0 }\n[[step]]\nset = { busy = 1 }\n[[step]]\nassume-synchronised = {}\n\
                 [[step]]\nstore = { what = \"new-first\" }\n[[step]]\nquiesce = {}\n[[step]]\ndelay = { moves = 2 }\n[[step]]\n\
                 abandon = {}\n";
    let text = |steps: &str| {
        format!("patcher = \"vcpu\"\n[[executor]]\nrole = \"reader\"\npasses = 1\n{SITE}{each}{steps}")
    };
    let report = check(&inline("asked", &text(steps)), &options());
    assert_eq!((report.status, &report.unreached[..]), (Status::Vacuous, &[][..]), "{:?}", found(&report));
    // Without the wait the reader meets the store.
    let steps = steps.replacen("[[step]]\nlabel = \"idle\"\nwait = { busy = 0 }\n", "", 1);
    let report = check(&inline("asked", &text(&steps)), &options());
    assert!(violated(&report).contains(&Torn), "{:?}", found(&report));
}

#[test]
fn each_round_is_needed_on_a_vcpu() {
    kvm::required();
    let whole = shipped("vcpu/int3");
    for (change, safe) in
        [("", true), ("without = [\"sync-tail\"]\n", false), ("without = [\"sync-first\"]\n", false)]
    {
        let scenario = Scenario {
            text: whole.text.replacen("\nprotocol", &format!("\n{change}protocol"), 1),
            ..whole.clone()
        };
        let fetch = Some("line".parse().unwrap());
        let report = check(&scenario, &CheckOptions { fetch, ..options() });
        assert_eq!(report.findings.is_empty(), safe, "{change}: {:?}", found(&report));
        assert!(report.unreached.is_empty());
    }
}

#[test]
fn a_vcpu_patches_at_ring_3() {
    let scenario = shipped("vcpu/stop-machine");
    let plan =
        scenario.plan(&Options { ring: Some(crossmod::plan::Ring::User), ..Options::default() }).unwrap();
    assert!(plan.program.is_empty());
    assert!(plan.executors.iter().all(|executor| executor.ring == crossmod::plan::Ring::User));
    assert_eq!(plan.executors.len(), 3);
}
