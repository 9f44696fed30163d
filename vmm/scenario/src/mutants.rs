//! Mutants: a scenario with one step of its patcher left out, exchanged with the next, or weakened.
//!
//! Each is a scenario in its own right, in text: it parses, runs and replays like one that somebody wrote.

use toml::{Table, Value};

use super::error::{ScenarioError, Source};
use super::read::read;
use super::syntax::Protocol;
use super::{Scenario, resolve, steps};

/// A scenario with one change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mutant {
    /// What was changed, in a few words; empty for the scenario as it is.
    pub change: String,
    /// The changed scenario; its name is the original's, then `#` and the change.
    pub scenario: Scenario,
}

impl Scenario {
    /// The scenario with every single step of its patcher changed in turn; the first one is the scenario as it
    /// is, with the steps of its protocol written out.
    ///
    /// # Errors
    ///
    /// See [`parse`](super::parse). A mutant that makes no sense is rejected when it is parsed.
    pub fn mutants(&self) -> Result<Vec<Mutant>, ScenarioError> {
        let (frame, steps) = written_out(self)?;
        let executors = self.plan(&super::Options::default())?.executors.len();
        let mut mutants = Vec::new();
        let mut add = |change: String, frame: &Table, steps: &[Table]| {
            mutants.push(mutant(self, change, frame, steps));
        };
        add(String::new(), &frame, &steps);
        for index in 0..steps.len() {
            let mut fewer = steps.clone();
            let step = fewer.remove(index);
            if !fewer.is_empty() || frame.contains_key("program") {
                add(format!("without {}", label(&step)), &frame, &fewer);
            }
        }
        for (index, step) in steps.iter().enumerate() {
            // What waits for a broadcast makes no sense without it: it goes, too.
            let waits = waits_for(&steps, index);
            if !waits.is_empty() {
                let left = |at: &usize| *at != index && !waits.contains(at);
                let fewer: Vec<Table> = (0..steps.len()).filter(left).map(|at| steps[at].clone()).collect();
                add(format!("without {} and its waits", label(step)), &frame, &fewer);
            }
        }
        for index in 1..steps.len() {
            let mut swapped = steps.clone();
            swapped.swap(index - 1, index);
            add(format!("{} before {}", label(&steps[index]), label(&steps[index - 1])), &frame, &swapped);
        }
        for (change, mut programs) in programs(&frame, executors) {
            let mut changed = frame.clone();
            changed.remove("program");
            // Drop functions that are no longer broadcast.
            let all = [changed.clone().into(), steps.clone().into(), programs.clone().into()];
            programs.retain(|name, _| all.iter().any(|value| mentions(value, name)));
            changed.insert("program".into(), Value::Table(programs));
            add(change, &changed, &steps);
        }
        for (index, step) in steps.iter().enumerate() {
            for (change, table) in weakened(step, executors) {
                let mut changed = steps.clone();
                changed[index] = table;
                add(format!("{} {change}", label(step)), &frame, &changed);
            }
        }
        Ok(mutants)
    }

    /// The scenario in one piece: if it names a protocol's file, with what that says written in.
    ///
    /// # Errors
    ///
    /// See [`parse`](super::parse).
    pub fn in_one_piece(&self) -> Result<Scenario, ScenarioError> {
        if !self.file()?.protocol.is_some_and(|name| name.ends_with(".toml")) {
            return Ok(self.clone());
        }
        let (frame, steps) = written_out(self)?;
        Ok(mutant(self, String::new(), &frame, &steps).scenario)
    }
}

/// The label of a step that is written out.
fn label(step: &Table) -> &str {
    step.get("label").and_then(Value::as_str).unwrap_or_default()
}

/// True if a text in a value is this one.
fn mentions(value: &Value, name: &str) -> bool {
    match value {
        Value::String(text) => text == name,
        Value::Array(list) => list.iter().any(|value| mentions(value, name)),
        Value::Table(table) => table.iter().any(|(_, value)| mentions(value, name)),
        _ => false,
    }
}

/// The steps that wait for the broadcast at a place, and for no later one.
fn waits_for(steps: &[Table], broadcast: usize) -> Vec<usize> {
    if !steps[broadcast].contains_key("broadcast") {
        return Vec::new();
    }
    let sends = |step: &Table| ["broadcast", "sync"].iter().any(|kind| step.contains_key(*kind));
    let waits = |step: &Table| {
        let wait = step.get("wait").and_then(Value::as_table);
        wait.is_some_and(|wait| ["acks", "arrived"].iter().any(|key| wait.contains_key(*key)))
    };
    let after = (broadcast + 1..steps.len()).take_while(|at| !sends(&steps[*at]));
    after.filter(|at| waits(&steps[*at])).collect()
}

/// The scenario from its parts, named after what was changed.
fn mutant(scenario: &Scenario, change: String, frame: &Table, steps: &[Table]) -> Mutant {
    let mut table = frame.clone();
    if !steps.is_empty() {
        table.insert("step".into(), steps.to_vec().into());
    }
    let name = if change.is_empty() { scenario.name.clone() } else { format!("{}#{change}", scenario.name) };
    let path = scenario.path.clone();
    let scenario = Scenario { name: name.replace(' ', "-"), text: table.to_string(), path };
    Mutant { change, scenario }
}

/// The scenario's programs with one step left out or weakened, each with what was changed. Passes and declarations of
/// completion do not belong to a protocol, so they stay; so do jumps and the steps that are jumped to.
fn programs(frame: &Table, executors: usize) -> Vec<(String, Table)> {
    const KEPT: [&str; 10] =
        ["pass", "done", "label", "goto", "if", "unless", "fail", "check", "trap", "flags"];
    let Some(Value::Table(programs)) = frame.get("program") else { return Vec::new() };
    let mut mutants = Vec::new();
    for (name, steps) in programs {
        let Value::Array(steps) = steps else { continue };
        for (index, step) in steps.iter().enumerate() {
            let Value::Table(step) = step else { continue };
            let kind = step.keys().find(|key| !["label", "site"].contains(&key.as_str()));
            let Some(kind) = kind.filter(|kind| !KEPT.contains(&kind.as_str())) else { continue };
            let label = match step.get("label").and_then(Value::as_str) {
                Some(label) => format!("{name}.{label}"),
                None => format!("{name}.{} ({kind})", index + 1),
            };
            let with = |list: Vec<Value>| {
                let mut changed = programs.clone();
                changed.insert(name.clone(), Value::Array(list));
                changed
            };
            let mut fewer = steps.clone();
            // Others may jump to a label: an instruction that does nothing takes its place.
            match step.get("label") {
                Some(label) => {
                    let pause = ("pause".to_owned(), Value::Table(Table::new()));
                    fewer[index] =
                        Value::Table([("label".to_owned(), label.clone()), pause].into_iter().collect());
                }
                None => drop(fewer.remove(index)),
            }
            mutants.push((format!("without {label}"), with(fewer)));
            for (change, table) in weakened(step, executors) {
                let mut changed = steps.clone();
                changed[index] = Value::Table(table);
                mutants.push((format!("{label} {change}"), with(changed)));
            }
        }
    }
    mutants
}

/// The scenario without steps, and its steps in order: the protocol's are written out.
fn written_out(scenario: &Scenario) -> Result<(Table, Vec<Table>), ScenarioError> {
    let mut file = scenario.file()?;
    let mut frame: Table = read(&Source::new(&scenario.path, &scenario.text))?;
    let mut tables = Vec::new();
    let mut protocol = Protocol::default();
    if let Some(name) = &file.protocol {
        let source = resolve::protocol(name)?;
        protocol = read(&source)?;
        let mut borrowed: Table = read(&source)?;
        tables.extend(take_steps(&mut borrowed));
        // The scenario's own settings go before those of the protocol.
        for key in ["handler", "events", "words", "each", "program"] {
            if let Some(Value::Table(mut theirs)) = borrowed.remove(key) {
                if let Some(Value::Table(own)) = frame.remove(key) {
                    theirs.extend(own);
                }
                frame.insert(key.into(), Value::Table(theirs));
            }
        }
    }
    tables.extend(take_steps(&mut frame));
    let items = steps::collect(&mut file, &mut protocol)?;
    for key in ["protocol", "without", "order"] {
        frame.remove(key);
    }
    let steps = items.into_iter().filter_map(|item| {
        let mut table = tables.get(item.index)?.clone();
        table.insert("label".into(), Value::String(item.label));
        Some(table)
    });
    Ok((frame, steps.collect()))
}

fn take_steps(table: &mut Table) -> Vec<Table> {
    let Some(Value::Array(steps)) = table.remove("step") else { return Vec::new() };
    steps
        .into_iter()
        .filter_map(|step| if let Value::Table(step) = step { Some(step) } else { None })
        .collect()
}

/// The step in its weaker forms, each with what makes it weaker.
fn weakened(step: &Table, executors: usize) -> Vec<(&'static str, Table)> {
    let with = |operation: &str, key: &str, value: Value| {
        let mut changed = step.clone();
        if let Some(Value::Table(operation)) = changed.get_mut(operation) {
            operation.insert(key.into(), value);
        }
        changed
    };
    let mut forms = Vec::new();
    let table = |operation: &str| step.get(operation).and_then(Value::as_table);
    let others = || Value::Array((1..executors as i64).map(Value::Integer).collect());
    if let Some(sync) = table("sync") {
        if !sync.contains_key("ack") {
            forms.push(("acknowledged first", with("sync", "ack", "before".into())));
            forms.push(("acknowledged only", with("sync", "ack", "only".into())));
        }
        if executors > 1 && !sync.contains_key("to") {
            forms.push(("without CPU 0", with("sync", "to", others())));
        }
    }
    if executors > 1 && table("broadcast").is_some_and(|broadcast| !broadcast.contains_key("to")) {
        forms.push(("without CPU 0", with("broadcast", "to", others())));
    }
    if let Some(store) = table("store") {
        let single =
            matches!(store.get("what").and_then(Value::as_str), Some("int3" | "new-first" | "old-first"));
        if !single && !store.contains_key("each") {
            forms.push(("byte by byte", with("store", "each", Value::Integer(1))));
        }
    }
    forms
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_step_is_left_out_exchanged_and_weakened() {
        let text = "title = \"t\"\nexpect = \"safe\"\nprotocol = \"text_poke_fixup\"\nwithout = [\"disarm\"]\n\
            [handler]\nresume = \"next\"\n[site]\nold = \"nop5\"\nnew = \"jmp32\"\noffset = 0x100\n";
        let scenario = Scenario { name: "x/t".into(), text: text.into(), path: "t.toml".into() };
        let mutants = scenario.mutants().expect("mutants");
        let changes: Vec<&str> = mutants.iter().map(|mutant| mutant.change.as_str()).collect();
        let without = ["arm", "int3", "sync-int3", "tail", "sync-tail", "first", "sync-first"];
        assert_eq!(changes[0], "");
        for (change, label) in changes[1..].iter().zip(without) {
            assert_eq!(*change, format!("without {label}"));
        }
        assert_eq!(changes[8..14][0], "int3 before arm");
        for change in [
            "sync-tail acknowledged first",
            "sync-int3 acknowledged only",
            "sync-first without CPU 0",
            "tail byte by byte",
        ] {
            assert!(changes.contains(&change), "{change} is missing in {changes:?}");
        }
        assert_eq!(mutants.len(), 1 + 7 + 6 + 3 * 3 + 1);
        // As it is, the plan is the same but for names.
        let plan = |scenario: &Scenario| scenario.plan(&crate::Options::default()).expect("a plan");
        assert_eq!(plan(&mutants[0].scenario).digest(), plan(&scenario).digest());
        let parsed =
            mutants.iter().filter(|mutant| mutant.scenario.plan(&Default::default()).is_ok()).count();
        assert!(parsed + 2 >= mutants.len(), "{parsed} of {}", mutants.len());
    }
}
