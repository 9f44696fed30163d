//! Every command of a `console` block runs and prints what is quoted, or is on the list of those that do not run here.

use std::path::Path;

use super::page::{Page, arguments, crossmod, pages};
use super::{kvm, quote};

/// What is not run from here, and why.
const NOT_RUN: [(&str, &str); 16] = [
    ("cargo build --release --locked", "it built this test"),
    ("export PATH=$PWD/target/release:$PATH", "the test knows where the program is"),
    ("cargo run --release -- check", "CI runs it; its count is compared with the shipped set in `tables`"),
    ("cargo test --release", "it runs this test"),
    ("crossmod survey", ONE_RUN),
    ("crossmod bench", ONE_RUN),
    ("crossmod stress seed/fixup-nmi", ONE_RUN),
    ("crossmod stress seed/naive-store-crossing-line", ONE_RUN),
    ("crossmod survey --format json > survey.json", ONE_RUN),
    ("crossmod bench --format json > bench.json", ONE_RUN),
    ("crossmod report survey.json bench.json > report.html", "its input takes minutes; `freerun` tests it"),
    ("crossmod sites vmlinuz-6.1.0-56-cloud-amd64", KERNEL),
    ("crossmod sites vmlinuz-6.1.0-56-cloud-amd64 --judge plain_store --rule amd", KERNEL),
    // Commands of the contributor's page.
    ("scripts/check", "CI runs it"),
    ("cargo bench", "it takes minutes"),
    ("cargo run --release --locked -- check", "CI runs it"),
];
const ONE_RUN: &str = "counts and times of one run on one machine";
const KERNEL: &str = "kernels are not part of the tree; what is quoted is compared with what is known of this one";

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
            (None, None) => panic!("{}: a console block that does not begin with a command:\n{block}", page.name),
        }
    }
    commands
}

/// Runs the commands of a block. A command succeeds, unless `echo $?` behind it says how it ends.
fn run(page: &Page, block: &str, directory: &Path) -> usize {
    let mut count = 0;
    let mut commands = quoted(page, block).into_iter().peekable();
    while let Some(Quoted { command, output }) = commands.next() {
        if NOT_RUN.iter().any(|(known, _)| *known == command) {
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
    if !kvm::required() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    for (name, text) in [
        ("my-site.toml", include_str!("my-site.toml")),
        ("my-change.toml", include_str!("my-change.toml")),
    ] {
        std::fs::write(directory.path().join(name), text).unwrap();
    }
    let count: usize = pages()
        .flat_map(|page| page.blocks("console").into_iter().map(move |block| (Page::named(page.name), block)))
        .map(|(page, block)| run(&page, &block, directory.path()))
        .sum();
    assert!(count >= 12, "only {count} commands run");
}

#[test]
fn every_command_that_is_not_run_is_quoted() {
    let every: Vec<String> = pages()
        .flat_map(|page| {
            let blocks = page.blocks("console");
            blocks.iter().flat_map(|block| quoted(&page, block)).map(|quoted| quoted.command).collect::<Vec<_>>()
        })
        .collect();
    for (command, reason) in NOT_RUN.iter().take(13) {
        assert!(every.iter().any(|known| known == command), "no page quotes `{command}` ({reason})");
    }
}
