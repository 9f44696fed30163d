//! Signals: the ones that ask to stop end a run in order, and all others change nothing.

use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crossmod::machine::Machine;
use crossmod::step::{Landing, Stimulus};

use super::{SITE, at, load};
use crate::kvm;

static ARRIVED: AtomicU64 = AtomicU64::new(0);

extern "C" fn count(_: libc::c_int) {
    ARRIVED.fetch_add(1, Ordering::Relaxed);
}

#[test]
fn a_storm_of_foreign_signals_changes_no_step() {
    kvm::required();
    const STEPS: u64 = 20_000;
    const STORM: u64 = 1000;
    // SAFETY: all of it may be zero: no flags, so that calls are interrupted, and no signals held back meanwhile.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = count as *const () as libc::sighandler_t;
    // SAFETY: the handler is one for signals without information, and touches an atomic only.
    assert_eq!(unsafe { libc::sigaction(libc::SIGWINCH, &raw const action, std::ptr::null_mut()) }, 0);
    let mut machine = Machine::oracle().unwrap();
    load(&mut machine, &[0x90; 64]);
    let done = AtomicBool::new(false);
    // SAFETY: pthread_self has no preconditions.
    let target = unsafe { libc::pthread_self() };
    let mut wrong = 0;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                // SAFETY: the target is the thread that waits for this one at the end of the scope.
                unsafe { libc::pthread_kill(target, libc::SIGWINCH) };
                std::thread::sleep(Duration::from_micros(50));
            }
        });
        // Whatever happens, the storm must end, or the scope does not.
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let arrived = || ARRIVED.load(Ordering::Relaxed);
            for step in (0..).take_while(|&step| step < STEPS || arrived() < STORM) {
                let user = step % 8 == 0;
                let stimulus = match step % 5 {
                    0 => Stimulus::Nmi,
                    1 => Stimulus::Interrupt(crossmod_abi::vector::IRQ),
                    _ => Stimulus::Instruction,
                };
                let rip = SITE + step % 60;
                let (cpu, landing) = machine.step(0, &at(rip, user), stimulus).unwrap();
                wrong += u64::from(match stimulus {
                    Stimulus::Instruction => landing != Landing::Boundary || cpu.regs.rip != rip + 1,
                    _ => {
                        landing == Landing::Boundary
                            || cpu.frame(cpu.regs.gpr[4]).map(|frame| frame.rip) != Some(rip)
                    }
                });
            }
        }));
        done.store(true, Ordering::Relaxed);
        result.unwrap();
    });
    assert_eq!(wrong, 0);
}

/// A long check in a process of its own that has begun to explore.
fn long_check(more: &[&str]) -> Child {
    let mut child = Command::new(env!("CARGO_BIN_EXE_crossmod"))
        .args(["check", "seed/hold-3", "--no-memo", "--no-reduction"])
        .args(more)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It catches signals from before it opens KVM: once a vCPU exists, it is ready to be asked to stop.
    let descriptors = format!("/proc/{}/fd", child.id());
    let ready = || {
        let Ok(entries) = std::fs::read_dir(&descriptors) else { return false };
        let names = |entry: std::fs::DirEntry| std::fs::read_link(entry.path()).ok();
        entries.flatten().filter_map(names).any(|name| name.to_string_lossy().contains("kvm-vcpu"))
    };
    while !ready() {
        assert_eq!(child.try_wait().unwrap(), None, "the check ended before it opened KVM");
        std::thread::sleep(Duration::from_millis(1));
    }
    child
}

fn signal(child: &Child, number: libc::c_int) {
    let id = libc::pid_t::try_from(child.id()).unwrap();
    // SAFETY: the process is our child and has not been waited for.
    assert_eq!(unsafe { libc::kill(id, number) }, 0);
}

/// Exit status and what was printed.
fn end(mut child: Child) -> (Option<i32>, String, String) {
    let (mut out, mut err) = (String::new(), String::new());
    child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
    child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
    (child.wait().unwrap().code(), out, err)
}

/// The output of a long check that a signal ended in the middle of its search. If the signal came too early, while the
/// process was still probing the host, another process gets it later.
fn interrupted(more: &[&str], number: libc::c_int, searching: fn(&str) -> bool) -> (String, String) {
    let mut after = Duration::from_millis(50);
    for _ in 0..8 {
        let child = long_check(more);
        std::thread::sleep(after);
        signal(&child, number);
        let (status, out, err) = end(child);
        assert_eq!(status, Some(130), "signal {number} after {after:?}: {out}{err}");
        if searching(&out) {
            return (out, err);
        }
        after *= 2;
    }
    panic!("never interrupted while it searched");
}

#[test]
fn sigint_and_sigterm_end_a_check_with_what_is_known() {
    kvm::required();
    for number in [libc::SIGINT, libc::SIGTERM] {
        let (out, err) = interrupted(&[], number, |out| out.contains("not exhaustive: interrupted"));
        assert!(out.contains("states,"), "what was explored is told: {out}");
        assert!(err.contains("interrupted"), "{err}");
        assert!(!err.contains("harness error") && !err.contains("panicked"), "{err}");
    }
}

#[test]
fn an_interrupted_suite_is_still_a_valid_report_and_says_what_did_not_run() {
    kvm::required();
    let more = ["seed/fixup", "--format", "json"];
    let (out, _) = interrupted(&more, libc::SIGINT, |out| out.contains("\"ended\": \"interrupted\""));
    let suite: serde_json::Value = serde_json::from_str(&out).unwrap();
    let reports = suite["reports"].as_array().unwrap();
    assert_eq!(reports.len(), 2);
    assert_eq!(reports[0]["ended"], "interrupted");
    assert_eq!(reports[1]["status"], "skipped");
    assert_eq!(reports[1]["reason"], "interrupted before its turn");
}

#[test]
fn a_check_that_is_stopped_and_continued_goes_on() {
    kvm::required();
    let child = Command::new(env!("CARGO_BIN_EXE_crossmod"))
        .args(["check", "seed/hold-2", "--no-memo"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    for _ in 0..20 {
        signal(&child, libc::SIGSTOP);
        signal(&child, libc::SIGCONT);
        std::thread::sleep(Duration::from_millis(5));
    }
    let (status, out, err) = end(child);
    assert_eq!(status, Some(0), "{out}{err}");
    assert!(out.contains("safe within the bounds"), "{out}");
}

#[test]
fn a_replay_that_is_asked_to_stop_says_how_far_it_came() {
    kvm::required();
    let directory = tempfile::tempdir().unwrap();
    let traces = directory.path().to_str().unwrap();
    let status = Command::new(env!("CARGO_BIN_EXE_crossmod"))
        .args(["check", "seed/naive-store", "--traces", traces])
        .stdout(Stdio::null())
        .status()
        .unwrap();
    assert_eq!(status.code(), Some(0));
    let trace = std::fs::read_dir(traces).unwrap().flatten().next().expect("a finding").path();
    let child = Command::new(env!("CARGO_BIN_EXE_crossmod"))
        .args(["replay", "--quiet", "--times", "1000000"])
        .arg(trace)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    std::thread::sleep(Duration::from_millis(500)); // any moment in a run of hours must do
    signal(&child, libc::SIGINT);
    let (status, out, err) = end(child);
    assert_eq!(status, Some(130), "{out}{err}");
    assert!(err.contains("interrupted"), "{err}");
}
