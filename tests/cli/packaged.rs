//! What a package brings beside the program: completions and man pages.

use std::collections::BTreeSet;
use std::process::Command as Process;

use super::{HARNESS, ok, run};

/// The subcommands, as the help lists them.
fn subcommands() -> BTreeSet<String> {
    let help = ok(&["--help"]).out;
    let listed =
        help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let names = listed.filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    let names: BTreeSet<String> =
        names.filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect();
    assert!(names.contains("check") && names.contains("probe"), "{help}");
    names
}

/// The long options of a subcommand, as its help lists them.
fn options(command: &str) -> BTreeSet<String> {
    let help = ok(&[command, "--help"]).out;
    let words = help
        .lines()
        .map(str::trim_start)
        .filter(|line| line.starts_with('-'))
        .flat_map(str::split_whitespace);
    words.filter(|word| word.starts_with("--")).map(|word| word.trim_end_matches(',').to_owned()).collect()
}

#[test]
fn bash_completes_subcommands_options_and_values() {
    let script = ok(&["completions", "bash"]).out;
    let complete = |words: &[&str]| {
        let last = words.len() - 1;
        let ask = format!(
            "{script}\nCOMP_WORDS=({}) COMP_CWORD={last}\n_crossmod crossmod '{}' '{}'\nprintf '%s\\n' \"${{COMPREPLY[@]}}\"",
            words.iter().map(|word| format!("'{word}'")).collect::<Vec<_>>().join(" "),
            words[last],
            words[last - 1],
        );
        let output = Process::new("bash").args(["-c", &ask]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect::<BTreeSet<_>>()
    };
    let first = complete(&["crossmod", ""]);
    assert!(first.is_superset(&subcommands()), "{first:?}");
    assert_eq!(complete(&["crossmod", "che"]), BTreeSet::from(["check".to_owned()]));
    assert!(complete(&["crossmod", "check", "--"]).is_superset(&options("check")));
    assert_eq!(
        complete(&["crossmod", "check", "--format", ""]),
        ["json", "junit", "ktap", "text"].map(str::to_owned).into()
    );
}

#[test]
fn every_shell_knows_every_subcommand() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let script = ok(&["completions", shell]).out;
        for command in subcommands() {
            assert!(script.contains(&command), "{shell} does not know {command}");
        }
    }
}

#[test]
fn each_subcommand_has_a_man_page_with_its_options() {
    let directory = tempfile::tempdir().unwrap();
    let pages = directory.path().join("man1");
    ok(&["man", pages.to_str().unwrap()]);
    let written: BTreeSet<String> = std::fs::read_dir(&pages)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    let mut expected: BTreeSet<String> =
        subcommands().iter().map(|name| format!("crossmod-{name}.1")).collect();
    expected.remove("crossmod-help.1");
    expected.insert("crossmod.1".into());
    assert_eq!(written, expected);
    for command in subcommands().iter().filter(|name| *name != "help") {
        let page = std::fs::read_to_string(pages.join(format!("crossmod-{command}.1"))).unwrap();
        assert!(page.contains(&format!(".TH crossmod-{command} 1")), "{page}");
        for option in options(command) {
            let written = option.replace('-', "\\-");
            assert!(page.contains(&written), "the page of {command} lacks {option}");
        }
    }
    let status = std::fs::read_to_string(pages.join("crossmod.1")).unwrap();
    assert!(status.contains("Exit status:"), "{status}");
}

#[test]
fn a_directory_that_cannot_be_written_is_an_error() {
    let run = run(&mut super::crossmod(&["man", "/dev/null/pages"]));
    assert_eq!(run.status, HARNESS);
    assert!(run.err.starts_with("harness error: /dev/null/pages: "), "{}", run.err);
}
