//! The help: every command is there with what it is, and what the help says is true of the command line.

use super::{HARNESS, HELD, INTERRUPTED, NOT_HELD, SKIPPED, UNUSABLE, ok};

const COMMANDS: [&str; 15] = [
    "check",
    "merge",
    "matrix",
    "replay",
    "sites",
    "list",
    "explain",
    "show",
    "survey",
    "stress",
    "bench",
    "report",
    "probe",
    "completions",
    "man",
];

fn help(command: &str) -> String {
    ok(&[command, "--help"]).out
}

fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The lines below a title, up to the next title.
fn section<'a>(help: &'a str, title: &str) -> Vec<&'a str> {
    let lines = help.lines().skip_while(move |line| *line != title).skip(1);
    lines
        .take_while(|line| line.is_empty() || line.starts_with(' '))
        .filter(|line| !line.is_empty())
        .collect()
}

/// What a section lists: names, and what is said of each.
fn entries(help: &str, title: &str) -> Vec<(String, String)> {
    let mut entries: Vec<(String, String)> = Vec::new();
    for line in section(help, title) {
        let text = line.trim_start();
        // What is said goes on further to the right than any name begins.
        if line.len() - text.len() <= 6 {
            let (name, text) = text.split_once("  ").unwrap_or((text, ""));
            entries.push((name.to_owned(), words(text)));
        } else {
            let (_, said) = entries.last_mut().expect("a name first");
            *said = words(&format!("{said} {text}"));
        }
    }
    entries
}

/// Every `--option` of a command.
fn options(command: &str) -> Vec<String> {
    let entries = entries(&help(command), "Options:");
    let long = |name: &String| name.split([' ', ',']).find(|part| part.starts_with("--")).map(str::to_owned);
    entries.iter().filter_map(|(name, _)| long(name)).collect()
}

#[test]
fn every_command_is_listed_with_what_it_says_of_itself() {
    let overview = ok(&["--help"]).out;
    let listed = entries(&overview, "Commands:");
    let names: Vec<&str> = listed.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, [&COMMANDS[..], &["help"]].concat());
    for (command, said) in listed.iter().filter(|(name, _)| name != "help") {
        let help = help(command);
        assert_eq!(words(help.split("\n\n").next().unwrap()), *said);
        assert!(help.contains(&format!("\nUsage: crossmod {command}")), "{help}");
        for title in ["Arguments:", "Options:"] {
            for (name, said) in entries(&help, title) {
                assert!(!said.is_empty(), "`crossmod {command} --help` says nothing of `{name}`");
            }
        }
        let options = options(command);
        assert!(options.contains(&"--help".into()), "{command}: {options:?}");
    }
}

#[test]
fn the_exit_statuses_are_those_that_are_returned() {
    let overview = ok(&["--help"]).out;
    let text = overview.split("\n\n").find(|text| text.starts_with("Exit status: ")).unwrap();
    let statuses: Vec<i32> = text.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    assert_eq!(statuses, [HELD, NOT_HELD, UNUSABLE, SKIPPED, HARNESS, INTERRUPTED]);
}

#[test]
fn the_examples_use_commands_and_options_that_exist() {
    let overview = ok(&["--help"]).out;
    let mut shown = 0;
    for line in section(&overview, "Examples:") {
        let Some(example) = line.strip_prefix("  crossmod ") else { continue };
        let command = example.split(' ').next().unwrap();
        assert!(COMMANDS.contains(&command), "{line}");
        let options = options(command);
        for option in example.split(' ').filter(|word| word.starts_with("--")) {
            assert!(options.contains(&option.into()), "{line}: {options:?}");
        }
        shown += 1;
    }
    assert_eq!(shown, 11);
}

#[test]
fn the_version_is_that_of_the_package() {
    assert_eq!(ok(&["--version"]).out, format!("crossmod {}\n", env!("CARGO_PKG_VERSION")));
}
