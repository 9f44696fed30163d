//! Reads a scenario file into a case, with what it expects under each fetch model. It knows only the constructs of the
//! checker.

use toml::{Table, Value};

use super::case::{
    CALL, Case, Executor, INT3, Instruction, JMP32, NOP3, NOP5, OTHER_CALL, Resume, Run, Step, Version, XOR,
    bytes,
};

const KNOWN: [Instruction; 6] = [NOP5, JMP32, CALL, OTHER_CALL, XOR, NOP3];

fn hex(text: &str) -> Vec<u8> {
    text.split(' ').map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect()
}

fn version(value: &Value) -> Version {
    let instruction = |value: &Value| {
        let bytes = hex(value.as_str().unwrap());
        KNOWN.into_iter().find(|known| known.bytes == bytes).unwrap()
    };
    match value {
        Value::Array(list) => list.iter().map(instruction).collect(),
        one => vec![instruction(one)],
    }
}

fn number(table: Option<&Value>, key: &str) -> usize {
    table.and_then(|table| table.get(key)).and_then(Value::as_integer).unwrap_or(0).try_into().unwrap()
}

fn word<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn step(table: &Table, old: &Version, new: &Version) -> Step {
    let [old, new] = [old, new].map(bytes);
    let store = |at, bytes: &[u8]| Step::Store { at, bytes: bytes.to_vec() };
    let (kind, value) = table.iter().find(|(key, _)| *key != "label").unwrap();
    match (kind.as_str(), word(value, "what"), word(value, "run"), word(value, "ack")) {
        ("store", "", ..) => store(number(Some(value), "at"), &hex(word(value, "bytes"))),
        ("store", "int3", ..) => store(0, &[INT3]),
        ("store", "new", ..) => store(0, &new),
        ("store", "new-first", ..) => store(0, &new[..1]),
        ("store", "new-tail", ..) => store(1, &new[1..]),
        ("store", "old-first", ..) => store(0, &old[..1]),
        ("arm", ..) => Step::Arm,
        ("disarm", ..) => Step::Disarm,
        ("sync", _, _, "" | "after") => Step::Round(Run::Sync),
        ("sync", _, _, "before") => Step::Round(Run::AckFirst),
        ("sync", _, _, "only") => Step::Round(Run::AckOnly),
        ("broadcast", _, "hold", _) => Step::Broadcast(Run::Hold),
        ("broadcast", _, "stop", _) => Step::Broadcast(Run::Stop),
        ("broadcast", _, "early", _) => Step::Broadcast(Run::Early),
        ("wait", ..) if value.get("arrived").is_some() => Step::AwaitArrivals,
        ("wait", ..) if value.get("acks").is_some() => Step::AwaitAcks,
        ("set", ..) => Step::Release,
        ("assume-synchronised", ..) => Step::Assume,
        ("quiesce", ..) => Step::Quiesce,
        ("free", "descriptor", ..) => Step::FreeDescriptor,
        ("free", "old-target", ..) => Step::FreeOld,
        ("free", "new-target", ..) => Step::FreeNew,
        ("done", ..) => Step::Done,
        other => panic!("a step the checker does not know: {other:?}"),
    }
}

/// The case of a scenario file.
pub fn case(file: &Table) -> Case {
    let site = &file["site"];
    let (old, new) = (version(&site["old"]), version(&site["new"]));
    let executors = match (file.get("executor").and_then(Value::as_array), file.get("executors")) {
        (Some(list), _) => list
            .iter()
            .map(|one| Executor {
                passes: number(Some(one), "passes") as u8,
                interior: one.get("start").map(|start| number(Some(start), "interior")),
            })
            .collect(),
        (None, table) => {
            vec![Executor { passes: number(table, "passes") as u8, interior: None }; number(table, "count")]
        }
    };
    let resume = file.get("handler").map(|handler| match word(handler, "resume") {
        "new" => Resume::New,
        "old" => Resume::Old,
        "next" => Resume::Next,
        "retry" => Resume::Retry,
        _ => Resume::At(number(handler.get("resume"), "at")),
    });
    let steps = file["step"].as_array().unwrap();
    Case {
        offset: number(Some(site), "offset"),
        executors,
        resume,
        armed: false,
        counting: false,
        nmis: number(file.get("events"), "nmi") as u8,
        amd: false,
        steps: steps.iter().map(|one| step(one.as_table().unwrap(), &old, &new)).collect(),
        old,
        new,
    }
}

/// What the file expects under a fetch model.
pub fn expected(file: &Table, model: &str) -> Vec<String> {
    let value = match &file["expect"] {
        Value::Table(table) => table.get(model).unwrap_or_else(|| &table["default"]),
        all => all,
    };
    match value {
        Value::Array(list) => list.iter().map(|one| one.as_str().unwrap().to_owned()).collect(),
        _ => Vec::new(),
    }
}
