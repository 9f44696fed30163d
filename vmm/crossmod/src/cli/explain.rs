//! `crossmod explain`: what a name in a file or a report means, from the same sources as the reference.

use std::collections::BTreeMap;
use std::fmt::Write;

use clap::Args;
use crossmod::fetch::FetchModel;
use crossmod::property::{Property, expectation};
use crossmod::reference;
use crossmod::scenario::{self, Entry, Scenario, nearest};
use crossmod::suite::{self, Case};

use super::{Exit, Failure, answer};

#[derive(Args)]
pub struct Arguments {
    /// A key of scenario files (`site.offset`), a step (`sync`), an instruction (`nop5`), a property, a fetch model (a
    /// preset, or parameters such as `atom=16,stale,block`), a word of reports (`bounds`), a protocol, a shipped scenario
    /// or a tag; `language` for the whole reference; without a name, what there is of each.
    name: Option<String>,
}

/// Names shown of a list of cases.
const SHOWN: usize = 8;

pub fn run(arguments: &Arguments) -> Result<Exit, Failure> {
    let library = scenario::library();
    let cases = suite::cases(&library, &[])?;
    let Some(name) = &arguments.name else {
        return answer(&overview(&library, &cases));
    };
    if name == "language" {
        return answer(&reference::markdown());
    }
    // A name may be one of several kinds: `interior` is a property and a tag.
    let plain = name.trim_start_matches("protocols/").trim_end_matches(".toml");
    let mut found: Vec<String> = reference::find(name).iter().map(|entry| described(entry, &cases)).collect();
    if found.is_empty() {
        // Parameters of a fetch model, which are no name of the reference.
        found.extend(name.parse().ok().map(|model| described(&reference::model(model), &cases)));
    }
    let protocols = scenario::protocols();
    let known = protocols.iter().find(|(known, _)| known == plain);
    found.extend(known.map(|(known, text)| protocol(known, text, &library)));
    let known = library.iter().find(|scenario| scenario.name == plain);
    found.extend(known.map(|known| self::scenario(known, &cases)));
    found.extend(tag(name, &cases));
    if found.is_empty() {
        return Err(unknown(name, &library, &cases));
    }
    answer(&found.join("\n"))
}

fn overview(library: &[Scenario], cases: &[Case]) -> String {
    let mut out = String::from("properties\n");
    for property in Property::ALL {
        let _ = writeln!(out, "  {:16}{}", property.name(), property.describe());
    }
    out.push_str("\nfetch models\n");
    for model in FetchModel::presets() {
        let (name, reads, misses) = (model.to_string(), model.reads(), model.misses());
        let _ = writeln!(out, "  {name:16}reads {reads} at once, may miss {misses}");
    }
    out.push_str("\nprotocols\n");
    for (name, text) in scenario::protocols() {
        let summary = table(text).get("summary").and_then(|value| value.as_str().map(str::to_owned));
        let _ = writeln!(out, "  {name:23} {}", summary.unwrap_or_default());
    }
    let _ = writeln!(out, "\ntags, with the number of scenarios\n  {}", counted(&tags(cases)));
    let _ = write!(
        out,
        "\n{} scenarios: `crossmod list`. `crossmod explain NAME` says more about each of these, about a scenario, and about \
         the keys, steps and instructions of scenario files and the words of reports: `crossmod explain site.offset`. \
         `crossmod show reference` prints all of that",
        library.len()
    );
    out
}

/// An entry of the reference; of a property or fetch model also which cases are about it.
fn described(entry: &Entry, cases: &[Case]) -> String {
    let mut out = reference::plain(entry);
    let of_kind = |kind| entry.kind == kind;
    let property: Option<Property> = entry.name.parse().ok().filter(|_| of_kind("a property"));
    let model: Option<FetchModel> = entry.name.parse().ok().filter(|_| of_kind("a fetch model"));
    let mut select = |how: &str, option: &str, about: &dyn Fn(&Case) -> bool| {
        let names = some(cases.iter().filter(|case| about(case)).map(|case| case.scenario.name.as_str()));
        let _ = write!(out, "\n  {how:16}{names}\n  select          crossmod check --{option}\n");
    };
    if let Some(property) = property {
        let expects = |case: &Case| case.plan.expect.contains(&property);
        select("expected by", &format!("property {property}"), &expects);
    }
    if let Some(model) = model {
        select("asked for by", &format!("fetch {model}"), &|case| case.model == model);
    }
    out
}

fn protocol(name: &str, text: &str, library: &[Scenario]) -> String {
    let table = table(text);
    let mut out = format!("{name}: a protocol\n");
    for line in scenario::comment(text).lines() {
        let _ = writeln!(out, "  {line}");
    }
    out.push_str("\n  steps\n");
    for step in table.get("step").and_then(|steps| steps.as_array()).into_iter().flatten() {
        let label = step.get("label").and_then(|label| label.as_str()).unwrap_or("-");
        let what = step.as_table().into_iter().flatten().filter(|(key, _)| *key != "label");
        let what: Vec<String> = what.map(|(key, value)| format!("{key} = {value}")).collect();
        let _ = writeln!(out, "    {label:14}{}", what.join(", "));
    }
    if let Some(handler) = table.get("handler").and_then(|handler| handler.as_table()) {
        let keys: Vec<String> = handler.iter().map(|(key, value)| format!("{key} = {value}")).collect();
        let _ = writeln!(out, "  handler         {}", keys.join(", "));
    }
    let named = |scenario: &&Scenario| {
        self::table(&scenario.text).get("protocol").and_then(|value| value.as_str()) == Some(name)
    };
    let users = library.iter().filter(named);
    let _ = writeln!(out, "  used by         {}", some(users.map(|scenario| scenario.name.as_str())));
    let _ = writeln!(out, "  as a file       crossmod show protocols/{name}");
    out
}

fn scenario(scenario: &Scenario, cases: &[Case]) -> String {
    let own: Vec<&Case> = cases.iter().filter(|case| case.scenario.name == scenario.name).collect();
    let title = own.first().map_or("", |case| case.plan.title.as_str());
    let mut out = format!("{}: {title}\n", scenario.name);
    for line in scenario.comment().lines() {
        let _ = writeln!(out, "  {line}");
    }
    out.push('\n');
    for case in &own {
        let expect = expectation(&case.plan.expect);
        let _ = writeln!(out, "  expects         {expect} (fetch model {})", case.model);
    }
    if let Some(case) = own.first() {
        let _ = writeln!(out, "  tags            {}", case.tags.join(", "));
    }
    let _ = writeln!(out, "  as a file       crossmod show {}", scenario.name);
    out
}

fn tag(name: &str, cases: &[Case]) -> Option<String> {
    let tagged: Vec<&Case> = cases.iter().filter(|case| case.tags.iter().any(|tag| tag == name)).collect();
    if tagged.is_empty() {
        return None;
    }
    let names = some(tagged.iter().map(|case| case.scenario.name.as_str()));
    Some(format!("{name}: a tag\n  on              {names}\n  select          crossmod check --tag {name}\n"))
}

fn unknown(name: &str, library: &[Scenario], cases: &[Case]) -> Failure {
    let (tags, protocols, names) = (tags(cases), scenario::protocols(), reference::names());
    let mut known: Vec<&str> = names.iter().map(String::as_str).collect();
    known.extend(protocols.iter().map(|(name, _)| name.as_str()));
    known.extend(library.iter().map(|scenario| scenario.name.as_str()));
    known.extend(tags.keys().copied());
    let nearest = nearest(name, known.iter().copied());
    let inside = known.into_iter().filter(|known| name.len() >= 3 && known.contains(name));
    let inside = inside.filter(|known| Some(*known) != nearest).take(SHOWN);
    let near: Vec<&str> = nearest.into_iter().chain(inside).collect();
    let help = match near[..] {
        [] => "`crossmod explain` lists what there is".to_owned(),
        _ => format!("did you mean `{}`?", near.join("`, `")),
    };
    Failure::unusable(format_args!(
        "`{name}` is unknown: it is neither in the reference nor the name of a protocol, tag or shipped \
         scenario\n{help}"
    ))
}

/// Tags, each with the number of scenarios that have it.
pub fn tags(cases: &[Case]) -> BTreeMap<&str, usize> {
    let scenarios: BTreeMap<&str, &Case> =
        cases.iter().map(|case| (case.scenario.name.as_str(), case)).collect();
    let mut tags = BTreeMap::new();
    for tag in scenarios.values().flat_map(|case| &case.tags) {
        *tags.entry(tag.as_str()).or_default() += 1;
    }
    tags
}

/// `abort 2, call 3`.
pub fn counted(tags: &BTreeMap<&str, usize>) -> String {
    tags.iter().map(|(tag, count)| format!("{tag} {count}")).collect::<Vec<_>>().join(", ")
}

/// The first of many names, and how many there are.
fn some<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let mut names: Vec<&str> = names.collect();
    names.dedup();
    match names.len() {
        0 => "nothing that is shipped".into(),
        count if count <= SHOWN => names.join(", "),
        count => format!("{}, and {} more", names[..SHOWN].join(", "), count - SHOWN),
    }
}

/// The shipped protocols are part of the program and of its tests: they are TOML.
fn table(text: &str) -> toml::Table {
    text.parse().unwrap_or_default()
}
