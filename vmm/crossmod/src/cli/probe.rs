//! `crossmod probe`.

use clap::Args;
use crossmod::host::Host;
use crossmod::machine;

use super::{Exit, Failure, print};

#[derive(Args)]
pub struct Arguments {
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: &Arguments) -> Result<Exit, Failure> {
    let host = Host::read();
    let facts = machine::probe()?;
    let usable = facts.iter().all(|fact| fact.usable);
    if arguments.json {
        let capabilities = machine::capabilities()?;
        let json = serde_json::json!({
            "host": host, "usable": usable, "capabilities": capabilities, "facts": facts
        });
        print(&json.to_string());
    } else {
        let mut text = format!("{}\n\n", host.line());
        for fact in &facts {
            text.push_str(&format!("{}: {}\n    {}\n", fact.question, fact.answer, fact.consequence));
        }
        text.push_str(if usable {
            "\nThis host can explore.\n"
        } else {
            "\nThis host cannot explore every scenario.\n"
        });
        print(&text);
    }
    Ok(if usable { Exit::Held } else { Exit::Skipped })
}
