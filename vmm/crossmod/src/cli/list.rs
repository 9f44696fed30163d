//! `crossmod list` and `crossmod show`.

use clap::Args;
use crossmod::property::expectation;
use crossmod::reference;
use crossmod::scenario;
use crossmod::suite::{self, Case};
use itertools::Itertools;

use super::explain::{counted, tags};
use super::selection::FilterArguments;
use super::{Exit, Failure, answer};

#[derive(Args)]
pub struct Arguments {
    /// List only scenarios whose name, title or expectation contains this text.
    contains: Option<String>,
    #[command(flatten)]
    filter: FilterArguments,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub struct ShowArguments {
    /// Name of a scenario (`seed/fixup`) or protocol (`protocols/text_poke_fixup`); `reference` for the reference of
    /// scenario files and reports, `schema` for the JSON Schema of scenario files, for editors.
    name: String,
}

pub fn run(arguments: &Arguments) -> Result<Exit, Failure> {
    let library = scenario::library();
    let wanted = arguments.filter.filter().apply(suite::cases(&library, &[])?)?;
    // A row is a scenario with its selected cases; it shows the expectation under the first of them.
    let shown = |row: &[Case]| {
        let Case { scenario, plan, .. } = &row[0];
        [scenario.name.clone(), expectation(&plan.expect), plan.title.clone()]
    };
    let mut rows: Vec<&[Case]> =
        wanted.chunk_by(|one, other| one.scenario.name == other.scenario.name).collect();
    if let Some(text) = &arguments.contains {
        rows.retain(|row| shown(row).iter().any(|field| field.contains(text)));
    }
    if arguments.json {
        let rows: Vec<_> = rows.into_iter().map(|row| json(row, &shown(row))).collect();
        return answer(&serde_json::Value::Array(rows).to_string());
    }
    let width = |field: usize| rows.iter().map(|row| shown(row)[field].len()).max().unwrap_or_default();
    let (names, expectations) = (width(0), width(1));
    let mut text = String::new();
    for [name, expect, title] in rows.iter().map(|row| shown(row)) {
        text.push_str(&format!("{name:names$}  {expect:expectations$}  {title}\n"));
    }
    if let Some(filter) = arguments.contains.as_ref().filter(|_| rows.is_empty()) {
        text.push_str(&format!("no shipped scenario has `{filter}` in its name, title or expectation\n"));
    }
    let protocols = scenario::protocols().into_iter().map(|(name, _)| name).join(", ");
    text.push_str(&format!("\nprotocols: {protocols}\ntags: {}\n", counted(&tags(&library)?)));
    answer(&text)
}

fn json(row: &[Case], [name, expect, title]: &[String; 3]) -> serde_json::Value {
    let case = |case: &Case| {
        serde_json::json!({
            "case": case.name, "fetch": case.model.to_string(), "expect": expectation(&case.plan.expect),
            "plan": case.plan.digest(), "cost": suite::cost(case),
        })
    };
    serde_json::json!({
        "name": name, "expect": expect, "title": title, "tags": row[0].tags,
        "cases": row.iter().map(case).collect::<Vec<_>>(),
    })
}

pub fn show(arguments: &ShowArguments) -> Result<Exit, Failure> {
    let name = arguments.name.trim_end_matches(".toml");
    let scenario =
        || scenario::library().into_iter().find(|scenario| scenario.name == name).map(|found| found.text);
    let protocol = || {
        let short = name.trim_start_matches("protocols/");
        scenario::protocols().into_iter().find(|(name, _)| name == short).map(|(_, text)| text.to_owned())
    };
    let text = match name {
        "reference" => reference::markdown(),
        "schema" => format!("{:#}", scenario::schema()),
        _ => scenario().or_else(protocol).ok_or_else(|| {
            Failure::unusable(format_args!(
                "nothing shipped is called `{name}`; `crossmod list` shows what is"
            ))
        })?,
    };
    answer(&text)
}
