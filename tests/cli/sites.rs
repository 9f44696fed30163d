//! `crossmod sites` as a user meets it, on images that are made up. Only judging needs KVM.

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use super::{HELD, NOT_HELD, SKIPPED, UNUSABLE, crossmod, ok, refused, run, write};
use crate::kvm;
use crate::linux::synth::{self, Kernel, Packing, TEXT};

/// A kernel as it lies in /boot.
fn kernel(directory: &Path, name: &str, change: impl FnOnce(&mut Kernel)) -> String {
    let mut kernel = synth::sample(true);
    change(&mut kernel);
    write(directory, name, synth::bzimage(&kernel.elf(), Packing::Zstd))
}

fn json(arguments: &[&str]) -> Value {
    serde_json::from_str(&ok(&[arguments, &["--format", "json"]].concat()).out).unwrap()
}

/// Runs the examples in the help, those that execute code or the others, in a directory where its names are true.
fn run_examples(executing: bool) -> (usize, tempfile::TempDir) {
    let help = ok(&["sites", "--help"]).out;
    let directory = tempfile::tempdir().unwrap();
    for name in ["vmlinuz", "vmlinuz-old", "vmlinuz-new"] {
        kernel(directory.path(), name, |kernel| {
            let at = TEXT + 0x400;
            kernel.symbol(at, 'T', "kfree");
            kernel.code(at + 0xe, &[0x0f, 0x1f, 0x44, 0x00, 0x00]);
            kernel.code(at + 0x90, &[0xc3]);
            let key = kernel.labels[0].2;
            kernel.labels.push((at + 0xe, at + 0x90, key));
        });
    }
    std::fs::create_dir_all(directory.path().join("lib/modules")).unwrap();
    write(&directory.path().join("lib/modules"), "some.ko.xz", Packing::Xz.pack(&synth::module()));
    let executes = |command: &&str| command.contains("--judge") || command.contains("--explore");
    let commands: Vec<&str> = help
        .lines()
        .filter_map(|line| line.strip_prefix("  crossmod sites "))
        .map(|line| line.split("  ").next().unwrap().split(" > ").next().unwrap())
        .filter(|command| executes(command) == executing)
        .collect();
    for command in &commands {
        let arguments: Vec<&str> = ["sites"].into_iter().chain(command.split_whitespace()).collect();
        let run = run(crossmod(&arguments).current_dir(directory.path()));
        let expected = if command.contains("plain_store") { NOT_HELD } else { HELD };
        assert_eq!(run.status, expected, "{command}: {}{}", run.out, run.err);
        assert!(!run.out.is_empty(), "{command}");
    }
    (commands.len(), directory)
}

#[test]
fn the_examples_in_the_help_run() {
    let (examples, directory) = run_examples(false);
    assert_eq!(examples, 8);
    for name in ["kfree+0xe.toml", "kfree+0xe-back.toml"] {
        assert!(directory.path().join("out").join(name).exists(), "{name}");
    }
}

#[test]
fn the_examples_in_the_help_that_execute_code_run() {
    kvm::required();
    let (examples, _) = run_examples(true);
    assert_eq!(examples, 3);
}

#[test]
fn numbers_come_in_every_form() {
    let directory = tempfile::tempdir().unwrap();
    let image = kernel(directory.path(), "vmlinuz", |_| ());
    let text = ok(&["sites", &image]).out;
    assert!(text.starts_with("Linux 6.0.0-synthetic"), "{text}");
    for part in [
        "packed with zstd",
        "jump-label",
        "static-call",
        ".altinstructions",
        "14 bytes, with flags",
        "1 in tail position",
    ] {
        assert!(text.contains(part), "`{part}` is not in\n{text}");
    }
    let value = json(&["sites", &image]);
    assert_eq!(value["inventory"]["kinds"][0]["sites"], 2);
    assert_eq!(value["inventory"]["boundaries"][4], 4096);
    let csv = ok(&["sites", &image, "--format", "csv"]).out;
    assert!(
        csv.starts_with("kind,bytes,sites,8,16,32,64,4096,on disk\r\njump-label,all,2,1,1,1,1,0,"),
        "{csv}"
    );
    assert!(ok(&["sites", &image, "--format", "html"]).out.starts_with("<!DOCTYPE html>"));
    let list = json(&["sites", &image, "--list", "--kind", "static-call", "--state", "jmp"]);
    let [site] = &list["sites"].as_array().unwrap()[..] else { panic!("{list}") };
    assert_eq!((&site["site"], &site["tail"]), (&"second_function+0x10".into(), &true.into()));
    let windows = json(&["sites", &image, "--windows", "third_function"]);
    assert_eq!(windows["windows"][0]["hazards"][0]["entered"]["byte"], 3);
    assert_eq!(windows["explored"], serde_json::json!([]), "only where it is asked for");
}

#[test]
fn a_difference_is_told_by_the_status() {
    let directory = tempfile::tempdir().unwrap();
    let a = kernel(directory.path(), "a", |_| ());
    let b = kernel(directory.path(), "b", |kernel| {
        kernel.labels.pop();
    });
    assert!(ok(&["sites", "--diff", &a, &a]).out.contains("no site differs"));
    let run = run(&mut crossmod(&["sites", "--diff", &a, &b]));
    assert_eq!(run.status, NOT_HELD);
    assert!(run.out.contains("first_function+0x50") && run.out.contains("2 bytes, jmp"), "{}", run.out);
    assert!(ok(&["sites", "--diff", &a, &b, "--kind", "mcount"]).out.contains("no site differs"));
}

#[test]
fn what_cannot_be_used_is_told_with_place_reason_and_remedy() {
    let directory = tempfile::tempdir().unwrap();
    let image = kernel(directory.path(), "vmlinuz", |_| ());
    let short = write(directory.path(), "short", &std::fs::read(&image).unwrap()[..1500]);
    refused(&["sites", &short], &["short: boot header: the payload is bytes", "help: "]);
    refused(&["sites", "nowhere"], &["nowhere: file: No such file", "help: pass the path"]);
    refused(&["sites", directory.path().to_str().unwrap()], &["it contains no .ko", "help: "]);
    refused(&["sites", "/dev/zero"], &["not a regular file"]);
    let text = write(directory.path(), "text", "hello");
    refused(&["sites", &text], &["text: ELF header: it is not an ELF file"]);
    let bad = write(directory.path(), "bad.ko", &synth::module()[..700]);
    refused(&["sites", &image, &bad], &["bad.ko: ", "truncated or corrupted"]);
    refused(&["sites"], &["required"]);
    refused(&["sites", &image, "--kind", "jumplabel"], &["kinds are jump-label, static-call"]);
    refused(&["sites", &image, "--state", "nopl"], &["states are nop, jmp"]);
    refused(&["sites", &image, "--crossing", "12"], &["boundaries are 8, 16, 32, 64, 4096"]);
    refused(&["sites", &image, "--length", "5"], &["--list"]);
    refused(&["sites", "--diff", &image], &["give two"]);
    for format in ["csv", "html"] {
        let explore = ["sites", "nowhere", "--windows", "kfree", "--explore", "--format", format];
        refused(&explore, &["no form in CSV or HTML", "help: add --format json"]);
    }
    refused(&["sites", &image, "--rule", "via"], &["possible values: intel, amd"]);
    let judge = ["sites", &image, "--judge", "plain_store"];
    refused(
        &[&judge[..], &["--function", "nosuch"]].concat(),
        &["no jump-label or static-call site that can be judged", "help: `--list`"],
    );
    refused(
        &[&judge[..], &["--function", "third_function"]].concat(),
        &["help: the filters leave", "1 endbr", "of other kinds", "`--kind`"],
    );
    refused(&["sites", &image, "--judge", "nonsense"], &["no shipped protocol", "text_poke_fixup"]);
    refused(&["sites", &image, "--windows", "nonsense"], &["no function is called `nonsense`"]);
    let out = directory.path().join("out");
    let out = out.to_str().unwrap();
    refused(
        &["sites", &image, "--export", "first_function+0x1", out],
        &["there is no site", "first_function+0x3e"],
    );
    let unknown = kernel(directory.path(), "unknown", |kernel| {
        kernel.symbols.retain(|symbol| !symbol.2.starts_with("skl_"));
    });
    let counted = ["sites", &unknown, "--kind", "call-thunk", "--export", "third_function+0x50", out];
    refused(&counted, &["does not say what", "call-thunk", "help: give the new version with `--new`"]);
    refused(
        &["sites", &unknown, "--judge", "plain_store", "--kind", "call-thunk"],
        &["no call-thunk site", "call-thunk sites have one version only", "help: "],
    );
    refused(
        &[&counted[..], &["--new", "nop9"]].concat(),
        &["the site has 5 bytes, the new version 9", "help: "],
    );
    refused(
        &[&counted[..], &["--new", "jmp32"]].concat(),
        &["--new: this is neither bytes nor instructions", "help: give bytes in hex"],
    );
    refused(&["sites", &image, "--new", "nop5"], &["--export"]);
    refused(&["sites", &image, "--list", "--traces", out], &["--traces needs findings", "--explore"]);
    assert!(!Path::new(out).exists());
    ok(&[&counted[..], &["--new", "nop5"]].concat());
    assert!(Path::new(out).join("third_function+0x50.toml").exists());
}

#[test]
fn an_exported_site_runs_by_itself() {
    kvm::required();
    let directory = tempfile::tempdir().unwrap();
    let image = kernel(directory.path(), "vmlinuz", |_| ());
    let out = directory.path().join("out");
    let out = out.to_str().unwrap();
    for site in [
        "first_function+0x3e",
        "0xffffffff81000050",
        "second_function+0x6",
        "second_function+0x10",
        "second_function+0x1b",
    ] {
        ok(&["sites", &image, "--export", site, out, "--passes", "1"]);
    }
    let checked = ok(&["check", out]).out;
    assert!(checked.contains("10 as expected, 0 not, 0 skipped, 0 harness errors"), "{checked}");
}

#[test]
fn every_kind_becomes_scenarios_that_run() {
    kvm::required();
    let directory = tempfile::tempdir().unwrap();
    let newer = kernel(directory.path(), "newer", |_| ());
    let older = write(directory.path(), "older", synth::sample(false).elf());
    // Where a version is several instructions, a CPU may stand between them while they are exchanged.
    let kinds = [
        (&newer, "jump-label", "first_function+0x3e", HELD),
        (&newer, "static-call", "second_function+0x6", HELD),
        (&newer, "mcount", "first_function+0x0", HELD),
        (&newer, "alternative", "third_function+0x0", NOT_HELD),
        (&older, "paravirt", "third_function+0x40", NOT_HELD),
        (&newer, "retpoline", "third_function+0x50", NOT_HELD),
        (&newer, "return", "third_function+0x5d", HELD),
        (&newer, "call-thunk", "third_function+0x50", HELD),
        (&newer, "endbr", "third_function+0x80", HELD),
        (&newer, "lock", "third_function+0x70", HELD),
    ];
    let all: Vec<&str> = crossmod::linux::Kind::ALL.iter().map(|kind| kind.name()).collect();
    assert_eq!(all, kinds.map(|(_, kind, ..)| kind));
    for (image, kind, site, expected) in kinds {
        let out = directory.path().join(kind);
        let out = out.to_str().unwrap();
        ok(&["sites", image, "--export", site, out, "--kind", kind, "--passes", "1"]);
        let checked = run(&mut crossmod(&["check", out, "--fetch", "coherent", "--fetch", "intel"]));
        assert_eq!(checked.status, expected, "{kind}: {}{}", checked.out, checked.err);
        assert!(checked.out.contains("0 skipped, 0 harness errors"), "{kind}: {}", checked.out);
        assert_eq!(checked.out.contains("interior"), expected == NOT_HELD, "{kind}: {}", checked.out);
    }
}

#[test]
fn a_page_has_the_judgement_the_inventory_and_schedules() {
    kvm::required();
    let directory = tempfile::tempdir().unwrap();
    let image = kernel(directory.path(), "vmlinuz", |_| ());
    let traces = directory.path().join("traces");
    let judge = ["sites", &image, "--judge", "plain_store", "--rule", "amd", "--kind", "jump-label"];
    let more = ["--format", "html", "--traces", traces.to_str().unwrap()];
    let page = run(&mut crossmod(&[&judge[..], &more].concat()));
    assert_eq!(page.status, NOT_HELD, "{}", page.err);
    for part in ["1 of 2 sites are safe", "Patch sites, and how many cross", "torn: site+0 reads", "<details"]
    {
        assert!(page.out.contains(part), "`{part}` is not in\n{}", page.out);
    }
    let mut written = 0;
    for file in std::fs::read_dir(&traces).unwrap() {
        let path = file.unwrap().path();
        let replayed = ok(&["replay", path.to_str().unwrap(), "--quiet"]).out;
        assert!(replayed.contains("every state equal"), "{replayed}");
        written += 1;
    }
    assert!(written >= 2, "{written} traces");
}

#[test]
fn a_judgement_says_how_many_are_safe_and_which_are_not() {
    kvm::required();
    let directory = tempfile::tempdir().unwrap();
    let image = kernel(directory.path(), "vmlinuz", |_| ());
    let naive = ["sites", &image, "--judge", "plain_store", "--rule", "amd", "--kind", "jump-label"];
    let bad = run(&mut crossmod(&naive));
    assert_eq!(bad.status, NOT_HELD, "{}", bad.err);
    assert!(bad.out.contains("1 of 2 sites are safe with plain_store under the amd rule"), "{}", bad.out);
    assert!(bad.out.contains("first_function+0x3e") && bad.out.contains("torn"), "{}", bad.out);
    let good = ok(&["sites", &image, "--judge", "text_poke_fixup", "--passes", "1", "--kind", "jump-label"]);
    assert!(good.out.contains("2 of 2 sites are safe with text_poke_fixup"), "{}", good.out);
    let run = run(&mut crossmod(&[&naive[..], &["--format", "json"]].concat()));
    let value: Value = serde_json::from_str(&run.out).unwrap();
    assert_eq!(value["judgements"][0]["classes"].as_array().unwrap().len(), 2);
    assert_eq!(
        value["judgements"][0]["classes"][1]["verdict"],
        serde_json::json!({ "hazard": ["torn", "unserialised"] })
    );
    assert_eq!(UNUSABLE, 2);
}

/// SHA-256 of a file.
fn digest(path: &str) -> String {
    let digest = <sha2::Sha256 as sha2::Digest>::digest(std::fs::read(path).unwrap());
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn windows_are_explored_and_the_rules_are_right() {
    kvm::required();
    let directory = tempfile::tempdir().unwrap();
    let image = kernel(directory.path(), "image", |_| ());
    let explored = json(&["sites", &image, "--windows", "third_function", "--explore"]);
    assert_eq!((&explored["tier"], &explored["images"][0]["name"]), (&"explore".into(), &"image".into()));
    let explored = explored["explored"].as_array().unwrap();
    assert!(!explored.is_empty());
    let mut inside = 0;
    for one in explored {
        let properties: Vec<&str> = one["report"]["findings"]
            .as_array()
            .unwrap()
            .iter()
            .map(|finding| finding["violation"]["property"].as_str().unwrap())
            .collect();
        if one["legal"] == true {
            // That nothing was found is not enough: everything was searched.
            assert_eq!(one["report"]["status"], "safe", "{one}");
            assert!(properties.is_empty(), "{one}");
        } else {
            assert_eq!(one["report"]["status"], "hazard", "{one}");
            assert!(properties.contains(&"interior"), "{one}");
            inside += 1;
        }
    }
    assert!(inside > 0, "{explored:?}");
    let traces = directory.path().join("traces");
    let traces = traces.to_str().unwrap();
    let text = ok(&["sites", &image, "--windows", "third_function", "--explore", "--traces", traces]).out;
    let interior = std::fs::read_dir(traces).unwrap().map(|file| file.unwrap().path());
    let interior: Vec<_> =
        interior.filter(|path| path.to_str().unwrap().contains(".interior.trace")).collect();
    assert!(!interior.is_empty() && text.contains("crossmod replay"), "{text}");
    for path in interior {
        let replayed = ok(&["replay", path.to_str().unwrap(), "--times", "3"]).out;
        assert!(replayed.contains("`interior` reproduced 3 of 3"), "{replayed}");
    }
    assert!(text.contains("entered inside") && text.contains("a saved RIP stands at site+"), "{text}");
    let origin = format!("image, SHA-256 {}", digest(&image));
    for once in [
        "2 executors, 1 pass each, ring 0, 0 NMIs, 0 IRQs; fetch model coherent, rule intel, memory tso",
        &origin,
        crossmod::report::TIER,
        &crossmod::host::Host::read().line(),
    ] {
        assert_eq!(text.lines().filter(|line| *line == once).count(), 1, "{once}: {text}");
    }
    assert!(text.contains("safe within these bounds"), "{text}");
    refused(&["sites", &image, "--explore"], &["--windows"]);
}

#[test]
fn where_no_window_can_be_explored_that_is_said_and_no_success() {
    let directory = tempfile::tempdir().unwrap();
    let image = kernel(directory.path(), "image", |kernel| {
        kernel.symbol(TEXT + 0x400, 'T', "short_function");
        kernel.code(TEXT + 0x400, &[0xc3]);
        kernel.symbol(TEXT + 0x410, 'T', "behind_it");
    });
    for format in ["text", "json"] {
        let explore = ["sites", &image, "--windows", "short_function", "--explore", "--format", format];
        let run = run(&mut crossmod(&explore));
        assert_eq!(run.status, SKIPPED, "{}{}", run.out, run.err);
        assert!(
            run.err.contains("none of these windows can be explored") && run.err.contains("help: "),
            "{}",
            run.err
        );
        assert!(run.out.contains("short_function+0x0"), "{}", run.out);
    }
    ok(&["sites", &image, "--windows", "short_function"]);
}

#[test]
fn a_judgement_says_where_it_was_obtained_of_what_and_what_sites_need() {
    kvm::required();
    let directory = tempfile::tempdir().unwrap();
    let image = kernel(directory.path(), "vmlinuz", |_| ());
    let digest = digest(&image);
    let host = crossmod::host::Host::read();
    let judge = ["sites", &image, "--judge", "text_poke_fixup", "--passes", "1", "--kind", "jump-label"];
    let with = |more: &[&str]| ok(&[&judge[..], more].concat()).out;
    for out in [with(&[]), with(&["--format", "html"])] {
        for part in [
            crossmod::report::TIER,
            &host.line(),
            &format!("vmlinuz, SHA-256 {digest}"),
            "of 2 sites 1 are safe with one aligned store under the AMD rule (which does not say when it is seen), 1 need \
             int3 (a handshake)",
            "1 would tear: 0 at a quadword, 1 at a line, 0 at a page",
        ] {
            assert_eq!(out.matches(part).count(), 1, "`{part}` in\n{out}");
        }
    }
    // Nor does a fetch model change that in which it may be seen late.
    let amd = with(&["--fetch", "amd"]);
    assert!(amd.contains("of 2 sites 1 are safe with one aligned store under the AMD rule"), "{amd}");
    let value: Value = serde_json::from_str(&with(&["--format", "json"])).unwrap();
    assert_eq!(value["tier"], "explore");
    assert_eq!(value["host"]["kernel"], host.kernel);
    assert_eq!(
        (&value["images"][0]["name"], &value["images"][0]["sha256"]),
        (&"vmlinuz".into(), &digest.clone().into())
    );
    let one = &value["judgements"][0];
    for (key, expected) in
        [("executors", 2), ("passes", 1), ("ring", 0), ("nmi", 0), ("sites", 2), ("safe", 2)]
    {
        assert_eq!(one[key], expected, "{key}");
    }
    assert_eq!(one["one-store"]["torn"]["line"], 1);
    assert_eq!(one["of-the-safe"], serde_json::json!({ "adapted": 0, "misses": 0, "left-out": 0 }));
    // A line for each verdict and fetch model, with what it was obtained by.
    let csv = with(&["--format", "csv", "--fetch", "coherent", "--fetch", "line"]);
    let lines: Vec<&str> = csv.lines().collect();
    assert!(
        lines[0].starts_with(
            "verdict,sites,classes,adapted,other bytes,first bytes,all sites,protocol,rule,fetch,"
        )
    );
    assert!(
        lines[1].starts_with("safe,2,2,0,0,0,2,text_poke_fixup,intel,coherent,2,1,0,0,\"tier explore: "),
        "{csv}"
    );
    assert!(lines[2].contains(",line,") && lines[2].ends_with(&format!(",vmlinuz,{digest}")), "{csv}");
    assert_eq!(lines.len(), 3, "{csv}");
}

#[test]
fn a_judgement_says_what_was_not_judged_by_its_own_bytes() {
    kvm::required();
    let directory = tempfile::tempdir().unwrap();
    let image = kernel(directory.path(), "vmlinuz", |_| ());
    let judge = ["sites", &image, "--judge", "text_poke_fixup", "--passes", "1", "--kind", "lock"];
    let text = ok(&judge).out;
    assert!(text.contains("1 of the safe sites were judged with stand-ins or moved targets"), "{text}");
    assert_eq!(json(&judge)["judgements"][0]["of-the-safe"]["adapted"], 1);
}

#[test]
fn an_interrupted_judgement_ends_as_one() {
    kvm::required();
    let directory = tempfile::tempdir().unwrap();
    let image = kernel(directory.path(), "vmlinuz", |_| ());
    // One class, searched for much longer than the test waits.
    let mut child = Command::new(env!("CARGO_BIN_EXE_crossmod"))
        .args(["sites", &image, "--judge", "text_poke_fixup", "--passes", "8", "--nmi", "4", "--length", "5"])
        .args(["--kind", "jump-label"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Signals are caught before there is a vCPU.
    let descriptors = format!("/proc/{}/fd", child.id());
    let runs = || {
        let links = std::fs::read_dir(&descriptors).into_iter().flatten().flatten();
        links
            .filter_map(|link| std::fs::read_link(link.path()).ok())
            .any(|to| to.to_string_lossy().contains("kvm-vcpu"))
    };
    while !runs() {
        assert!(child.try_wait().unwrap().is_none(), "it ended by itself");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    std::thread::sleep(std::time::Duration::from_millis(300));
    // SAFETY: the process is our child, and has not been waited for.
    unsafe { libc::kill(child.id() as i32, libc::SIGINT) };
    let output = child.wait_with_output().unwrap();
    let (out, err) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert_eq!(output.status.code(), Some(130), "{out}{err}");
    assert!(err.contains("interrupted: the output covers only what was known until then"), "{err}");
    assert!(out.contains("1 sites were not judged") && out.contains("1 are not decided"), "{out}");
}
