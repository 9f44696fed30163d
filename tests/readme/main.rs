//! README.md is true: its commands run and print what it quotes, its scenario and its library example are the
//! files beside this one, and its verdicts are those of the shipped set.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod ci;
#[allow(dead_code, reason = "the other test binary uses all of it")]
#[path = "../kvm.rs"]
mod kvm;
mod my_site;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crossmod::fetch::FetchModel;
use crossmod::{Scenario, scenario};

const CROSSMOD: &str = env!("CARGO_BIN_EXE_crossmod");
/// What is not run from here, but has to exist.
const NOT_RUN: [&str; 11] = [
    "cargo test --release",
    "cargo bench",
    // Counts and times of one run on one machine.
    "crossmod survey",
    "crossmod bench",
    "crossmod stress seed/fixup-nmi",
    "crossmod stress seed/naive-store-crossing-line",
    "crossmod survey --format json > survey.json",
    "crossmod bench --format json > bench.json",
    "crossmod report survey.json bench.json > report.html",
    // Kernels are not part of the tree; what is quoted of this one is compared with what is known of it.
    "crossmod sites vmlinuz-6.1.0-56-cloud-amd64",
    "crossmod sites vmlinuz-6.1.0-56-cloud-amd64 --judge plain_store --rule amd",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn readme() -> String {
    std::fs::read_to_string(root().join("README.md")).unwrap()
}

/// The contents of the fenced blocks of one language.
fn blocks(readme: &str, language: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut fence: Option<bool> = None;
    for line in readme.lines() {
        match (fence, line.strip_prefix("```")) {
            (None, Some(name)) => {
                fence = Some(name == language);
                if name == language {
                    blocks.push(String::new());
                }
            }
            (Some(_), Some(_)) => fence = None,
            (Some(true), None) => {
                let block = blocks.last_mut().unwrap();
                block.push_str(line);
                block.push('\n');
            }
            _ => {}
        }
    }
    blocks
}

/// The arguments of Crossmod in a command line, if it is one.
fn arguments(command: &str) -> Option<Vec<&str>> {
    let rest =
        ["cargo run --release -- ", "crossmod "].iter().find_map(|prefix| command.strip_prefix(prefix))?;
    Some(rest.split_whitespace().collect())
}

fn crossmod(arguments: &[&str], directory: &Path) -> Output {
    Command::new(CROSSMOD)
        .args(arguments)
        .current_dir(directory)
        .env("COLUMNS", "100")
        .env_remove("CROSSMOD_SEED")
        .output()
        .unwrap()
}

/// A line as words, without what differs from run to run and from host to host: times, the host, and how many
/// steps KVM needed.
fn words(line: &str) -> Vec<&str> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let unit = |word: Option<&&str>| {
        word.is_some_and(|word| ["s", "ms"].contains(&word.trim_end_matches([',', ';'])))
    };
    let counts = line.contains("on KVM");
    (0..words.len())
        .filter(|&index| {
            let number = words[index].starts_with(|first: char| first.is_ascii_digit());
            !number || !(counts || unit(words.get(index + 1)))
        })
        .map(|index| words[index])
        .filter(|_| !line.contains(" CPUs, Linux "))
        .collect()
}

/// The first quoted line that the output does not have in its place; `...` stands for any lines.
fn first_missing<'a>(quoted: &[&'a str], output: &str) -> Option<&'a str> {
    let output: Vec<&str> = output.lines().collect();
    let (mut at, mut skipping) = (0, false);
    for &line in quoted {
        if line.trim() == "..." {
            skipping = true;
            continue;
        }
        let found = (at..output.len()).find(|&index| words(output[index]) == words(line));
        match found {
            Some(index) if skipping || index == at => at = index + 1,
            _ => return Some(line),
        }
        skipping = false;
    }
    None
}

#[test]
fn every_command_runs_and_prints_what_is_quoted() {
    if !kvm::required() {
        return;
    }
    let readme = readme();
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("my-site.toml"), include_str!("my-site.toml")).unwrap();
    let mut run = 0;
    for block in blocks(&readme, "console") {
        let mut rest = block.as_str();
        while let Some(command) = rest.strip_prefix("$ ") {
            let (command, tail) = command.split_once('\n').unwrap();
            let end =
                if tail.starts_with("$ ") { 0 } else { tail.find("\n$ ").map_or(tail.len(), |at| at + 1) };
            let quoted: Vec<&str> = tail[..end].lines().collect();
            rest = &tail[end..];
            if NOT_RUN.contains(&command) {
                continue;
            }
            let arguments = arguments(command).unwrap_or_else(|| panic!("nobody checks `{command}`"));
            let output = crossmod(&arguments, directory.path());
            let text = String::from_utf8(output.stdout).unwrap();
            let errors = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "`{command}`: {}\n{text}{errors}", output.status);
            if let Some(line) = first_missing(&quoted, &text) {
                panic!("`{command}` does not print, where README.md has it:\n{line}\nIt prints:\n{text}");
            }
            run += 1;
        }
        assert!(rest.is_empty(), "a console block that does not begin with a command:\n{rest}");
    }
    assert!(run >= 6, "only {run} commands found");
}

#[test]
fn every_option_and_name_in_running_text_exists() {
    let readme = readme();
    let names: Vec<String> = scenario::library().into_iter().map(|scenario| scenario.name).collect();
    let subcommands = [
        "check", "merge", "matrix", "replay", "sites", "list", "explain", "show", "probe", "survey",
        "stress", "bench", "report", "help",
    ];
    let help: String =
        ["check", "merge", "list", "matrix", "replay", "sites", "survey", "stress", "bench", "report"]
            .iter()
            .map(|subcommand| {
                String::from_utf8(crossmod(&[subcommand, "--help"], Path::new(".")).stdout).unwrap()
            })
            .collect();
    let mut checked = 0;
    for line in readme.lines().filter(|line| !line.starts_with("```")) {
        for span in line.split('`').skip(1).step_by(2) {
            checked += 1;
            if let Some(arguments) = arguments(span) {
                assert!(subcommands.contains(&arguments[0]), "`{span}`");
                if arguments[0] == "show" && arguments.len() > 1 {
                    assert!(crossmod(&arguments, Path::new(".")).status.success(), "`{span}`");
                }
            } else if span.starts_with("--") {
                assert!(help.contains(span.split_whitespace().next().unwrap()), "`{span}`");
            } else if ["seed/", "linux/", "matrix/"].iter().any(|group| span.starts_with(group)) {
                assert!(names.iter().any(|name| name == span), "`{span}`");
            }
        }
    }
    assert!(checked >= 30, "only {checked} spans found");
}

#[test]
fn the_table_of_verdicts_is_that_of_the_shipped_set() {
    let library = scenario::library();
    let mut rows = 0;
    for line in readme().lines().filter(|line| line.starts_with('|') && line.contains("`seed/")) {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let [_, _, nmi, name, verdict, _] = cells[..] else { panic!("{line}") };
        let name = name.trim_matches('`');
        let shipped = library.iter().find(|scenario| scenario.name == name).expect(name);
        let plan = shipped.plan(&scenario::Options::default()).unwrap();
        let expect: Vec<&str> = plan.expect.iter().map(|property| property.name()).collect();
        assert_eq!(verdict, if expect.is_empty() { "safe".to_owned() } else { expect.join(", ") }, "{line}");
        assert_eq!(nmi == "runs the site", plan.events.nmi > 0, "{line}");
        rows += 1;
    }
    assert!(rows >= 10, "only {rows} rows found");
}

#[test]
fn the_table_of_fetch_models_is_that_of_the_program() {
    let readme = readme();
    for model in FetchModel::presets() {
        let row = format!("| `{model}` | {} | {} |", model.reads(), model.misses());
        assert!(readme.lines().any(|line| line == row), "README.md does not have {row}");
    }
}

#[test]
fn the_quoted_inventory_is_that_of_the_kernel() {
    let facts: serde_json::Value =
        serde_json::from_str(include_str!("../linux/6.1.0-56-cloud.facts.json")).unwrap();
    let counts = &facts["counts"];
    let readme = readme();
    let quoted = |start: &str| -> Vec<u64> {
        let line = readme.lines().find(|line| line.starts_with(start)).unwrap_or_else(|| panic!("{start}"));
        line.split_whitespace().skip(1).map_while(|word| word.parse().ok()).collect()
    };
    for (start, length, number, crossing) in [
        ("jump-label       5", 5, "jump labels, 5 bytes", Some("5-byte jump labels crossing")),
        ("jump-label       2", 2, "jump labels, 2 bytes", None),
        ("static-call      5", 5, "static calls", Some("static calls crossing")),
        ("mcount           5", 5, "mcount", None),
    ] {
        let words = quoted(start);
        assert_eq!(words[..2], [length, counts[number].as_u64().unwrap()], "{start}");
        if let Some(crossing) = crossing {
            assert_eq!(serde_json::json!(words[2..7]), counts[crossing], "{start}");
        }
    }
}

#[test]
fn the_examples_are_the_tested_ones() {
    let readme = readme();
    assert!(
        blocks(&readme, "toml").iter().any(|block| block == include_str!("my-site.toml")),
        "my-site.toml"
    );
    assert!(blocks(&readme, "rust").iter().any(|block| block == include_str!("my_site.rs")), "my_site.rs");
    let text = include_str!("my-site.toml").to_owned();
    let scenario = Scenario { name: "my-site".into(), text, path: "my-site.toml".into() };
    assert!(!scenario.plan(&scenario::Options::default()).unwrap().expect.is_empty());
}

#[test]
fn ci_runs_the_two_commands() {
    let ci = std::fs::read_to_string(root().join(".ci/run")).unwrap();
    for command in ["cargo run --release -- check", "cargo test --release"] {
        assert!(readme().contains(&format!("$ {command}\n")), "README.md: {command}");
        assert!(ci.lines().any(|line| line == command), ".ci/run: {command}");
    }
}

#[test]
fn a_wrong_quotation_is_found() {
    let output = "one 3 ms\ntwo\nthree 17 states\n";
    assert_eq!(first_missing(&["one 4 ms", "...", "three 17 states"], output), None);
    assert_eq!(first_missing(&["one 4 ms", "three 17 states"], output), Some("three 17 states"));
    assert_eq!(first_missing(&["...", "three 18 states"], output), Some("three 18 states"));
}
