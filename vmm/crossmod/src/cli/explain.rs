//! `crossmod explain`: what a name in a file or a report means, from the same sources as the reference.

use std::collections::BTreeMap;
use std::fmt::Write;

use clap::Args;
use crossmod::fetch::FetchModel;
use crossmod::property::{Property, expectation};
use crossmod::reference;
use crossmod::scenario::{self, Entry, Scenario, ScenarioError, nearest};
use crossmod::suite;
use itertools::Itertools;

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
    let Some(name) = &arguments.name else {
        return answer(&overview(&library)?);
    };
    if name == "language" {
        return answer(&reference::markdown());
    }
    // A name may be one of several kinds: `interior` is a property and a tag.
    let plain = name.trim_start_matches("protocols/").trim_end_matches(".toml");
    let mut entries = reference::find(name);
    if entries.is_empty() {
        // Parameters of a fetch model, which are no name of the reference.
        entries.extend(name.parse().ok().map(reference::model));
    }
    let mut found = entries.iter().map(|entry| described(entry, &library)).collect::<Result<Vec<_>, _>>()?;
    let protocols = scenario::protocols();
    let known = protocols.iter().find(|(known, _)| known == plain);
    found.extend(known.map(|(known, text)| protocol(known, text, &library)));
    let known = library.iter().find(|scenario| scenario.name == plain);
    found.extend(known.map(self::scenario).transpose()?);
    found.extend(tag(name, &library)?);
    if found.is_empty() {
        return Err(unknown(name, &library)?);
    }
    answer(&found.join("\n"))
}

fn overview(library: &[Scenario]) -> Result<String, Failure> {
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
    let _ = writeln!(out, "\ntags, with the number of scenarios\n  {}", counted(&tags(library)?));
    let _ = write!(
        out,
        "\n{} scenarios: `crossmod list`. `crossmod explain NAME` says more about each of these, about a scenario, and about \
         the keys, steps and instructions of scenario files and the words of reports: `crossmod explain site.offset`. \
         `crossmod show reference` prints all of that",
        library.len()
    );
    Ok(out)
}

/// An entry of the reference; of a property or fetch model also which scenarios are about it.
fn described(entry: &Entry, library: &[Scenario]) -> Result<String, Failure> {
    let (mut out, name) = (reference::plain(entry), &entry.name);
    let (how, option, about) = match entry.kind {
        "a property" => {
            // Only what mentions the property can expect it.
            let about = library.iter().filter(|scenario| scenario.text.contains(name)).cloned();
            let mut cases = suite::cases(&about.collect::<Vec<_>>(), &[])?;
            cases.retain(|case| case.plan.expect.iter().any(|property| property.name() == name));
            let about: Vec<String> = cases.into_iter().map(|case| case.scenario.name).collect();
            ("expected by", "property", about)
        }
        "a fetch model" => {
            let asks = |models: Vec<FetchModel>| models.iter().any(|model| model.to_string() == *name);
            ("asked for by", "fetch", which(library, |scenario| scenario.models().map(asks))?)
        }
        _ => return Ok(out),
    };
    let _ = write!(out, "\n  {how:16}{}\n  select          crossmod check --{option} {name}\n", some(about));
    Ok(out)
}

/// The names of some scenarios.
fn which(
    library: &[Scenario],
    wanted: impl Fn(&Scenario) -> Result<bool, ScenarioError>,
) -> Result<Vec<String>, ScenarioError> {
    let name = |scenario: &Scenario| Ok(wanted(scenario)?.then(|| scenario.name.clone()));
    library.iter().filter_map(|scenario| name(scenario).transpose()).collect()
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
        let what = what.map(|(key, value)| format!("{key} = {value}")).join(", ");
        let _ = writeln!(out, "    {label:14}{what}");
    }
    if let Some(handler) = table.get("handler").and_then(|handler| handler.as_table()) {
        let keys = handler.iter().map(|(key, value)| format!("{key} = {value}")).join(", ");
        let _ = writeln!(out, "  handler         {keys}");
    }
    let named = |scenario: &&Scenario| {
        self::table(&scenario.text).get("protocol").and_then(|value| value.as_str()) == Some(name)
    };
    let users = library.iter().filter(named).map(|scenario| scenario.name.clone());
    let _ = writeln!(out, "  used by         {}", some(users.collect()));
    let _ = writeln!(out, "  as a file       crossmod show protocols/{name}");
    out
}

fn scenario(scenario: &Scenario) -> Result<String, Failure> {
    let own = suite::cases(std::slice::from_ref(scenario), &[])?;
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
    Ok(out)
}

fn tag(name: &str, library: &[Scenario]) -> Result<Option<String>, Failure> {
    let tagged = which(library, |scenario| Ok(scenario.tags()?.iter().any(|tag| tag == name)))?;
    let text = |names| {
        format!("{name}: a tag\n  on              {names}\n  select          crossmod check --tag {name}\n")
    };
    Ok((!tagged.is_empty()).then(|| text(some(tagged))))
}

fn unknown(name: &str, library: &[Scenario]) -> Result<Failure, Failure> {
    let (tags, protocols, names) = (tags(library)?, scenario::protocols(), reference::names());
    let mut known: Vec<&str> = names.iter().map(String::as_str).collect();
    known.extend(protocols.iter().map(|(name, _)| name.as_str()));
    known.extend(library.iter().map(|scenario| scenario.name.as_str()));
    known.extend(tags.keys().map(String::as_str));
    let nearest = nearest(name, known.iter().copied());
    let inside = known.into_iter().filter(|known| name.len() >= 3 && known.contains(name));
    let inside = inside.filter(|known| Some(*known) != nearest).take(SHOWN);
    let near: Vec<&str> = nearest.into_iter().chain(inside).collect();
    let help = match near[..] {
        [] => "`crossmod explain` lists what there is".to_owned(),
        _ => format!("did you mean `{}`?", near.join("`, `")),
    };
    Ok(Failure::unusable(format_args!(
        "`{name}` is unknown: it is neither in the reference nor the name of a protocol, tag or shipped \
         scenario\n{help}"
    )))
}

/// Tags, each with the number of scenarios that have it.
pub fn tags(library: &[Scenario]) -> Result<BTreeMap<String, usize>, Failure> {
    let mut tags = BTreeMap::new();
    for scenario in library {
        scenario.tags()?.into_iter().for_each(|tag| *tags.entry(tag).or_default() += 1);
    }
    Ok(tags)
}

/// `abort 2, call 3`.
pub fn counted(tags: &BTreeMap<String, usize>) -> String {
    tags.iter().map(|(tag, count)| format!("{tag} {count}")).join(", ")
}

/// The first of many names, and how many there are.
fn some(mut names: Vec<String>) -> String {
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
