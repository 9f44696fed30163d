//! `crossmod explain`: what a name in a file or a report means, from the same sources as the documentation.

use std::collections::BTreeMap;
use std::fmt::Write;

use clap::Args;
use crossmod::fetch::FetchModel;
use crossmod::property::{Property, expectation};
use crossmod::scenario::{self, Scenario, nearest};
use crossmod::suite::{self, Case};

use super::{Exit, Failure, print};

#[derive(Args)]
pub struct Arguments {
    /// A property, a fetch model (a preset, or parameters such as `atom=16,stale,block`), a protocol, a shipped
    /// scenario or a tag; `language` for the reference of scenario files; without a name, what there is of each.
    name: Option<String>,
}

/// Names shown of a list of cases.
const SHOWN: usize = 8;

pub fn run(arguments: &Arguments) -> Result<Exit, Failure> {
    let library = scenario::library();
    let cases = suite::cases(&library, &[])?;
    let Some(name) = &arguments.name else {
        print(&overview(&library, &cases));
        return Ok(Exit::Held);
    };
    if name == "language" {
        print(scenario::REFERENCE);
        return Ok(Exit::Held);
    }
    // A name may be one of several kinds: `interior` is a property and a tag.
    let plain = name.trim_start_matches("protocols/").trim_end_matches(".toml");
    let found = [
        name.parse().ok().map(|property| self::property(property, &cases)),
        name.parse().ok().map(|model| self::model(model, &cases)),
        scenario::protocols()
            .into_iter()
            .find(|(known, _)| known == plain)
            .map(|(known, text)| protocol(&known, text, &library)),
        library
            .iter()
            .find(|scenario| scenario.name == plain)
            .map(|scenario| self::scenario(scenario, &cases)),
        tag(name, &cases),
    ];
    let found: Vec<String> = found.into_iter().flatten().collect();
    if found.is_empty() {
        return Err(unknown(name, &library, &cases));
    }
    print(&found.join("\n"));
    Ok(Exit::Held)
}

fn overview(library: &[Scenario], cases: &[Case]) -> String {
    let mut out = String::from("properties\n");
    for property in Property::ALL {
        let _ = writeln!(out, "  {:16}{}", property.name(), property.describe());
    }
    out.push_str("\nfetch models\n");
    for model in FetchModel::presets() {
        let _ = writeln!(
            out,
            "  {:16}reads {} at once, may miss {}",
            model.to_string(),
            model.reads(),
            model.misses()
        );
    }
    out.push_str("\nprotocols\n");
    for (name, text) in scenario::protocols() {
        let summary = table(text).get("summary").and_then(|value| value.as_str().map(str::to_owned));
        let _ = writeln!(out, "  {name:23} {}", summary.unwrap_or_default());
    }
    let _ = writeln!(out, "\ntags, with the number of scenarios\n  {}", counted(&tags(cases)));
    let _ = write!(
        out,
        "\n{} scenarios: `crossmod list`; `crossmod explain NAME` says more of one of these, or of a scenario",
        library.len()
    );
    out
}

fn property(property: Property, cases: &[Case]) -> String {
    let expect = cases.iter().filter(|case| case.plan.expect.contains(&property));
    format!(
        "{property}: a property\n  violated when   {}\n  in a matrix     {}\n  expected by     {}\n  select          \
         crossmod check --property {property}\n",
        property.describe(),
        property.short(),
        some(expect.map(|case| case.scenario.name.as_str())),
    )
}

fn model(model: FetchModel, cases: &[Case]) -> String {
    let asked = cases.iter().filter(|case| case.model == model);
    let mut out = format!(
        "{model}: a fetch model\n  reads at once   {}\n  may miss        {}\n",
        model.reads(),
        model.misses()
    );
    if let Some(promise) = model.promise() {
        let _ = writeln!(out, "  promised        {promise}");
    }
    let rule = model.rule().map_or("the scenario's".into(), |rule| format!("{}'s", rule.vendor()));
    let _ = writeln!(out, "  rule            {rule}");
    let _ = writeln!(out, "  asked for by    {}", some(asked.map(|case| case.scenario.name.as_str())));
    let _ = writeln!(out, "  select          crossmod check --fetch {model}");
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
    let (tags, protocols) = (tags(cases), scenario::protocols());
    let mut known: Vec<&str> = Vec::new();
    let named = Property::ALL.into_iter().map(Property::name).chain(FetchModel::preset_names());
    named.for_each(|name| known.push(name));
    known.extend(protocols.iter().map(|(name, _)| name.as_str()));
    known.extend(library.iter().map(|scenario| scenario.name.as_str()));
    known.extend(tags.keys().copied());
    let inside = |known: &&&str| name.len() >= 3 && known.contains(name);
    let mut near: Vec<&str> = nearest(name, known.iter().copied()).into_iter().collect();
    near.extend(
        known.iter().filter(inside).filter(|known| !near.contains(known)).take(SHOWN).collect::<Vec<_>>(),
    );
    let help = match near[..] {
        [] => "`crossmod explain` lists what there is".to_owned(),
        _ => format!("did you mean `{}`?", near.join("`, `")),
    };
    Failure::unusable(format!(
        "error: `{name}` is no property, fetch model, protocol, tag or shipped scenario\n{help}"
    ))
}

/// Tags, each with the number of scenarios that have it.
pub fn tags(cases: &[Case]) -> BTreeMap<&str, usize> {
    let mut scenarios: BTreeMap<&str, &Case> = BTreeMap::new();
    scenarios.extend(cases.iter().map(|case| (case.scenario.name.as_str(), case)));
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
