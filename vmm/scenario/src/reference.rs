//! The reference of the keys and steps, from the structs that the parser reads: descriptions and examples are their doc
//! comments, types, defaults and allowed values are their schema.

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::built_in::WORDS;
use super::fields::fields;
use super::instruction::NAMES;
use super::operation::{Operation, Performer};
use super::syntax::{self, File, Protocol, Step};

/// What a key, a step or a name means.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Entry {
    /// What it is, for people: `a key`.
    pub kind: &'static str,
    /// The name in files and reports: `offset`, `sync`, `nop5`.
    pub name: String,
    /// The name with where it belongs, unique in the reference: `site.offset`, `step.sync`, `instruction.nop5`.
    pub path: String,
    /// One line, as Markdown.
    pub summary: String,
    /// Type, default, who performs it, constraints: each with its title.
    pub facts: Vec<(&'static str, String)>,
    /// Values that it may have, with their meaning; empty if they are not enumerated.
    pub values: Vec<(String, String)>,
    /// More, as paragraphs of Markdown; may be empty.
    pub text: String,
    /// TOML as a file may have it.
    pub example: String,
}

/// Entries that belong together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    /// A heading, as Markdown.
    pub title: String,
    /// What they have in common, as Markdown; may be empty.
    pub text: String,
    /// The entries.
    pub entries: Vec<Entry>,
}

/// A table of the language.
struct Table {
    /// The prefix of its keys in paths, with the dot.
    prefix: &'static str,
    title: &'static str,
    /// The keys, in the order of the struct.
    keys: &'static [&'static str],
    schema: Value,
}

/// The tables, in the order of the reference.
fn tables() -> Vec<Table> {
    vec![
        table::<File>("", "The file"),
        table::<syntax::Custom>("fetch.", "`fetch` as a table"),
        table::<syntax::Site>("site.", "`[site]`, `[[site]]`"),
        table::<syntax::Executors>("executors.", "`[executors]`, `[[executor]]`"),
        table::<syntax::Handler>("handler.", "`[handler]`"),
        table::<syntax::Events>("events.", "`[events]`"),
        table::<syntax::Final>("final.", "`[final]`"),
        table::<Step>("step.", "Steps"),
        table::<syntax::Store>("step.store.", "`store`"),
        table::<syntax::Sync>("step.sync.", "`sync`"),
        table::<syntax::Broadcast>("step.broadcast.", "`broadcast`"),
        table::<syntax::Quiesce>("step.quiesce.", "`quiesce`"),
        table::<syntax::Delay>("step.delay.", "`delay`"),
        table::<syntax::Free>("step.free.", "`free`"),
        table::<syntax::Serialise>("step.serialise.", "`serialise`"),
        table::<syntax::DataRead>("step.load.", "Bytes of the site for `load`"),
        table::<Protocol>("protocol.", "Protocol files"),
    ]
}

fn table<T: DeserializeOwned + JsonSchema>(prefix: &'static str, title: &'static str) -> Table {
    let settings = SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    let schema = settings.into_generator().into_root_schema_for::<T>().to_value();
    Table { prefix, title, keys: fields::<T>(), schema }
}

/// The JSON Schema of scenario files, for editors.
pub fn schema() -> Value {
    let mut schema =
        SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<File>().to_value();
    without_null(&mut schema);
    schema
}

/// TOML has no null: a key that may be left out is just not required.
fn without_null(schema: &mut Value) {
    match schema {
        Value::Array(list) => list.iter_mut().for_each(without_null),
        Value::Object(table) => {
            if let Some(Value::Array(types)) = table.get_mut("type") {
                types.retain(|name| name != "null");
                if let Some(only) = types.first().filter(|_| types.len() == 1).cloned() {
                    table.insert("type".into(), only);
                }
            }
            if let Some(Value::Array(forms)) = table.get_mut("anyOf") {
                forms.retain(|form| *form != json!({ "type": "null" }));
            }
            if let Some(Value::Array(values)) = table.get_mut("enum") {
                values.retain(|value| !value.is_null());
            }
            table.iter_mut().for_each(|(_, value)| without_null(value));
        }
        _ => {}
    }
}

/// The tables of the language with all their keys, then the names of words and instructions.
pub fn reference() -> Vec<Section> {
    let mut sections: Vec<Section> = tables().into_iter().map(section).collect();
    let protocols = sections.pop();
    sections.extend(protocols);
    sections.push(words());
    sections.push(instructions());
    sections
}

fn section(mut table: Table) -> Section {
    without_null(&mut table.schema);
    let text = description(&table.schema);
    let of_protocol = table.prefix == "protocol.";
    // What a protocol has in common with a scenario is described there.
    let described = |key: &&&str| !of_protocol || !fields::<File>().contains(key);
    let entries = table.keys.iter().filter(described).map(|key| entry(&table, key)).collect();
    Section { title: table.title.into(), text: paragraphs(text).join("\n\n"), entries }
}

fn description(schema: &Value) -> &str {
    schema.get("description").and_then(Value::as_str).unwrap_or_default()
}

/// The paragraphs of a doc comment, each in one line; a block keeps its lines.
fn paragraphs(text: &str) -> Vec<String> {
    let mut paragraphs: Vec<String> = Vec::new();
    let mut block = false;
    for part in text.split("\n\n") {
        let opens = part.starts_with("```");
        if block {
            if let Some(last) = paragraphs.last_mut() {
                last.push_str("\n\n");
                last.push_str(part);
            }
        } else if opens {
            paragraphs.push(part.to_owned());
        } else {
            paragraphs.push(part.split('\n').collect::<Vec<_>>().join(" "));
        }
        block = (block || opens) && !part.ends_with("```");
    }
    paragraphs
}

fn entry(table: &Table, key: &str) -> Entry {
    let schema = &table.schema["properties"][key];
    let required =
        table.schema["required"].as_array().is_some_and(|keys| keys.iter().any(|name| name == key));
    let mut facts = Vec::new();
    let values = values(schema);
    facts.push(("Type", kind(schema)));
    let mut parts = paragraphs(description(schema)).into_iter();
    let summary = parts.next().unwrap_or_default();
    let (mut text, mut example, mut constraints) = (Vec::new(), String::new(), Vec::new());
    let mut default = schema.get("default").filter(|_| !required).and_then(shown);
    for part in parts {
        if let Some(block) = part.strip_prefix("```toml\n") {
            example = block.trim_end_matches("```").to_owned();
        } else if let Some(constraint) = part.strip_prefix("Constraint: ") {
            constraints.push(("Constraint", capital(constraint)));
        } else if let Some(words) = part.strip_prefix("Default: ") {
            default = Some(words.trim_end_matches('.').to_owned());
        } else {
            text.push(part);
        }
    }
    let performer = performer(key).filter(|_| table.prefix == "step.");
    let performed = performer.is_some();
    if let Some(performer) = performer {
        facts.push(("Performed by", performer.into()));
    } else if required {
        facts.push(("Required", "yes".into()));
    } else {
        facts.push(("Default", default.unwrap_or_else(|| "none".into())));
    }
    if let Some(range) = range(schema) {
        facts.push(("Allowed", range));
    }
    facts.extend(constraints);
    Entry {
        kind: if performed { "a step" } else { "a key" },
        name: key.into(),
        path: format!("{}{key}", table.prefix),
        summary,
        facts,
        values,
        text: text.join("\n\n"),
        example,
    }
}

fn capital(text: &str) -> String {
    let mut characters = text.chars();
    characters.next().map_or_else(String::new, |first| first.to_uppercase().chain(characters).collect())
}

/// Who performs a step; `None` for keys that are not operations.
fn performer(key: &str) -> Option<&'static str> {
    let (_, performer) = Operation::ALL.iter().find(|(name, _)| *name == key)?;
    Some(match performer {
        Performer::Host => "the patcher",
        Performer::HostAndPrograms => "the patcher, programs",
        Performer::Programs => "a patcher that is a vCPU, programs",
        Performer::Executors => "programs that are the `role` of an executor",
        Performer::Handler => "the program of `[handler]`",
    })
}

/// A value as TOML; `None` for an empty value of a missing key.
fn shown(value: &Value) -> Option<String> {
    match value {
        Value::Array(list) if list.is_empty() => None,
        Value::Object(table) if table.is_empty() => None,
        value => Some(format!("`{value}`")),
    }
}

fn range(schema: &Value) -> Option<String> {
    let low = schema.get("minimum")?;
    let high = schema.get("maximum")?;
    Some(format!("{low} to {high}"))
}

/// The type of a value, in words.
fn kind(schema: &Value) -> String {
    if let Some(forms) = forms(schema) {
        let mut kinds: Vec<String> = Vec::new();
        for form in forms {
            let kind = kind(form);
            if !kinds.contains(&kind) {
                kinds.push(kind);
            }
        }
        return kinds.join(", or ");
    }
    if schema.get("const").is_some() {
        return "string".into();
    }
    match schema.get("type").and_then(Value::as_str) {
        Some("array") => format!("list of {}", plural(&kind(&schema["items"]))),
        Some("object") => match (schema.get("properties"), schema.get("additionalProperties")) {
            (Some(Value::Object(properties)), _) if !properties.is_empty() => {
                let keys: Vec<String> = properties.keys().map(|key| format!("`{key}`")).collect();
                if keys.len() > 4 { "table".into() } else { format!("table with {}", keys.join(", ")) }
            }
            (_, Some(values)) if values.is_object() => format!("table of {} by name", plural(&kind(values))),
            _ => "empty table".into(),
        },
        Some(name) => name.into(),
        None => "string".into(),
    }
}

fn plural(kind: &str) -> String {
    let (first, rest) = kind.split_once(' ').map_or((kind, String::new()), |(a, b)| (a, format!(" {b}")));
    let first = first.trim_end_matches(',');
    match (first, kind.contains(", or ")) {
        (_, true) => "values".into(),
        (first, _) => format!("{first}s{rest}"),
    }
}

fn forms(schema: &Value) -> Option<&Vec<Value>> {
    ["anyOf", "oneOf"].iter().find_map(|key| schema.get(*key)).and_then(Value::as_array)
}

/// The values of an enumeration with their meanings, and what else there may be.
fn values(schema: &Value) -> Vec<(String, String)> {
    if let Some(values) = schema.get("enum").and_then(Value::as_array) {
        return values.iter().map(|value| (value.to_string(), String::new())).collect();
    }
    let mut found = Vec::new();
    for form in forms(schema).into_iter().flatten() {
        if let Some(value) = form.get("const") {
            found.push((value.to_string(), one_line(form)));
        } else if form.get("required").is_some()
            && let Some((name, value)) = form.get("properties").and_then(only)
        {
            found.push((format!("{{ {name} = {} }}", kind(value)), one_line(form)));
        } else if forms(form).is_some() {
            found.extend(values(form));
        } else if !one_line(form).is_empty() {
            found.push((kind(form), one_line(form)));
        }
    }
    // The type describes alternatives that have no values of their own.
    if found.iter().any(|(value, _)| value.starts_with(['"', '{'])) { found } else { Vec::new() }
}

fn only(table: &Value) -> Option<(&String, &Value)> {
    let table: &Map<String, Value> = table.as_object()?;
    table.iter().next().filter(|_| table.len() == 1)
}

fn one_line(schema: &Value) -> String {
    paragraphs(description(schema)).into_iter().next().unwrap_or_default()
}

/// Words that exist without being declared.
fn words() -> Section {
    let entries = WORDS.iter().map(|(name, _, meaning)| Entry {
        kind: "a built-in word",
        name: (*name).into(),
        path: format!("words.{name}"),
        summary: (*meaning).into(),
        facts: vec![("Type", "32-bit word, shared by all executors and the patcher, 0 at the start".into())],
        example: format!("[[step]]\nset = {{ {name} = 1 }}\n"),
        ..Entry::default()
    });
    Section {
        title: "Built-in words".into(),
        text: "Words that exist without being declared under `[words]`.".into(),
        entries: entries.collect(),
    }
}

fn instructions() -> Section {
    let entries = NAMES.iter().map(|known| {
        let bytes: Vec<String> = known.opcode.iter().map(|byte| format!("{byte:02x}")).collect();
        let length = known.opcode.len() + known.displacement;
        let rest = match known.displacement {
            0 => String::new(),
            bytes => format!(", then a displacement of {} bits", 8 * bytes),
        };
        Entry {
            kind: "an instruction",
            name: known.name.into(),
            path: format!("instruction.{}", known.name),
            summary: format!("{}.", capital(known.meaning)),
            facts: vec![
                ("Length", format!("{length} byte{}", if length == 1 { "" } else { "s" })),
                ("Bytes", format!("`{}`{rest}", bytes.join(" "))),
            ],
            example: format!("[site]\n{}\n", shown_in(known.name, length)),
            ..Entry::default()
        }
    });
    Section { title: "Instructions".into(), text: INSTRUCTIONS.into(), entries: entries.collect() }
}

const INSTRUCTIONS: &str = "Names for `site.old` and `site.new`. Any other instruction is written as bytes in hex. What \
    can be explored are instructions of the integer set whose result depends on registers alone: no privileged ones, no \
    vector or FPU instructions, no indirect branches, no memory operands except on the stack, and none that writes R12, \
    R15 or the stack pointer other than by an 8-byte PUSH, POP, CALL or RET.";

/// Keys of a site that has the instruction. The minimal scenario emulates the new version, so that is a NOP or a branch.
fn shown_in(name: &str, length: usize) -> String {
    match name {
        // A version does not begin with it.
        "int3" => "intermediates = [\"int3\"]".into(),
        // Every version leaves the stack as it was.
        "push-rbp" | "pop-rbp" => "old = [\"push-rbp\", \"pop-rbp\"]\nnew = \"nop2\"".into(),
        "nop1" => "old = \"nop1\"\nnew = \"ret\"".into(),
        "jmp8" | "jmp32" | "call" | "ret" | "self-loop" => format!("old = \"nop{length}\"\nnew = \"{name}\""),
        _ if name.starts_with("nop") => {
            format!("old = \"{name}\"\nnew = [{}]", vec!["\"nop1\""; length].join(", "))
        }
        _ => format!("old = \"{name}\"\nnew = \"nop{length}\""),
    }
}

/// All names of operations, as the keys are spelt.
pub fn operations() -> Vec<&'static str> {
    Operation::ALL.iter().map(|(name, _)| *name).collect()
}
