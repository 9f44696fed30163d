//! `crossmod probe`.

use clap::Args;
use crossmod::CheckError;
use crossmod::host::Host;
use crossmod::machine;

use super::{Failure, HELD, SKIPPED, print};

#[derive(Args)]
pub struct Arguments {
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: &Arguments) -> Result<u8, Failure> {
    let host = Host::read();
    let fail = |error| Failure::of(CheckError::Machine(error));
    let facts = machine::probe().map_err(fail)?;
    let usable = facts.iter().all(|fact| fact.usable);
    if arguments.json {
        let capabilities = machine::capabilities().map_err(fail)?;
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
    Ok(if usable { HELD } else { SKIPPED })
}
