//! `crossmod list` and `crossmod show`.

use clap::Args;
use crossmod::scenario;

use super::{Failure, HELD, print};

#[derive(Args)]
pub struct Arguments {
    /// Only scenarios whose name, title or expectation contains this.
    filter: Option<String>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub struct ShowArguments {
    /// Name of a scenario (`seed/fixup`) or protocol (`protocols/text_poke_fixup`).
    name: String,
}

pub fn run(arguments: &Arguments) -> Result<u8, Failure> {
    let mut rows = Vec::new();
    for scenario in scenario::library() {
        let plan = scenario.plan(&scenario::Options::default()).map_err(|error| Failure::of(error.into()))?;
        let names: Vec<&str> = plan.expect.iter().map(|property| property.name()).collect();
        let expect = if names.is_empty() { "safe".to_owned() } else { names.join(", ") };
        let row = (scenario.name, expect, plan.title);
        let wanted = |filter: &String| [&row.0, &row.1, &row.2].into_iter().any(|text| text.contains(filter));
        if arguments.filter.as_ref().is_none_or(wanted) {
            rows.push(row);
        }
    }
    if arguments.json {
        let rows: Vec<_> = rows
            .iter()
            .map(
                |(name, expect, title)| serde_json::json!({ "name": name, "expect": expect, "title": title }),
            )
            .collect();
        print(&serde_json::Value::Array(rows).to_string());
        return Ok(HELD);
    }
    let widths =
        rows.iter().fold((0, 0), |(name, expect), row| (name.max(row.0.len()), expect.max(row.1.len())));
    let mut text = String::new();
    for (name, expect, title) in &rows {
        text.push_str(&format!("{name:0$}  {expect:1$}  {title}\n", widths.0, widths.1));
    }
    if let Some(filter) = arguments.filter.as_ref().filter(|_| rows.is_empty()) {
        text.push_str(&format!("no shipped scenario has `{filter}` in its name, title or expectation\n"));
    }
    let protocols: Vec<String> = scenario::protocols().into_iter().map(|(name, _)| name).collect();
    text.push_str(&format!("\nprotocols: {}\n", protocols.join(", ")));
    print(&text);
    Ok(HELD)
}

pub fn show(arguments: &ShowArguments) -> Result<u8, Failure> {
    let name = arguments.name.trim_end_matches(".toml");
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
    Ok(HELD)
}
