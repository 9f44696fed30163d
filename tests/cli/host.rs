//! Hosts without a usable `/dev/kvm`, made with mount namespaces and other users. A missing tool is no reason
//! to pass where CI asks for everything.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command as Process;

use super::SKIPPED;
use crate::harness;

/// A shell in which `/dev` was changed by `prepare`; the test is ignored where that cannot be done.
fn elsewhere(prepare: &str) -> impl Fn(&str) -> std::process::Output {
    // SAFETY: geteuid has no preconditions.
    let root = unsafe { libc::geteuid() } == 0;
    let flags = if root { "-m" } else { "-rm" };
    let possible = Process::new("unshare").args([flags, "sh", "-ec", prepare]).output();
    if !possible.as_ref().is_ok_and(|output| output.status.success()) {
        cannot(&format!("`unshare {flags}` with `{prepare}`: {possible:?}"));
    }
    let prepare = prepare.to_owned();
    move |script: &str| {
        let script = format!("{prepare}\n{script}");
        Process::new("unshare").args([flags, "sh", "-ec", &script]).output().expect("it has just run")
    }
}

fn cannot(what: &str) -> ! {
    assert!(!harness::everything_required(), "cannot do {what}");
    harness::ignore(format!("cannot do {what}"))
}

const BINARY: &str = env!("CARGO_BIN_EXE_crossmod");

/// Status 4, the reason, and what still works; the same for every command that needs KVM.
fn assert_skipped(output: &std::process::Output, reason: &str) {
    let err = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(SKIPPED), "{err}");
    assert!(err.starts_with("skipped: /dev/kvm cannot be used: "), "{err}");
    assert!(err.contains(reason), "{err}");
    assert!(err.contains("`crossmod list`"), "{err}");
    assert!(!err.contains("panicked") && output.stdout.is_empty(), "{err}");
}

#[test]
fn without_dev_kvm_everything_that_needs_it_is_skipped_and_the_rest_works() {
    let run = elsewhere("mount -t tmpfs none /dev");
    // One version of the last has no room for a number, so that it is tried on KVM before anything else.
    for command in [
        "check",
        "check seed/fixup --format json",
        "probe",
        "probe --json",
        "survey",
        "bench",
        "stress seed/fixup-nmi --findings /dev/shm-findings",
        "stress seed/fixup-short-jump --findings /dev/shm-findings",
    ] {
        assert_skipped(&run(&format!("exec {BINARY} {command}")), "it does not exist");
    }
    for command in ["list", "show seed/fixup", "--help"] {
        let output = run(&format!("exec {BINARY} {command}"));
        assert!(output.status.success() && !output.stdout.is_empty(), "{command}: {output:?}");
    }
    // Unusable input is unusable everywhere.
    let output = run(&format!("exec {BINARY} check seed/nonsense"));
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn something_else_in_its_place_is_told() {
    if !Path::new("/dev/kvm").exists() {
        cannot("a bind mount over /dev/kvm, which does not exist");
    }
    let run = elsewhere("mount --bind /dev/null /dev/kvm");
    assert_skipped(&run(&format!("exec {BINARY} check seed/fixup")), "it is not KVM");
}

#[test]
fn a_user_who_may_not_open_it_is_told_what_to_do() {
    let mode = std::fs::metadata("/dev/kvm").map(|meta| meta.permissions().mode() & 0o006);
    // SAFETY: geteuid has no preconditions.
    if unsafe { libc::geteuid() } != 0 || !matches!(mode, Ok(0)) {
        cannot("another user who may not open /dev/kvm");
    }
    // Where others can reach it, unlike the target directory.
    let directory = tempfile::tempdir().unwrap();
    let binary = directory.path().join("crossmod");
    std::fs::copy(BINARY, &binary).unwrap();
    for path in [directory.path(), &binary] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let output = Process::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(&binary)
        .args(["check", "seed/fixup"])
        .current_dir(directory.path())
        .output();
    match output {
        Ok(output) => assert_skipped(&output, "permission denied (run as root, or join the group"),
        Err(error) => cannot(&format!("setpriv: {error}")),
    }
}
