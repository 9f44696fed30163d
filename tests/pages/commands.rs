//! Every command of a `console` block runs and prints what is quoted, or is on the list of those that do not run here.

use std::path::Path;

use super::page::{Page, arguments, crossmod, pages, root};
use super::{kvm, quote};

/// What is not run from here, and why.
const NOT_RUN: [(&str, &str); 10] = [
    ("export PATH=$PWD/target/release:$PATH", "the test knows where the program is"),
    ("crossmod survey", ONE_RUN),
    ("crossmod bench", ONE_RUN),
    ("crossmod stress seed/fixup-nmi", ONE_RUN),
    ("crossmod stress seed/naive-store-crossing-line", ONE_RUN),
    ("crossmod survey --format json > survey.json", ONE_RUN),
    ("crossmod bench --format json > bench.json", ONE_RUN),
    ("crossmod report survey.json bench.json > report.html", "it needs the two above"),
    ("crossmod sites vmlinuz-6.1.0-56-cloud-amd64", KERNEL),
    ("crossmod sites vmlinuz-6.1.0-56-cloud-amd64 --judge plain_store --rule amd", KERNEL),
];
const ONE_RUN: &str = "counts and times of one run on one machine";
const KERNEL: &str =
    "kernels are not part of the tree; `tables` compares what is quoted of this one with what is known of it";

/// True if the command builds, tests, measures, or searches the whole shipped set: CI does that, and it takes minutes.
/// What `cargo run --release -- check` prints is compared with the shipped set in `tables`.
fn belongs_to_ci(command: &str) -> bool {
    let program = command.split_whitespace().find(|word| !word.contains('=')).unwrap_or_default();
    program == "cargo" || program.starts_with("scripts/") && root().join(program).exists()
}

/// A command of a block and what is quoted of its output.
struct Quoted {
    command: String,
    output: String,
}

/// The commands of a block, each of which begins with `$ `.
fn quoted(page: &Page, block: &str) -> Vec<Quoted> {
    let mut commands: Vec<Quoted> = Vec::new();
    for line in block.lines() {
        match (line.strip_prefix("$ "), commands.last_mut()) {
            (Some(command), _) => {
                commands.push(Quoted { command: command.to_owned(), output: String::new() });
            }
            (None, Some(last)) => last.output.extend([line, "\n"]),
            (None, None) => {
                panic!("{}: a console block that does not begin with a command:\n{block}", page.name)
            }
        }
    }
    commands
}

/// Runs the commands of a block. A command succeeds, unless `echo $?` behind it says how it ends.
fn run(page: &Page, block: &str, directory: &Path) -> usize {
    let mut count = 0;
    let mut commands = quoted(page, block).into_iter().peekable();
    while let Some(Quoted { command, output }) = commands.next() {
        if belongs_to_ci(&command) || NOT_RUN.iter().any(|(known, _)| *known == command) {
            continue;
        }
        let status = commands.next_if(|next| next.command == "echo $?");
        let status = status.map_or(0, |echo| echo.output.trim().parse().unwrap());
        let arguments =
            arguments(&command).unwrap_or_else(|| panic!("{}: nothing checks `{command}`", page.name));
        let done = crossmod(&arguments, directory);
        let text = String::from_utf8(done.stdout).unwrap();
        let errors = String::from_utf8_lossy(&done.stderr);
        assert_eq!(done.status.code(), Some(status), "{}: `{command}`\n{text}{errors}", page.name);
        if let Some(quote::Missing { quoted, nearest }) = quote::first_missing(&output, &text) {
            panic!(
                "{}: `{command}` does not print this line in its place:\n{quoted}\nmost like it is:\n{nearest}\n\
                 It prints:\n{text}",
                page.name
            );
        }
        count += 1;
    }
    count
}

#[test]
fn every_command_runs_and_prints_what_is_quoted() {
    kvm::required();
    let directory = tempfile::tempdir().unwrap();
    for (name, text) in
        [("my-site.toml", include_str!("my-site.toml")), ("my-change.toml", include_str!("my-change.toml"))]
    {
        std::fs::write(directory.path().join(name), text).unwrap();
    }
    let mut count = 0;
    for page in pages() {
        for block in page.blocks("console") {
            count += run(&page, &block, directory.path());
        }
    }
    assert!(count >= 12, "only {count} commands run");
}

/// Otherwise the list would outlive what it excuses.
#[test]
fn every_command_that_is_not_run_is_quoted() {
    let mut every = Vec::new();
    for page in pages() {
        for block in page.blocks("console") {
            every.extend(quoted(&page, &block).into_iter().map(|quoted| quoted.command));
        }
    }
    for (command, reason) in NOT_RUN {
        assert!(every.iter().any(|known| known == command), "no page quotes `{command}` ({reason})");
    }
}
