//! The examples for CI: they are in GUIDE.md as they are here, and do here what they do there, runner aside.

use std::path::Path;
use std::process::Command;

use super::kvm;
use super::page::{CROSSMOD, Page};

const ACTIONS: &str = include_str!("actions.yml");
const MINE: &str = include_str!("mine.yml");
const SLURM: &str = include_str!("slurm.sh");

/// Runs a script as a runner would, with `crossmod` in the path.
fn shell(script: &str, directory: &Path, variables: &[(&str, String)]) {
    let programs = Path::new(CROSSMOD).parent().unwrap().display();
    let output = Command::new("bash")
        .args(["-euo", "pipefail", "-c", script])
        .current_dir(directory)
        .env("PATH", format!("{programs}:{}", std::env::var("PATH").unwrap_or_default()))
        .envs(variables.iter().map(|(name, value)| (name, value)))
        .output()
        .unwrap();
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
}

/// As many cases in the joined report as in the run as a whole.
fn assert_whole(directory: &Path) {
    shell(
        "crossmod check seed --format json > all; crossmod merge all --format ktap > all.ktap",
        directory,
        &[],
    );
    shell("crossmod merge shard-*.json --format ktap > joined.ktap", directory, &[]);
    let read = |name| std::fs::read_to_string(directory.join(name)).unwrap();
    assert!(read("all.ktap").lines().count() > 60);
    assert_eq!(read("joined.ktap"), read("all.ktap"));
}

#[test]
fn the_examples_are_the_tested_ones() {
    let guide = Page::named("GUIDE.md");
    for (language, name, text) in
        [("yaml", "actions.yml", ACTIONS), ("yaml", "mine.yml", MINE), ("bash", "slurm.sh", SLURM)]
    {
        assert!(guide.blocks(language).iter().any(|block| block == text), "GUIDE.md: {name}");
    }
}

/// Installation aside: the program is built already.
#[test]
fn a_directory_of_ones_own_is_checked() {
    kvm::required();
    let directory = tempfile::tempdir().unwrap();
    let patching = directory.path().join("patching");
    std::fs::create_dir(&patching).unwrap();
    std::fs::write(patching.join("my-site.toml"), include_str!("my-site.toml")).unwrap();
    let command = MINE.lines().find_map(|line| line.trim().strip_prefix("- run: crossmod ")).unwrap();
    shell(&format!("crossmod {command}"), directory.path(), &[]);
    let report = std::fs::read_to_string(directory.path().join("junit.xml")).unwrap();
    assert!(report.contains("my-site") && report.contains("failures=\"0\""), "{report}");
}

#[test]
fn the_matrix_of_jobs_gives_the_whole() {
    kvm::required();
    let directory = tempfile::tempdir().unwrap();
    let commands: Vec<&str> =
        ACTIONS.lines().filter_map(|line| line.trim().strip_prefix("- run: ")).collect();
    let [check, merge] = commands[..] else { panic!("{commands:?}") };
    let shards =
        ACTIONS.lines().find_map(|line| line.trim().strip_prefix("shard: [")?.strip_suffix(']')).unwrap();
    for shard in shards.split(", ") {
        shell(&check.replace("${{ matrix.shard }}", shard), directory.path(), &[]);
    }
    shell(merge, directory.path(), &[]);
    assert!(std::fs::read_to_string(directory.path().join("junit.xml")).unwrap().contains("failures=\"0\""));
    assert_whole(directory.path());
}

#[test]
fn the_array_of_tasks_gives_the_whole_also_when_one_is_requeued() {
    kvm::required();
    let directory = tempfile::tempdir().unwrap();
    for task in [1, 2, 2] {
        let variables =
            [("SLURM_ARRAY_TASK_ID", task.to_string()), ("SLURM_ARRAY_TASK_COUNT", 2.to_string())];
        shell(SLURM, directory.path(), &variables);
    }
    assert_whole(directory.path());
}
