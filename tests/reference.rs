//! REFERENCE.md is what the program prints, and `crossmod explain` knows every name in it.

use std::collections::BTreeSet;
use std::path::Path;

use crossmod::property::Property;
use crossmod::reference::{self, find, markdown, names, plain, sections, shown_by};
use crossmod::scenario::{self, Options};

#[test]
fn the_committed_page_is_the_generated_one() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../REFERENCE.md");
    let generated = markdown();
    if std::env::var_os("UPDATE").is_some_and(|update| update == "1") {
        std::fs::write(&path, &generated).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    if let Some((number, line)) =
        (1..).zip(generated.lines()).find(|(number, line)| committed.lines().nth(number - 1) != Some(line))
    {
        panic!(
            "REFERENCE.md, line {number}, is not: {line}\nwrite it again: UPDATE=1 cargo test --release reference"
        );
    }
    assert_eq!(generated, committed);
}

#[test]
fn every_entry_says_something_and_is_found_by_its_path() {
    let mut paths = BTreeSet::new();
    for entry in sections().into_iter().flat_map(|section| section.entries) {
        assert!(entry.summary.split_whitespace().count() >= 3 && entry.summary.ends_with('.'), "{entry:?}");
        assert!(!entry.text.is_empty() || !entry.facts.is_empty(), "{entry:?}");
        assert!(paths.insert(entry.path.clone()), "{} twice", entry.path);
        assert!(find(&entry.path).contains(&entry) && find(&entry.name).contains(&entry), "{}", entry.path);
        let text = plain(&entry);
        assert!(text.lines().count() >= 3 && !text.contains("](#"), "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= 120), "{text}");
    }
    assert!(names().iter().all(|name| !find(name).is_empty()));
    assert!(find("hold").iter().any(|entry| entry.path == "step.broadcast.run"));
    assert_eq!(find("site").len(), 3, "a key of the file, one of steps, and a word of reports");
    assert_eq!(reference::model("atom=16,stale,block".parse().unwrap()).name, "atom=16,stale,block");
}

/// Links within the page lead somewhere.
#[test]
fn every_link_of_the_page_has_its_anchor() {
    let page = markdown();
    let mut anchors: BTreeSet<String> =
        page.split("<a id=\"").skip(1).map(|rest| rest.split('"').next().unwrap().to_owned()).collect();
    for heading in page.lines().filter_map(|line| line.strip_prefix("## ")) {
        let kept: String = heading.chars().filter(|c| c.is_alphanumeric() || " -".contains(*c)).collect();
        anchors.insert(kept.to_lowercase().replace(' ', "-"));
    }
    let links: Vec<&str> = page.split("](#").skip(1).map(|rest| rest.split(')').next().unwrap()).collect();
    assert!(links.len() > 150, "{}", links.len());
    for link in links {
        assert!(anchors.contains(link), "#{link} leads nowhere");
    }
}

#[test]
fn the_scenario_named_after_a_property_violates_it() {
    let library = scenario::library();
    for property in Property::ALL {
        let stem = shown_by(property);
        let named: Vec<_> =
            library.iter().filter(|scenario| scenario.name.rsplit('/').next() == Some(stem)).collect();
        assert_eq!(named.len(), 1, "{stem}");
        let plans = named[0]
            .models()
            .unwrap()
            .into_iter()
            .map(|fetch| named[0].plan(&Options { fetch: Some(fetch), ..Options::default() }).unwrap());
        assert!(plans.into_iter().any(|plan| plan.expect.contains(&property)), "{stem}: {property}");
    }
}

/// What reports print as a title of a line, or as a verdict, is explained.
#[test]
fn the_words_of_reports_are_explained() {
    for status in ["safe", "hazard", "not decided", "skipped", "harness error"] {
        assert!(find(status).iter().any(|entry| entry.kind == "a word of reports"), "{status}");
    }
    let source = include_str!("../vmm/crossmod/src/report/text.rs");
    let (_, facts) = source.split_once("fn facts").unwrap();
    let (facts, _) = facts
        .split_once(
            "
}
",
        )
        .unwrap();
    let titles: BTreeSet<&str> = facts
        .lines()
        .filter_map(|line| line.trim_start().trim_start_matches('(').strip_prefix('"')?.split_once("\","))
        .map(|(title, _)| title)
        .filter(|title| title.chars().all(char::is_lowercase))
        .collect();
    assert!(titles.len() > 8, "{titles:?}");
    for title in titles.into_iter().filter(|title| *title != "verdict") {
        assert!(!find(title).is_empty(), "{title}");
    }
}

/// The schema is one that editors can use: no null, which TOML does not have, and every key described.
#[test]
fn the_schema_describes_the_file() {
    let schema = scenario::schema();
    assert!(!schema.to_string().contains("\"null\""), "{schema:#}");
    assert_eq!(schema["additionalProperties"], false);
    let required: BTreeSet<&str> =
        schema["required"].as_array().unwrap().iter().filter_map(|key| key.as_str()).collect();
    assert_eq!(required, BTreeSet::from(["expect", "site", "title"]));
    for key in ["title", "expect", "site", "step"] {
        assert!(
            schema["properties"][key]["description"].as_str().is_some_and(|text| text.len() > 20),
            "{key}"
        );
    }
}
