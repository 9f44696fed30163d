//! Suites on the command line: selection, shards and joining, limits, journals, explanations.

use std::collections::BTreeSet;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Command as Process, ExitStatus, Stdio};

use serde_json::Value;

use super::{BROKEN, HELD, NOT_HELD, Run, UNUSABLE, crossmod, ok, refused, run, write};
use crate::kvm;

/// Quick scenarios of several kinds, 12 cases.
const SOME: [&str; 4] = ["seed/naive-*", "seed/softirq-*", "matrix/stop-machine", "seed/hold-1"];

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// The reports without what differs from run to run: times, and what a search happened to need.
fn verdicts(results: &Value) -> Vec<Value> {
    let mut reports = results["reports"].as_array().unwrap().clone();
    for report in &mut reports {
        report["counts"]["seconds"] = Value::Null;
        report["counts"]["memory"] = Value::Null;
        report["counts"]["memo"] = Value::Null;
        report["assists"] = Value::Null;
    }
    reports
}

fn names(results: &Value) -> Vec<String> {
    let reports = results["reports"].as_array().unwrap();
    reports.iter().map(|report| format!("{}@{}", report["name"], report["fetch"])).collect()
}

fn check(more: &[&str]) -> Run {
    run(&mut crossmod(&[&["check"], &SOME[..], more].concat()))
}

#[test]
fn cases_are_selected_by_pattern_tag_and_property() {
    let listed = |arguments: &[&str]| -> Vec<Value> {
        json(&ok(&[&["list", "--json"], arguments].concat()).out).as_array().unwrap().clone()
    };
    let all = listed(&[]);
    let nmi = listed(&["--tag", "nmi"]);
    assert!(!nmi.is_empty() && nmi.len() < all.len());
    assert!(nmi.iter().all(|row| row["tags"].as_array().unwrap().contains(&"nmi".into())));
    assert_eq!(nmi.len() + listed(&["--tag", "!nmi"]).len(), all.len());
    let torn = listed(&["--property", "torn", "--tag", "derived"]);
    for case in torn.iter().flat_map(|row| row["cases"].as_array().unwrap()) {
        assert!(case["expect"].as_str().unwrap().contains("torn"), "{case}");
    }
    refused(&["check", "--tag", "nmii"], &["no scenario here has the tag `nmii`", "did you mean `nmi`?"]);
    refused(&["check", "--property", "tron"], &["unknown property `tron`", "safe"]);
    refused(&["check", "seed/softirq-none", "--property", "torn"], &["none of 1 cases expects torn"]);
    refused(&["check", "seed/*-elephant"], &["no shipped scenario matches", "crossmod list"]);
    refused(&["check", "seed/[a"], &["is not a valid pattern"]);
    refused(&["list", "--tag", "N M I"], &["a tag is a word"]);
}

#[test]
fn cases_that_are_selected_are_checked_once() {
    kvm::required();
    let results = json(&ok(&["check", "seed/naive-*", "--property", "torn", "--format", "json"]).out);
    let selected = names(&results);
    assert!(selected.contains(&"\"seed/naive-store-crossing-line\"@\"coherent\"".into()), "{selected:?}");
    // A scenario that is named in two ways is checked once.
    let twice = ok(&["check", "seed/softirq-none", "seed/softirq-*", "--format", "ktap"]).out;
    assert_eq!(twice.matches("seed/softirq-none").count(), 1, "{twice}");
}

#[test]
fn two_files_of_one_name_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let mut paths = Vec::new();
    for (parent, text) in [("a", BROKEN.to_owned()), ("b", BROKEN.replace("0x100", "0x200"))] {
        let group = directory.path().join(parent).join("group");
        std::fs::create_dir_all(&group).unwrap();
        paths.push(write(&group, "one.toml", text));
    }
    refused(&["check", &paths[0], &paths[1]], &["both called `group/one`", "rename one"]);
}

#[test]
fn shards_joined_are_the_run_as_a_whole() {
    kvm::required();
    let directory = tempfile::tempdir().unwrap();
    let whole = check(&["--format", "json"]);
    assert_eq!(whole.status, HELD, "{}", whole.err);
    let (whole, text) = (json(&whole.out), whole.out);
    let whole_file = write(directory.path(), "whole.json", text);
    let (mut files, mut seen) = (Vec::new(), BTreeSet::new());
    for shard in ["3/3", "1/3", "2/3"] {
        let part = check(&["--format", "json", "--shard", shard]);
        assert_eq!(part.status, HELD, "{}", part.err);
        for name in names(&json(&part.out)) {
            assert!(seen.insert(name.clone()), "{name} is in two shards");
        }
        files.push(write(directory.path(), &format!("{}.json", &shard[..1]), part.out));
    }
    assert_eq!(seen.len(), names(&whole).len());
    let files: Vec<&str> = files.iter().map(String::as_str).collect();
    let merge = |more: &[&str]| run(&mut crossmod(&[&["merge"], &files[..], more].concat()));
    let joined = json(&merge(&["--format", "json"]).out);
    assert_eq!(verdicts(&joined), verdicts(&whole));
    assert_eq!(joined["selection"], whole["selection"]);
    for format in ["text", "ktap", "junit"] {
        let (ours, theirs) =
            (merge(&["--format", format]), run(&mut crossmod(&["merge", &whole_file, "--format", format])));
        assert_eq!((ours.status, theirs.status), (HELD, HELD), "{}{}", ours.err, theirs.err);
        if format == "ktap" {
            assert_eq!(ours.out, theirs.out);
        }
        // The lines of the table, but for times.
        let lines = |run: &Run| -> Vec<String> {
            let lines = run.out.lines().filter(|line| line.starts_with("ok "));
            lines.map(|line| line.split_whitespace().take(7).collect::<Vec<_>>().join(" ")).collect()
        };
        assert_eq!(lines(&ours), lines(&theirs));
        assert_eq!(ours.out.lines().count(), theirs.out.lines().count(), "{}{}", ours.out, theirs.out);
    }
    // The same verdicts once more change nothing.
    let again = run(&mut crossmod(&["merge", files[0], files[1], files[2], &whole_file, "--format", "json"]));
    assert_eq!(verdicts(&json(&again.out)), verdicts(&whole), "{}", again.err);

    refused(&["merge", files[1], files[2]], &["shard 3 of 3 is missing"]);
    refused(&["merge", files[0]], &["shard 1, 2 of 3 is missing"]);
    let changed = |name: &str, change: &dyn Fn(&mut Value)| {
        let mut results = json(&std::fs::read_to_string(files[0]).unwrap());
        change(&mut results);
        write(directory.path(), name, results.to_string())
    };
    let with = |file: &str, message: &[&str]| refused(&["merge", files[1], files[2], file], message);
    with(&changed("v.json", &|r| r["crossmod"] = "9.9.9".into()), &["version of Crossmod", "`9.9.9`"]);
    with(&changed("i.json", &|r| r["image"] = "00".into()), &["guest image", "`00`"]);
    with(&changed("o.json", &|r| r["options"] = "--ring 3".into()), &["options", "`--ring 3`", "`none`"]);
    with(&changed("c.json", &|r| r["shard"]["count"] = 4.into()), &["shard 3 of 3 is missing"]);
    with(
        &changed("n.json", &|r| r["reports"] = Value::Array(vec![])),
        &["but no file reports it", "run that shard again"],
    );
    let disagree = changed("d.json", &|r| r["reports"][0]["status"] = "not-decided".into());
    refused(
        &["merge", files[0], files[1], files[2], &disagree],
        &["disagree about `", "not decided", "leave the failed one out"],
    );
    let cut = std::fs::read_to_string(files[0]).unwrap();
    with(
        &write(directory.path(), "cut.json", &cut[..cut.len() / 2]),
        &["cut.json", "the file is incomplete"],
    );
    with(&write(directory.path(), "empty.json", ""), &["empty.json", "run that shard again"]);
    with(
        &write(directory.path(), "other.json", "{\"a\": 1}"),
        &["other.json", "not results of this version"],
    );
    with(&directory.path().join("none.json").display().to_string(), &["none.json", "No such file"]);
    refused(&["check", "--shard", "0/4"], &["count from 1", "add 1"]);
    refused(&["check", "--shard", "5/4"], &["K from 1 to N"]);
    // More machines than cases: some have nothing to do, and that is no failure.
    let empty = run(&mut crossmod(&["check", "seed/softirq-none", "--shard", "2/2", "--format", "json"]));
    assert_eq!((empty.status, names(&json(&empty.out)).len()), (HELD, 0), "{}", empty.err);
}

#[test]
fn joined_results_end_as_the_run_would_have() {
    kvm::required();
    let directory = tempfile::tempdir().unwrap();
    write(directory.path(), "wrong.toml", BROKEN.replace("[\"unserialised\"]", "\"safe\""));
    write(directory.path(), "right.toml", BROKEN);
    let suite = directory.path().to_str().unwrap();
    let (mut files, mut statuses) = (Vec::new(), Vec::new());
    for shard in ["1/2", "2/2"] {
        let part = run(&mut crossmod(&["check", suite, "--shard", shard, "--format", "json"]));
        statuses.push(part.status);
        files.push(write(directory.path(), &format!("{}.json", &shard[..1]), part.out));
    }
    statuses.sort_unstable();
    assert_eq!(statuses, [HELD, NOT_HELD]);
    let joined = run(&mut crossmod(&["merge", &files[0], &files[1]]));
    assert_eq!(joined.status, NOT_HELD, "{}", joined.err);
    // The unexpected is told with its schedule, as by `check`.
    assert!(
        joined.out.contains("NOT EXPECTED") && joined.out.contains("1 as expected, 1 not"),
        "{}",
        joined.out
    );
    assert!(joined.out.contains("patcher") && joined.out.contains(" moves, "), "{}", joined.out);
}

#[test]
fn a_case_that_takes_too_long_is_not_decided_and_the_others_go_on() {
    kvm::required();
    for mode in [&[][..], &["--random", "1000000"], &["--verify"]] {
        let arguments = [&["check", "seed/hold-1", "seed/hold-2", "--case-timeout", "0"], mode].concat();
        let run = run(&mut crossmod(&arguments));
        assert_eq!(run.status, NOT_HELD, "{}{}", run.out, run.err);
        assert_eq!(run.out.matches("the time limit was reached").count(), 2, "{}", run.out);
        assert!(run.out.contains("0 as expected") || run.out.contains("0 with nothing"), "{}", run.out);
        assert!(run.out.contains(" 2 not, 0 skipped, 0 harness errors"), "{}", run.out);
    }
    let junit = run(&mut crossmod(&["check", "seed/hold-1", "--case-timeout", "0", "--format", "junit"]));
    assert!(junit.out.contains("not decided: time limit"), "{}", junit.out);
    ok(&["check", "seed/hold-1", "--case-timeout", "3600"]);
}

fn journal_lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole.lines().map(json).collect()
}

fn journalled(path: &Path) -> Vec<String> {
    let reports: Vec<Value> =
        journal_lines(path).into_iter().map(|line| line["report"].clone()).filter(Value::is_object).collect();
    names(&serde_json::json!({ "reports": reports }))
}

/// Runs until so many bytes are in a file; the system kills it in the middle of the write that goes beyond them.
fn run_until_written(arguments: &[&str], bytes: u64) -> ExitStatus {
    let limit = libc::rlimit { rlim_cur: bytes, rlim_max: bytes };
    let mut command = Process::new(env!("CARGO_BIN_EXE_crossmod"));
    command.args(arguments).stdout(Stdio::null());
    // SAFETY: between fork and exec this only makes a system call, with what the closure owns.
    unsafe {
        command.pre_exec(move || match libc::setrlimit(libc::RLIMIT_FSIZE, &raw const limit) {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        });
    }
    command.status().unwrap()
}

/// Killed again and again, each time a little further, mostly in the middle of a line.
#[test]
fn a_run_that_is_killed_at_any_moment_is_resumed_without_repeating_or_losing_a_verdict() {
    kvm::required();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("journal");
    let arguments =
        [&["check"], &SOME[..], &["--format", "json", "--resume", path.to_str().unwrap()]].concat();
    let whole = json(&check(&["--format", "json"]).out);
    let mut random = fastrand::Rng::with_seed(7);
    let (mut before, mut kills) = (Vec::<String>::new(), 0);
    loop {
        let limit = std::fs::metadata(&path).map_or(0, |meta| meta.len()) + random.u64(1..4000);
        let status = run_until_written(&arguments, limit);
        let known = journalled(&path);
        assert_eq!(known[..before.len()], before[..], "what was known stays");
        let different: BTreeSet<&String> = known.iter().collect();
        assert_eq!(different.len(), known.len(), "nothing is repeated: {known:?}");
        before = known;
        if status.signal() != Some(libc::SIGXFSZ) {
            assert_eq!(status.code(), Some(HELD));
            break;
        }
        assert_eq!(std::fs::metadata(&path).unwrap().len(), limit);
        kills += 1;
    }
    assert!(kills > 3, "the journal is too small for more than {kills} interruptions");
    let last = run(&mut crossmod(&arguments));
    assert_eq!(last.status, HELD, "{}", last.err);
    assert_eq!(verdicts(&json(&last.out)), verdicts(&whole));
    assert_eq!(journalled(&path).len(), names(&whole).len());
    // Once more: everything is known, nothing is written.
    let bytes = std::fs::read(&path).unwrap();
    assert_eq!(verdicts(&json(&run(&mut crossmod(&arguments)).out)), verdicts(&whole));
    assert_eq!(std::fs::read(&path).unwrap(), bytes);
}

/// Checks one case with a journal.
fn resume(path: &str, more: &[&str]) -> Run {
    run(&mut crossmod(&[&["check", "seed/softirq-none", "--resume", path], more].concat()))
}

#[test]
fn what_is_no_journal_is_left_as_it_is() {
    let directory = tempfile::tempdir().unwrap();
    for (name, bytes) in
        [("notes.txt", &b"my notes"[..]), ("lines.txt", b"one\ntwo\n"), ("x.json", b"{\"a\": 1}\n{")]
    {
        let path = write(directory.path(), name, bytes);
        let run = resume(&path, &[]);
        assert_eq!(run.status, UNUSABLE, "{}{}", run.out, run.err);
        assert!(run.err.contains("is not a journal and was not changed"), "{}", run.err);
        assert_eq!(std::fs::read(&path).unwrap(), bytes);
    }
    let run = resume(directory.path().to_str().unwrap(), &[]);
    assert!(run.status == UNUSABLE && run.err.contains("not a regular file"), "{}", run.err);
    let run = resume(directory.path().join("no/such/directory").to_str().unwrap(), &[]);
    assert!(run.status == UNUSABLE && run.err.contains("No such file"), "{}", run.err);
}

#[test]
fn a_journal_is_for_one_set_of_options_and_one_run() {
    kvm::required();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("journal").display().to_string();
    assert_eq!(resume(&path, &[]).status, HELD);
    for (more, message) in [
        (&["--ring", "3"][..], "another set of options: there it is ``, here `--ring 3`"),
        (&["--max-states", "50"], "here `--max-states 50`"),
        (&["--traces", "t"], "here `--traces t`"),
    ] {
        let run = resume(&path, more);
        assert_eq!(run.status, UNUSABLE, "{}{}", run.out, run.err);
        assert!(run.err.contains(message) && run.err.contains("start over"), "{}", run.err);
    }
    // Form and workers change no verdict, and another selection may share what is known.
    assert_eq!(resume(&path, &["seed/softirq-8", "--format", "ktap", "--workers", "1"]).status, HELD);
    assert_eq!(journalled(Path::new(&path)).len(), 2);
    let text = std::fs::read_to_string(&path).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let other = write(directory.path(), "other", text.replacen("\"crossmod\":\"", "\"crossmod\":\"9.", 1));
    assert!(resume(&other, &[]).err.contains("another version of Crossmod"));
    let damaged = [lines[0], lines[1], &lines[2][..40], lines[3], ""].join("\n");
    let damaged = write(directory.path(), "damaged", damaged);
    let run = resume(&damaged, &[]);
    assert!(run.status == UNUSABLE && run.err.contains("damaged:3:"), "{}", run.err);
    // In use: the lock is the file's, whoever holds it.
    let held = std::fs::File::open(&path).unwrap();
    held.lock().unwrap();
    let run = resume(&path, &[]);
    assert!(run.status == UNUSABLE && run.err.contains("being written by another run"), "{}", run.err);
}

#[test]
fn a_changed_scenario_is_checked_again() {
    kvm::required();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("journal");
    let check = |text: String| {
        let file = write(directory.path(), "mine.toml", text);
        run(&mut crossmod(&["check", &file, "--resume", path.to_str().unwrap()])).status
    };
    assert_eq!(check(BROKEN.into()), HELD);
    assert_eq!(check(BROKEN.replace("plain store", "simple store")), HELD);
    assert_eq!(journalled(&path).len(), 1, "a title changes no verdict");
    assert_eq!(check(BROKEN.replace("[\"unserialised\"]", "\"safe\"")), NOT_HELD);
    assert_eq!(check(BROKEN.replace("0x100", "0x13e")), NOT_HELD);
    assert_eq!(journalled(&path).len(), 3);
    assert_eq!(check(BROKEN.into()), HELD);
    assert_eq!(journalled(&path).len(), 3);
}

/// A text without its line breaks.
fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn keys_steps_instructions_and_words_are_explained() {
    for (name, heads) in [
        ("site.offset", &["site.offset: a key", "0 to 4095", "offset = 0x7e"][..]),
        ("events.nmi", &["events.nmi: a key", "nmi = 2"]),
        ("executors.passes", &["executors.passes: a key", "default         2"]),
        ("store", &["step.store: a step", "the patcher, programs"]),
        ("sync", &["step.sync: a step", "table with ack, to"]),
        ("hold", &["step.broadcast.run: a key", "\"hold\": Serialises, arrives"]),
        ("step.wait", &["step.wait: a step"]),
        ("what", &["step.store.what: a key", "step.free.what: a key"]),
        ("nop5", &["nop5: an instruction", "0f 1f 44 00 00"]),
        ("jmp32", &["jmp32: an instruction", "5 bytes"]),
        ("traced", &["handler.variant: a key", "\"traced\": Runs the site itself"]),
        ("safe", &["safe: a word of reports", "within the bounds"]),
        ("race", &["race: a word of reports", "unserialised"]),
        ("not decided", &["not decided: a word of reports"]),
        ("bounds", &["bounds: a word of reports"]),
    ] {
        let text = ok(&["explain", name]).out;
        assert!(heads.iter().all(|head| text.contains(head)), "{name}: {text}");
    }
    assert_eq!(ok(&["explain", "language"]).out, ok(&["show", "reference"]).out);
    let schema: serde_json::Value = serde_json::from_str(&ok(&["show", "schema"]).out).unwrap();
    assert_eq!(schema["title"], "Crossmod scenario");
}

#[test(long)]
fn whatever_a_file_or_report_names_is_explained() {
    let overview = ok(&["explain"]).out;
    for property in crossmod::property::Property::ALL {
        let text = ok(&["explain", property.name()]).out;
        assert!(words(&text).contains(&words(property.describe())), "{text}");
        assert!(overview.contains(property.describe()), "{overview}");
    }
    for model in crossmod::fetch::FetchModel::presets() {
        let text = ok(&["explain", &model.to_string()]).out;
        let promise = model.promise().unwrap().replace('`', "");
        assert!(words(&text).contains(&words(&promise)) && words(&text).contains(model.misses()), "{text}");
    }
    for (name, text) in crossmod::scenario::protocols() {
        let explained = ok(&["explain", &name]).out;
        let first = crossmod::scenario::comment(text).lines().next().unwrap().to_owned();
        assert!(!first.is_empty() && explained.contains(&first), "{explained}");
        assert!(overview.contains(&name));
    }
    let fixup = ok(&["explain", "protocols/text_poke_fixup"]).out;
    assert!(
        fixup.contains("sync-int3     sync = {}") && fixup.contains("store = { what = \"new-tail\" }"),
        "{fixup}"
    );
    assert!(fixup.contains("handler         resume = \"new\""), "{fixup}");
    let scenario = ok(&["explain", "matrix/int3"]).out;
    assert!(
        scenario.contains("safe (fetch model intel)") && scenario.contains("matrix, fixup"),
        "{scenario}"
    );
    for (model, whose) in [("amd-block", "AMD's"), ("intel", "Intel's"), ("line", "the scenario's")] {
        let text = ok(&["explain", model]).out;
        assert!(text.contains(&format!("  rule            {whose}\n")), "{text}");
    }
    assert!(ok(&["explain", "nmi"]).out.contains("nmi: a tag"));
    assert!(ok(&["explain", "atom=16,stale,block"]).out.contains("16 bytes"));
    let both = ok(&["explain", "interior"]).out;
    assert!(both.contains("interior: a property") && both.contains("interior: a tag"), "{both}");
    refused(&["explain", "unserialized"], &["`unserialized` is unknown", "did you mean `unserialised`"]);
    refused(&["explain", "site.ofset"], &["did you mean `site.offset`"]);
    refused(&["explain", "jmp33"], &["did you mean `jmp32`"]);
    refused(&["explain", "seed/fixpu"], &["did you mean `seed/fixup`"]);
    refused(&["explain", "elephant"], &["`crossmod explain` lists"]);
}

/// Only who runs `old` finds out: whether a branch is taken depends on flags.
#[test]
fn nobody_begins_where_old_does_not_lead() {
    kvm::required();
    let directory = tempfile::tempdir().unwrap();
    for (old, comes) in [("eb 02", false), ("74 02", false), ("75 02", true)] {
        let text = format!(
            "title = \"t\"\nexpect = \"safe\"\nprotocol = \"plain_store\"\n[site]\nold = [\"{old}\", \"nop2\", \"nop7\"]\n\
             new = [\"jmp32\", \"nop6\"]\noffset = 0x100\n[executors]\nstart = {{ interior = 2 }}\n"
        );
        let path = write(directory.path(), "begin.toml", &text);
        let run = run(&mut crossmod(&["check", &path]));
        let told = "executor 0 begins at byte 2 of the site, and whoever runs `old` does not come there";
        assert_eq!((run.status == UNUSABLE, run.err.contains(told)), (!comes, !comes), "{old}: {}", run.err);
    }
}
