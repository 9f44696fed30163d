//! The reference: every key, step, instruction name, property, fetch model and word of the output, as an [`Entry`]; as one
//! page (`crossmod show reference`), or one by one (`crossmod explain`).

mod glossary;
mod page;

pub use page::{markdown, plain};

use itertools::Itertools;

use crate::fetch::FetchModel;
use crate::property::Property;
use crate::scenario::{self, Entry, Scenario, Section};

/// Everything that the reference describes.
pub fn sections() -> Vec<Section> {
    let mut sections = scenario::reference();
    sections.extend([properties(), models(), glossary::words()]);
    sections
}

/// The entries that a name may mean: by its path (`site.offset`), the end of it (`store.what`, `offset`), or a value that a
/// key lists.
pub fn find(name: &str) -> Vec<Entry> {
    let entries: Vec<Entry> = sections().into_iter().flat_map(|section| section.entries).collect();
    let ends =
        |entry: &Entry| entry.path == name || entry.path.ends_with(&format!(".{name}")) || entry.name == name;
    let found: Vec<Entry> = match entries.iter().find(|entry| name.contains('.') && entry.path == name) {
        Some(exact) => vec![exact.clone()],
        None => entries.iter().filter(|entry| ends(entry)).cloned().collect(),
    };
    if !found.is_empty() {
        return found;
    }
    let quoted = format!("\"{name}\"");
    let lists = |entry: &Entry| entry.values.iter().any(|(value, _)| *value == quoted);
    entries.into_iter().filter(lists).collect()
}

/// Every name that [`find`] finds, but for ends of paths.
pub fn names() -> Vec<String> {
    let mut names = Vec::new();
    for entry in sections().into_iter().flat_map(|section| section.entries) {
        names.extend(entry.values.iter().filter_map(|(value, _)| {
            value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).map(str::to_owned)
        }));
        names.extend([entry.path, entry.name]);
    }
    names.into_iter().sorted().dedup().collect()
}

fn properties() -> Section {
    let library = scenario::library();
    let entries = Property::ALL.into_iter().map(|property| Entry {
        kind: "a property",
        name: property.name().into(),
        path: format!("property.{property}"),
        summary: format!("Violated when {}.", property.describe()),
        facts: vec![
            ("In a matrix", property.short().into()),
            ("Shown by", format!("`{}`", example_of(property, &library))),
        ],
        values: Vec::new(),
        text: String::new(),
        example: format!("expect = \"{property}\"\n"),
    });
    Section {
        title: "Properties".into(),
        text: "What a protocol must not do. The names appear in `expect`, in `check` and `fail` of programs, in reports and in \
               traces. The scenario after *shown by* is a shipped one; `crossmod check NAME` prints its schedule."
            .into(),
        entries: entries.collect(),
    }
}

/// A shipped scenario that violates a property, without its group.
pub fn shown_by(property: Property) -> &'static str {
    match property {
        Property::Torn => "naive-store-crossing-line",
        Property::Order => "abort-emulating-new",
        Property::Stale => "done-too-early",
        Property::UnclaimedTrap => "fixup-no-handler",
        Property::ForeignTrap => "b18-stale-int3-swallowed",
        Property::WrongResume => "skip-over-call",
        Property::Interior => "interior-parked",
        Property::Lifetime => "old-target-freed",
        Property::NmiFrame => "nmi-nested",
        Property::Recursion => "traced-handler",
        Property::Unserialised => "naive-store",
        Property::MultiSite => "b40-target-cleared-behind-the-bypass",
        Property::TextData => "b39-callback-with-the-data-of-another",
        Property::Deadlock => "hold-acked",
        Property::Livelock => "retry-irqs-off-counting",
    }
}

/// The name of that scenario, with its group.
fn example_of(property: Property, library: &[Scenario]) -> String {
    let stem = shown_by(property);
    let found = library.iter().find(|scenario| scenario.name.rsplit('/').next() == Some(stem));
    found.map_or_else(|| stem.to_owned(), |scenario| scenario.name.clone())
}

fn models() -> Section {
    Section {
        title: "Fetch models".into(),
        text: include_str!("models.md").trim_end().into(),
        entries: FetchModel::presets().map(model).collect(),
    }
}

/// A fetch model, which need not be a preset.
pub fn model(model: FetchModel) -> Entry {
    let mut facts = vec![("Reads at once", model.reads()), ("May miss", model.misses().into())];
    facts.extend(model.promise().map(|promise| ("Promised", promise.to_owned())));
    let rule = model.rule().map_or("the scenario's".into(), |rule| format!("{}'s", rule.vendor()));
    facts.push(("Rule", rule));
    let order = if model.stale { format!(", order = \"{}\"", model.order.name()) } else { String::new() };
    Entry {
        kind: "a fetch model",
        name: model.to_string(),
        path: format!("model.{model}"),
        summary: format!("A fetch reads {} at once, and may miss {}.", model.reads(), model.misses()),
        facts,
        values: Vec::new(),
        text: String::new(),
        example: match model.preset() {
            Some(name) => format!("fetch = \"{name}\"\n"),
            None => format!("fetch = {{ atom = {}, stale = {}{order} }}\n", model.atom, model.stale),
        },
    }
}
