//! `crossmod matrix`, and the options of `check` that say how to search.

use super::{BROKEN, crossmod, ok, refused, run, write};
use crate::kvm;

#[test]
fn the_same_table_as_text_json_and_html_and_its_traces_replay() {
    kvm::required();
    let directory = tempfile::tempdir().unwrap();
    let file = write(directory.path(), "mine.toml", BROKEN);
    let traces = directory.path().join("traces");
    let text = ok(&["matrix", &file, "--traces", traces.to_str().unwrap()]).out;
    let header = text.lines().nth(1).unwrap().split_whitespace().collect::<Vec<_>>();
    assert_eq!(
        header,
        ["coherent", "amd", "amd-block", "half-line", "half-line-block", "line", "line-block", "intel"],
        "{text}"
    );
    let original = text.lines().find(|line| line.contains("(as it is)")).unwrap();
    let cells: Vec<&str> = original.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect();
    let race = [
        "race",
        "stale",
        "stale",
        "stale race",
        "stale race",
        "stale race",
        "stale race",
        "torn order stale race",
    ];
    assert_eq!(cells[1..], race, "{text}");
    assert!(text.contains("byte by byte") && text.contains("race = unserialised"), "{text}");

    let json = ok(&["matrix", &file, "--format", "json", "--fetch", "line", "--fetch", "coherent"]).out;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["models"], serde_json::json!(["line", "coherent"]));
    let row = &json["rows"][0];
    assert_eq!(row["change"], "");
    assert_eq!(row["cells"][0]["findings"][0]["violation"]["property"], "stale");
    assert_eq!(row["cells"][1]["findings"][0]["violation"]["property"], "unserialised");

    // A page that needs nothing else, with every schedule and a plot of all searches.
    let costs = ok(&["check", "seed/fixup", "seed/stop-machine", "--format", "json"]).out;
    let costs = write(directory.path(), "costs.json", costs);
    let html = ok(&["matrix", &file, "--no-mutants", "--format", "html", "--costs", &costs]).out;
    assert!(html.starts_with("<!DOCTYPE html>"), "{}", &html[..80]);
    for outside in ["http:", "https:", "src=", "<script", "@import", "url("] {
        assert!(!html.contains(outside), "{outside}");
    }
    assert_eq!(html.matches("<circle").count(), 8 + 2, "a point for each search");
    for (anchor, _) in html.match_indices("href=\"#") {
        let name = html[anchor + 7..].split('"').next().unwrap();
        assert!(html.contains(&format!("id=\"{name}\"")), "{name} leads nowhere");
    }
    assert!(html.contains("site+0: 0f 1f 44 00 00") && html.contains("[stale]"));

    let (mut replayed, mut byte_by_byte) = (0, false);
    for entry in std::fs::read_dir(&traces).unwrap() {
        let path = entry.unwrap().path();
        let run = ok(&["replay", "--quiet", path.to_str().unwrap()]);
        assert!(run.out.contains("1 of 1") && run.out.contains("every state equal"), "{}", run.out);
        replayed += 1;
        byte_by_byte |= path.to_str().unwrap().ends_with("mine#store-byte-by-byte@intel.torn.trace.json");
    }
    assert!(replayed > 10 && byte_by_byte, "{replayed}");
}

#[test]
fn a_mutant_that_is_no_scenario_says_why() {
    kvm::required();
    let text = ok(&["matrix", "matrix/stop-machine", "--fetch", "coherent"]).out;
    let line = text.lines().find(|line| line.contains("without stop ")).unwrap();
    assert!(line.contains("not a scenario: no broadcast before this wait counts arrivals"), "{text}");
}

#[test]
fn how_to_search_is_refused_where_it_makes_no_sense() {
    refused(&["check", "seed/fixup", "--fetch", "itanium"], &["unknown fetch model `itanium`", "amd-block"]);
    refused(&["matrix", "seed/fixup", "--fetch", "atom=3,fresh"], &["no fetch model", "atom 1, 8, 16, 32"]);
    refused(&["check", "seed/fixup", "--max-memory", "8X"], &["a number of bytes"]);
    refused(&["check", "seed/fixup", "--max-memory", "0"], &["a number of bytes"]);
    refused(&["check", "seed/fixup", "--workers", "0"], &["--workers"]);
    refused(&["matrix", "no-such"], &["neither a file nor a shipped scenario"]);
    refused(&["matrix", "seed/fixup", "--costs", "no-such.json"], &["no-such.json"]);
    let directory = tempfile::tempdir().unwrap();
    let file = write(directory.path(), "costs.json", "{}");
    refused(&["matrix", "seed/fixup", "--costs", &file], &["not a report of `crossmod check --format json`"]);
    let model = BROKEN.replace("expect", "fetch = \"line\"\nexpect");
    for (bad, message) in [
        ("fetch = \"lines\"", "did you mean `line`?"),
        ("fetch = []", "the list of fetch models is empty"),
        ("fetch = [\"amd\", \"amd\"]", "named twice"),
        ("fetch = { atom = 3, stale = false }", "3 is not a block size"),
        ("fetch = { atom = 8, stale = true }", "no order"),
        ("fetch = { atom = 8, stale = false, order = \"any\" }", "have no order"),
        ("fetch = { atom = 8, stale = true, order = \"some\" }", "unknown variant"),
        ("fetch = { atom = 8, stale = true, order = \"any\", size = 1 }", "unknown field"),
    ] {
        let file = write(directory.path(), "bad.toml", model.replace("fetch = \"line\"", bad));
        refused(&["check", &file], &["bad.toml", message]);
    }
    let table = BROKEN.replace("[\"unserialised\"]", "{ default = \"safe\", lime = [\"torn\"] }");
    let file = write(directory.path(), "bad.toml", table);
    refused(&["check", &file], &["unknown fetch model", "did you mean `line`?"]);
}

#[test]
fn each_model_is_a_case_with_an_expectation_of_its_own() {
    kvm::required();
    let directory = tempfile::tempdir().unwrap();
    let text = BROKEN.replace(
        "expect = [\"unserialised\"]",
        "fetch = [\"coherent\", \"line\", \"intel\"]\n\
         expect = { coherent = [\"unserialised\"], line = [\"stale\", \"unserialised\"] }",
    );
    let file = write(directory.path(), "mine.toml", text);
    let run = run(&mut crossmod(&["check", &file, "--format", "ktap"]));
    assert_eq!(run.status, 1, "intel is expected to be safe, and is not");
    let results: Vec<&str> =
        run.out.lines().filter(|line| line.starts_with("ok ") || line.starts_with("not ok")).collect();
    assert_eq!(results.len(), 3, "{}", run.out);
    assert!(results[0].starts_with("ok 1 ") && results[0].ends_with("/mine"), "{}", run.out);
    assert!(results[1].starts_with("ok 2 ") && results[1].ends_with("/mine@line"), "{}", run.out);
    assert!(results[2].starts_with("not ok 3 ") && results[2].ends_with("/mine@intel"), "{}", run.out);
    ok(&["check", &file, "--fetch", "line", "--workers", "2"]);
}
