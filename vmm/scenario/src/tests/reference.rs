//! The reference against the parser: what it says of a key is true.

use std::collections::BTreeSet;

use toml::{Table, Value};

use super::*;
use crate::fields::fields;
use crate::syntax::{File, Protocol, Step};

const MINIMAL: &str = r#"
title = "example"
expect = "unserialised"
[site]
old = "nop5"
new = "jmp32"
offset = 0x100
[words]
guard = 1
count = 0
[each]
nest = 0
[handler]
resume = "new"
[[step]]
store = { what = "new" }
"#;

/// The minimal scenario with an example written over it.
fn whole(example: &Table) -> Table {
    let mut whole: Table = MINIMAL.parse().unwrap();
    if example.contains_key("protocol") {
        whole.remove("step");
    }
    merge(&mut whole, example);
    // A program that the example does not use is what executors run.
    if let Some(Value::Table(programs)) = example.get("program") {
        let text = toml::to_string(&whole).unwrap();
        if let Some(name) = programs.keys().find(|name| !text.contains(&format!("\"{name}\""))) {
            let executors = whole.entry("executors").or_insert_with(|| Value::Table(Table::new()));
            executors.as_table_mut().unwrap().insert("role".into(), name.clone().into());
        }
    }
    whole
}

fn merge(into: &mut Table, from: &Table) {
    for (key, value) in from {
        match (into.get_mut(key), value) {
            (Some(Value::Table(into)), Value::Table(from)) => merge(into, from),
            _ => drop(into.insert(key.clone(), value.clone())),
        }
    }
}

fn compiled(example: &Table) -> Result<Plan, ScenarioError> {
    parse("test/example", &toml::to_string(&whole(example)).unwrap(), &Options::default())
}

fn entries() -> Vec<Entry> {
    reference().into_iter().flat_map(|section| section.entries).collect()
}

fn example(entry: &Entry) -> Table {
    entry.example.parse().unwrap_or_else(|error| panic!("{}: {error}\n{}", entry.path, entry.example))
}

#[test]
fn every_entry_has_its_text_and_an_example_that_compiles() {
    let (mut paths, mut failed) = (BTreeSet::new(), Vec::new());
    for entry in entries() {
        let words = entry.summary.split_whitespace().count();
        assert!(words >= 3 && entry.summary.ends_with('.'), "{}: {:?}", entry.path, entry.summary);
        assert!(!entry.facts.is_empty(), "{}", entry.path);
        assert!(entry.values.iter().all(|(value, _)| !value.is_empty()), "{entry:?}");
        assert!(paths.insert(entry.path.clone()), "{} twice", entry.path);
        assert!(!entry.example.is_empty(), "{}", entry.path);
        if entry.path == "protocol.summary" {
            let _: Protocol = toml::from_str(&entry.example).unwrap();
            continue;
        }
        if !mentions(&example(&entry), &entry) {
            failed.push(format!("{} is not in its example\n{}", entry.path, entry.example));
        }
        if let Err(error) = compiled(&example(&entry)) {
            failed.push(format!("{}: {error} ({})\n{}", entry.path, error.advice(), entry.example));
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    assert!(paths.len() > 120, "{}", paths.len());
}

/// True if an example has the key that it is about.
fn mentions(example: &Table, entry: &Entry) -> bool {
    if let Some(name) = entry.path.strip_prefix("instruction.") {
        return toml::to_string(example).unwrap().contains(&format!("\"{name}\""));
    }
    let path: Vec<&str> =
        if entry.path.starts_with("words.") { vec![&entry.name] } else { entry.path.split('.').collect() };
    !at(&mut Value::Table(example.clone()), &path).is_empty()
}

/// The tables of an example that have the key at the end of a path. Steps of programs are steps; other levels of the file
/// that the path does not name, such as the names of registers, are passed through.
fn at<'v>(value: &'v mut Value, path: &[&str]) -> Vec<&'v mut Table> {
    let [first, rest @ ..] = path else { return Vec::new() };
    match value {
        Value::Array(list) => list.iter_mut().flat_map(|value| at(value, path)).collect(),
        Value::Table(table) => {
            if rest.is_empty() && table.contains_key(*first) {
                return vec![table];
            }
            let named = |key: &str| key == *first || (*first == "step" && key == "program");
            let here = table.keys().any(|key| named(key));
            let path = if here { rest } else { path };
            let inside = table.iter_mut().filter(|(key, _)| !here || named(key));
            inside.flat_map(|(_, value)| at(value, path)).collect()
        }
        _ => Vec::new(),
    }
}

/// Schemars and serde read the same attributes: a key of one is a key of the other, and every table of the schema is in
/// the reference.
#[test]
fn no_key_and_no_table_is_missing() {
    let paths: BTreeSet<String> = entries().into_iter().map(|entry| entry.path).collect();
    for key in fields::<File>() {
        assert!(paths.contains(*key), "{key}");
    }
    for key in fields::<Step>() {
        assert!(paths.contains(&format!("step.{key}")), "{key}");
    }
    for key in fields::<Protocol>() {
        assert!(fields::<File>().contains(key) || paths.contains(&format!("protocol.{key}")), "{key}");
    }
    let schema = schema();
    let mut keys = 0;
    walk(&schema, &mut |table| {
        let Some(properties) = table.get("properties").and_then(|properties| properties.as_object()) else {
            return;
        };
        for (key, schema) in properties {
            // `{ at = n }` and its like are values, not tables.
            let value = table.get("description").is_some()
                && properties.len() == 1
                && schema.get("description").is_none();
            let known = paths.iter().any(|path| path == key || path.ends_with(&format!(".{key}")));
            assert!(known || value, "{key} is in no entry");
            keys += 1;
        }
    });
    assert!(keys > 90, "{keys}");
}

fn walk(schema: &serde_json::Value, see: &mut impl FnMut(&serde_json::Map<String, serde_json::Value>)) {
    match schema {
        serde_json::Value::Array(list) => list.iter().for_each(|value| walk(value, see)),
        serde_json::Value::Object(table) => {
            see(table);
            table.values().for_each(|value| walk(value, see));
        }
        _ => {}
    }
}

/// A value written over what an example says of a key; without one, the key is taken out.
fn with(entry: &Entry, value: Option<&Value>) -> Table {
    let mut example = Value::Table(example(entry));
    let path: Vec<&str> = entry.path.split('.').collect();
    for table in at(&mut example, &path) {
        match value {
            Some(value) => drop(table.insert(entry.name.clone(), value.clone())),
            None => drop(table.remove(&entry.name)),
        }
    }
    let Value::Table(table) = example else { unreachable!("it was one") };
    table
}

fn literal(text: &str) -> Option<Value> {
    let table: Table = format!("value = {}", text.trim_matches('`')).parse().ok()?;
    table.get("value").cloned()
}

fn fact<'e>(entry: &'e Entry, title: &str) -> Option<&'e str> {
    entry.facts.iter().find(|(known, _)| *known == title).map(|(_, text)| text.as_str())
}

#[test]
fn a_default_is_what_a_missing_key_means() {
    let mut compared = 0;
    for entry in entries() {
        let Some(default) = fact(&entry, "Default").filter(|text| text.starts_with('`')).and_then(literal)
        else {
            continue;
        };
        let [without, written] = [None, Some(&default)].map(|value| {
            compiled(&with(&entry, value)).unwrap_or_else(|error| panic!("{} {value:?}: {error}", entry.path))
        });
        assert_eq!(without.digest(), written.digest(), "{} = {default}", entry.path);
        compared += 1;
    }
    assert!(compared > 20, "{compared}");
}

#[test]
fn a_number_out_of_its_range_is_refused() {
    let mut tried = 0;
    for entry in entries() {
        let Some((low, high)) = fact(&entry, "Allowed").and_then(|range| range.split_once(" to ")) else {
            continue;
        };
        let (low, high): (i64, i64) = (low.parse().unwrap(), high.parse().unwrap());
        for (number, fits) in [(low - 1, false), (low, true), (high, true), (high + 1, false)] {
            let result = compiled(&with(&entry, Some(&number.into())));
            assert_eq!(result.is_ok(), fits, "{} = {number}: {:?}", entry.path, result.err());
            tried += 1;
        }
    }
    assert!(tried >= 32, "{tried}");
}

/// Every value that the reference lists is one that the parser takes; what is wrong with some is something else.
#[test]
fn every_listed_value_is_known_to_the_parser() {
    let mut tried = 0;
    for entry in entries().iter().filter(|entry| !entry.path.starts_with("words.")) {
        for (value, meaning) in &entry.values {
            let Some(value) = literal(value) else { continue };
            assert!(
                !meaning.is_empty() || value.is_integer() || entry.path == "events.mce-runs",
                "{} {value}",
                entry.path
            );
            if let Err(error) = compiled(&with(entry, Some(&value))) {
                let message = error.to_string();
                assert!(
                    !message.contains("unknown") && !message.contains("there is no"),
                    "{} {value}: {message}",
                    entry.path
                );
            }
            tried += 1;
        }
    }
    assert!(tried > 50, "{tried}");
}

/// Both compilers against what the reference says of a step. One that neither refuses nor lets do anything is forgotten.
#[test]
fn who_performs_a_step_is_who_the_compilers_accept() {
    let names = operations();
    let mut wrong = Vec::new();
    for entry in entries().iter().filter(|entry| entry.path == format!("step.{}", entry.name)) {
        let Some(performer) = fact(entry, "Performed by") else {
            assert!(!names.contains(&entry.name.as_str()), "{}", entry.path);
            continue;
        };
        let mut example = Value::Table(example(entry));
        let step = at(&mut example, &["step", &entry.name]).into_iter().next().unwrap().clone();
        let mut said = |claim: bool, what: String| {
            if !claim {
                wrong.push(format!("{}: {what}", entry.path));
            }
        };
        let lists = ["host", "vcpu"].map(|who| list(who, &step));
        said(
            lists[0].is_ok() == performer.starts_with("the patcher"),
            format!("{performer}: {:?}", lists[0]),
        );
        said(
            lists[1].is_ok() != performer.contains("program of"),
            format!("{performer}, vcpu: {:?}", lists[1]),
        );
        for (role, here) in [
            ("executors.role", performer.contains("programs")),
            ("handler.run", performer.contains("program of") || performer.ends_with("programs")),
            ("events.irq-runs", performer.ends_with("programs")),
        ] {
            let length = program(role, &step);
            said(length.is_ok() == here, format!("{performer}, {role}: {length:?}"));
            if let Ok(length) = length {
                let empty = program(role, &Table::new()).unwrap();
                said(length > empty, format!("as {role} compiles to nothing"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// How many operations of the host are in a list with this step, or why it is no list; a broadcast comes before it.
fn list(patcher: &str, step: &Table) -> Result<usize, String> {
    let broadcast: Table = "broadcast = { run = \"hold\" }".parse().unwrap();
    let example = Table::from_iter([
        ("step".to_owned(), Value::Array(vec![Value::Table(broadcast), Value::Table(step.clone())])),
        ("patcher".to_owned(), patcher.into()),
    ]);
    compiled(&example).map(|plan| plan.program.len()).map_err(|error| error.to_string())
}

/// How much code a program of one step is, for a use of it.
fn program(role: &str, step: &Table) -> Result<usize, String> {
    let (table, key) = role.split_once('.').unwrap();
    let mut example: Table =
        format!("[program]\nmine = []\ntell = [{{ acknowledge = {{}} }}]\n[[step]]\nbroadcast = {{ run = \"tell\" }}\n[{table}]\n{key} = \"mine\"\n")
            .parse()
            .unwrap();
    let mut steps: Vec<Value> = vec![Value::Table("pause = {}".parse().unwrap())];
    if !step.is_empty() {
        let mut step = step.clone();
        step.remove("label");
        steps.push(Value::Table(step));
    }
    // Labels that examples go to.
    for label in ["ours", "foreign"] {
        steps.push(Value::Table(format!("label = \"{label}\"\npause = {{}}").parse().unwrap()));
    }
    example["program"]["mine"] = Value::Array(steps);
    compiled(&example).map(|plan| plan.programs.code.len()).map_err(|error| error.to_string())
}
