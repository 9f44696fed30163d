//! Tables and examples of the pages are those of the program and of the tested files.

use crossmod::Scenario;
use crossmod::fetch::FetchModel;
use crossmod::plan::Plan;
use crossmod::scenario::{self, Options};

use super::kvm;
use super::page::{Page, crossmod, pages, root};

/// The cells of a row of a table.
fn cells(line: &str) -> Vec<&str> {
    line.trim_matches('|').split('|').map(str::trim).collect()
}

/// The rows of the table that has this header.
fn rows<'a>(page: &'a Page, header: &str) -> Vec<Vec<&'a str>> {
    let table = page.prose().skip_while(|line| !line.starts_with(header)).skip(2);
    let rows: Vec<_> = table.take_while(|line| line.starts_with('|')).map(cells).collect();
    assert!(!rows.is_empty(), "{}: no table `{header}`", page.name);
    rows
}

fn shipped<'a>(library: &'a [Scenario], name: &str) -> &'a Scenario {
    let name = name.trim_matches('`');
    library.iter().find(|scenario| scenario.name == name).unwrap_or_else(|| panic!("no scenario {name}"))
}

fn plan(scenario: &Scenario, fetch: &str) -> Plan {
    let fetch = Some(fetch.parse().unwrap());
    scenario.plan(&Options { fetch, ..Options::default() }).unwrap()
}

/// `2x1+1n`, as the table has it.
fn bounds(plan: &Plan) -> String {
    let nmi = match plan.events.nmi {
        0 => String::new(),
        count => format!("+{count}n"),
    };
    format!("{}x{}{nmi}", plan.executors.len(), plan.executors[0].passes)
}

const VERDICTS: &str = "| Protocol |";
/// The models that have no column, each with the column that they agree with.
const ALIKE: [(&str, &str); 4] =
    [("amd-block", "amd"), ("half-line", "line"), ("half-line-block", "line"), ("line-block", "line")];

#[test]
fn the_table_of_verdicts_says_what_the_scenarios_are() {
    let readme = Page::named("README.md");
    let library = scenario::library();
    let rows = rows(&readme, VERDICTS);
    assert!(rows.len() >= 15, "only {} rows found", rows.len());
    for row in rows {
        let plan = plan(shipped(&library, row[2]), "coherent");
        assert_eq!(row[1] == "yes", plan.events.nmi > 0, "{row:?}");
        assert_eq!(row[3].trim_matches('`'), bounds(&plan), "{row:?}");
        let expect: Vec<&str> = plan.expect.iter().map(|property| property.name()).collect();
        assert_eq!(row[4], if expect.is_empty() { "safe".to_owned() } else { expect.join(", ") }, "{row:?}");
    }
}

/// What `crossmod check` finds in these scenarios under all models: name, model, verdict as the table has it.
fn verdicts(names: &[&str]) -> Vec<(String, String, String)> {
    let arguments = [&["check"], names, &["--fetch", "all", "--format", "json"]].concat();
    let done = crossmod(&arguments, &root());
    let found: serde_json::Value = serde_json::from_slice(&done.stdout).unwrap();
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let verdict = |report: &serde_json::Value| {
        let findings = report["findings"].as_array().unwrap();
        let findings: Vec<_> =
            findings.iter().map(|finding| text(&finding["violation"]["property"])).collect();
        if findings.is_empty() { text(&report["status"]) } else { findings.join(", ") }
    };
    let reports = found["reports"].as_array().unwrap();
    reports.iter().map(|report| (text(&report["name"]), text(&report["fetch"]), verdict(report))).collect()
}

#[test]
fn the_table_of_verdicts_is_what_is_found() {
    kvm::required();
    let readme = Page::named("README.md");
    let header = readme.prose().find(|line| line.starts_with(VERDICTS)).unwrap();
    let columns: Vec<&str> = cells(header).iter().map(|cell| cell.trim_matches('`')).collect();
    let rows = rows(&readme, VERDICTS);
    let names: Vec<&str> = rows.iter().map(|row| row[2].trim_matches('`')).collect();
    let found = verdicts(&names);
    assert_eq!(found.len(), names.len() * FetchModel::presets().count());
    for (name, model, verdict) in found {
        let row = rows.iter().find(|row| row[2].trim_matches('`') == name).unwrap();
        let alike = ALIKE.iter().find(|(other, _)| *other == model);
        let column = alike.map_or(model.as_str(), |(_, column)| column);
        let at = columns.iter().position(|name| *name == column).unwrap();
        assert_eq!(row[at], verdict, "{name} under {model}");
    }
}

#[test]
fn the_map_of_names_leads_to_protocols_and_scenarios() {
    let readme = Page::named("README.md");
    let library = scenario::library();
    let protocols: Vec<String> = scenario::protocols().into_iter().map(|(name, _)| name).collect();
    let rows = rows(&readme, "| Linux |");
    assert!(rows.len() >= 10, "only {} rows found", rows.len());
    for row in rows {
        shipped(&library, row[2]);
        for name in row[1].split('`').skip(1).step_by(2) {
            let known = protocols.iter().any(|protocol| protocol == name);
            assert!(known || row[1].starts_with("step "), "{row:?}");
        }
    }
}

#[test]
fn the_table_of_fetch_models_is_that_of_the_program() {
    let guide = Page::named("GUIDE.md");
    let rows = rows(&guide, "| model |");
    let known: Vec<Vec<String>> = FetchModel::presets()
        .map(|model| vec![format!("`{model}`"), model.reads(), model.misses().to_owned()])
        .collect();
    assert_eq!(rows, known);
}

/// GUIDE.md: the model `intel` finds what another one finds.
#[test]
fn the_strictest_model_is_intel() {
    let mut compared = 0;
    for scenario in scenario::library() {
        let models = scenario.models().unwrap();
        let Some(&intel) = models.iter().find(|model| model.preset() == Some("intel")) else { continue };
        let expected =
            |fetch| scenario.plan(&Options { fetch: Some(fetch), ..Options::default() }).unwrap().expect;
        let strictest = expected(intel);
        for &model in &models {
            compared += 1;
            let all = expected(model).iter().all(|property| strictest.contains(property));
            assert!(all, "{} under {model}", scenario.name);
        }
    }
    assert!(compared >= 1000, "only {compared} cases");
}

#[test]
fn the_number_of_cases_is_that_of_the_shipped_set() {
    let cases: usize = scenario::library().iter().map(|scenario| scenario.models().unwrap().len()).sum();
    let readme = Page::named("README.md");
    assert!(readme.text.contains(&format!("\n{cases} as expected, 0 not, 0 skipped")), "README.md: {cases}");
    let measurements = Page::named("MEASUREMENTS.md");
    assert!(measurements.text.contains(&format!("searched {cases} cases")), "MEASUREMENTS.md: {cases}");
}

#[test]
fn the_numbers_of_bugs_and_protocols_are_those_of_the_shipped_set() {
    let readme = Page::named("README.md");
    let names: Vec<String> = scenario::library()
        .into_iter()
        .filter_map(|scenario| Some(scenario.name.strip_prefix("bugs/")?.to_owned()))
        .collect();
    let repairs = names.iter().filter(|name| name.ends_with("-fixed")).count();
    for quoted in [
        format!("[{} bugs that happened]", names.len() - repairs),
        format!("{repairs} with their repair"),
        format!("has {} of them", scenario::protocols().len()),
    ] {
        assert!(readme.text.contains(&quoted), "README.md: {quoted}");
    }
}

#[test]
fn the_quoted_inventory_is_that_of_the_kernel() {
    let facts: serde_json::Value =
        serde_json::from_str(include_str!("../linux/6.1.0-56-cloud.facts.json")).unwrap();
    let counts = &facts["counts"];
    let guide = Page::named("GUIDE.md");
    let quoted = |start: &str| -> Vec<u64> {
        let line =
            guide.text.lines().find(|line| line.starts_with(start)).unwrap_or_else(|| panic!("{start}"));
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
    let guide = Page::named("GUIDE.md");
    for (language, name, text) in [
        ("toml", "my-site.toml", include_str!("my-site.toml")),
        ("toml", "my-change.toml", include_str!("my-change.toml")),
        ("rust", "my_site.rs", include_str!("my_site.rs")),
    ] {
        assert!(guide.blocks(language).iter().any(|block| block == text), "GUIDE.md: {name}");
    }
}

/// A repository that depends on Crossmod has it in the directory `crossmod`.
#[test]
fn the_dependency_leads_to_the_library() {
    let here = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).strip_prefix(root()).unwrap().to_owned();
    let line = format!("crossmod = {{ path = \"crossmod/{}\" }}", here.display());
    for page in pages() {
        for quoted in page.text.lines().filter(|quoted| quoted.starts_with("crossmod = { path")) {
            assert_eq!(quoted, line, "{}", page.name);
        }
    }
}

#[test]
fn the_first_page_fits() {
    let lines = Page::named("README.md").text.lines().count();
    assert!(lines <= 200, "README.md has {lines} lines");
}
