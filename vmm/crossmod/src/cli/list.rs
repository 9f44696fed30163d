//! `crossmod list` and `crossmod show`.

use clap::Args;
use crossmod::property::expectation;
use crossmod::reference;
use crossmod::scenario;
use crossmod::suite::{self, Case};

use super::explain::{counted, tags};
use super::selection::FilterArguments;
use super::{Exit, Failure, print};

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

/// A scenario with its selected cases.
struct ListRow {
    name: String,
    title: String,
    /// Expectation under the first of its fetch models.
    expect: String,
    cases: Vec<Case>,
}

pub fn run(arguments: &Arguments) -> Result<Exit, Failure> {
    let all = suite::cases(&scenario::library(), &[])?;
    let known = counted(&tags(&all));
    let wanted = arguments.filter.filter().apply(all)?;
    let mut rows: Vec<ListRow> = Vec::new();
    for case in wanted {
        match rows.last_mut().filter(|row| row.name == case.scenario.name) {
            Some(row) => row.cases.push(case),
            None => rows.push(ListRow {
                name: case.scenario.name.clone(),
                title: case.plan.title.clone(),
                expect: expectation(&case.plan.expect),
                cases: vec![case],
            }),
        }
    }
    if let Some(text) = &arguments.contains {
        rows.retain(|row| [&row.name, &row.expect, &row.title].into_iter().any(|field| field.contains(text)));
    }
    if arguments.json {
        let rows: Vec<_> = rows.iter().map(json).collect();
        print(&serde_json::Value::Array(rows).to_string());
        return Ok(Exit::Held);
    }
    let widths = rows
        .iter()
        .fold((0, 0), |(name, expect), row| (name.max(row.name.len()), expect.max(row.expect.len())));
    let mut text = String::new();
    for row in &rows {
        text.push_str(&format!("{:3$}  {:4$}  {}\n", row.name, row.expect, row.title, widths.0, widths.1));
    }
    if let Some(filter) = arguments.contains.as_ref().filter(|_| rows.is_empty()) {
        text.push_str(&format!("no shipped scenario has `{filter}` in its name, title or expectation\n"));
    }
    let protocols: Vec<String> = scenario::protocols().into_iter().map(|(name, _)| name).collect();
    text.push_str(&format!("\nprotocols: {}\ntags: {known}\n", protocols.join(", ")));
    print(&text);
    Ok(Exit::Held)
}

fn json(row: &ListRow) -> serde_json::Value {
    let cases: Vec<_> = row
        .cases
        .iter()
        .map(|case| {
            serde_json::json!({
                "case": case.name, "fetch": case.model.to_string(), "expect": expectation(&case.plan.expect),
                "plan": case.plan.digest(), "cost": suite::cost(case),
            })
        })
        .collect();
    serde_json::json!({
        "name": row.name, "expect": row.expect, "title": row.title,
        "tags": row.cases.first().map(|case| &case.tags), "cases": cases,
    })
}

pub fn show(arguments: &ShowArguments) -> Result<Exit, Failure> {
    let name = arguments.name.trim_end_matches(".toml");
    match name {
        "reference" => {
            print(&reference::markdown());
            return Ok(Exit::Held);
        }
        "schema" => {
            print(&format!("{:#}", scenario::schema()));
            return Ok(Exit::Held);
        }
        _ => {}
    }
    let scenario =
        scenario::library().into_iter().find(|scenario| scenario.name == name).map(|found| found.text);
    let protocol = || {
        let short = name.trim_start_matches("protocols/");
        scenario::protocols().into_iter().find(|(name, _)| name == short).map(|(_, text)| text.to_owned())
    };
    let text = scenario.or_else(protocol).ok_or_else(|| {
        Failure::unusable(format!("error: nothing shipped is called `{name}`; `crossmod list` shows what is"))
    })?;
    print(&text);
    Ok(Exit::Held)
}
