//! Commands, options, scenarios, protocols and scripts in running text exist.

use std::path::Path;

use crossmod::scenario;

use super::page::{arguments, crossmod, pages, root};

/// Standard output of `crossmod` with these arguments.
fn output(arguments: &[&str]) -> String {
    String::from_utf8(crossmod(arguments, Path::new(".")).stdout).unwrap()
}

/// The names of the commands, as `crossmod help` lists them.
fn subcommands() -> Vec<String> {
    let help = output(&["help"]);
    let list = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    list.take_while(|line| !line.is_empty())
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .map(|line| line.split_whitespace().next().unwrap().to_owned())
        .collect()
}

#[test]
fn every_option_and_name_in_running_text_exists() {
    let names: Vec<String> = scenario::library().into_iter().map(|scenario| scenario.name).collect();
    let mut groups: Vec<&str> = names.iter().map(|name| name.split_once('/').unwrap().0).collect();
    groups.dedup();
    let subcommands = subcommands();
    assert!(subcommands.len() >= 10, "{subcommands:?}");
    let help: String = subcommands.iter().map(|subcommand| output(&[subcommand, "--help"])).collect();
    // Options of other programs and of scripts.
    let elsewhere = ["--self-test", "--quick", "--versus", "--locked", "--release", "--check"];
    let mut checked = 0;
    for page in pages() {
        for span in page.spans() {
            checked += 1;
            let first = span.split_whitespace().next().unwrap_or_default();
            let name = page.name;
            if let Some(arguments) = arguments(span) {
                assert!(
                    subcommands.iter().any(|known| known == arguments[0]) || arguments[0].starts_with('-'),
                    "{name}: `{span}`"
                );
                if arguments[0] == "show" && arguments.len() > 1 && arguments[1].contains('/') {
                    assert!(crossmod(&arguments, Path::new(".")).status.success(), "{name}: `{span}`");
                }
            } else if first.starts_with("--") {
                assert!(help.contains(first) || elsewhere.contains(&first), "{name}: `{span}`");
            } else if first.starts_with("scripts/") {
                assert!(root().join(first).exists(), "{name}: `{span}`");
            } else if first.split_once('/').is_some_and(|(group, rest)| {
                groups.contains(&group) && !rest.ends_with(".toml") && rest != "NAME"
            }) {
                assert!(names.iter().any(|known| known == span), "{name}: `{span}`");
            }
        }
    }
    assert!(checked >= 300, "only {checked} spans found");
}

#[test]
fn ci_runs_the_two_commands() {
    let ci = std::fs::read_to_string(root().join(".ci/run")).unwrap();
    let readme = super::page::Page::named("README.md");
    for command in ["cargo run --release -- check", "cargo test --release"] {
        assert!(readme.text.contains(&format!("$ {command}\n")), "README.md: {command}");
        let locked = |line: &str| line.replace(" --locked", "") == command;
        assert!(ci.lines().any(locked), ".ci/run: {command}");
    }
}
