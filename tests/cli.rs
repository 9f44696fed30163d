//! The command line as a user or a CI job meets it: what it prints, where, and its exit status.

mod help;
mod host;
mod input;
mod matrix;
mod output;
mod packaged;
mod sites;
mod suites;
mod traces;

use std::path::Path;

use assert_cmd::Command;

const HELD: i32 = 0;
const NOT_HELD: i32 = 1;
const UNUSABLE: i32 = 2;
const SKIPPED: i32 = 4;
const HARNESS: i32 = 70;
const INTERRUPTED: i32 = 130;

/// A scenario that breaks, quickly.
const BROKEN: &str = "title = \"a plain store\"\nprotocol = \"plain_store\"\nexpect = [\"unserialised\"]\n\n[site]\n\
                      old = \"nop5\"\nnew = \"jmp32\"\noffset = 0x100\n";

fn crossmod(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_crossmod"));
    command.args(arguments).env_remove("CROSSMOD_SEED").env_remove("COLUMNS");
    command
}

/// What a run printed and how it ended.
struct Run {
    status: i32,
    out: String,
    err: String,
}

/// Runs to the end. Whatever happened, nothing may have panicked.
fn run(command: &mut Command) -> Run {
    let output = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8 on both streams");
    let (out, err) = (text(output.stdout), text(output.stderr));
    assert!(!err.contains("panicked") && !out.contains("panicked"), "{command:?}: {out}{err}");
    let status =
        output.status.code().unwrap_or_else(|| panic!("{command:?} died: {:?}\n{err}", output.status));
    Run { status, out, err }
}

fn ok(arguments: &[&str]) -> Run {
    let run = run(&mut crossmod(arguments));
    assert_eq!(run.status, HELD, "{arguments:?}: {}{}", run.out, run.err);
    run
}

/// The run must be refused as unusable input, with all of these in the message and nothing on standard output.
fn refused(arguments: &[&str], message: &[&str]) {
    let run = run(&mut crossmod(arguments));
    assert_eq!(run.status, UNUSABLE, "{arguments:?}: {}{}", run.out, run.err);
    for part in message {
        assert!(run.err.contains(part), "{arguments:?} does not say `{part}`:\n{}", run.err);
    }
    assert_eq!(run.out, "", "{arguments:?}");
}

fn write(directory: &Path, name: &str, bytes: impl AsRef<[u8]>) -> String {
    let path = directory.join(name);
    std::fs::write(&path, bytes).unwrap();
    path.to_str().expect("UTF-8 path").to_owned()
}
