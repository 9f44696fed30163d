//! One page about a machine at full speed: self-contained, without script or network, for screens of any width and for
//! paper.

use maud::{DOCTYPE, PreEscaped, html};
use serde::Deserialize;

use super::matrix::STYLE;
use super::{bench, chart, survey};
use crate::freerun::bench::Bench;
use crate::freerun::survey::Survey;

const MORE: &str = "
h3 { font-size: 1rem; margin: 1.6rem 0 0.2rem; } td.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
figure { margin: 0.8rem 0; } figcaption { font-weight: 600; font-size: 0.9rem; }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 30rem), 1fr)); gap: 0.4rem 1.5rem; }
.figure svg { max-width: 44rem; } dl { display: grid; grid-template-columns: max-content 1fr; gap: 0 1rem; margin: 0.6rem 0; } dt { color: var(--soft); } dd { margin: 0; }
.legend { display: none; flex-wrap: wrap; gap: 0.1rem 0.9rem; font-size: 0.8rem; margin: 0.5rem 0; } .legend i { display: inline-block; width: 0.7rem; height: 0.7rem; border-radius: 2px; margin-right: 0.35rem; }
td.wide { min-width: 11rem; }
@media (max-width: 40rem) { body { padding: 0.7rem; } .legend { display: flex; } .pair figure { overflow: hidden; } .pair svg { width: 123%; max-width: none; } .pair svg.chart text { font-size: 17px; } .pair svg .names { display: none; } .figure svg.chart text { font-size: 15px; } }
@media print { .pair { grid-template-columns: 1fr 1fr; } figure, .figure { break-inside: avoid; } svg.chart * { print-color-adjust: exact; -webkit-print-color-adjust: exact; } }
";

/// The results on a page.
#[derive(Debug, Default)]
pub struct SavedResults {
    /// A survey.
    pub survey: Option<Survey>,
    /// A benchmark.
    pub bench: Option<Bench>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Saved {
    Survey(Box<Survey>),
    Bench(Box<Bench>),
}

impl SavedResults {
    /// Adds the output of `crossmod survey --format json` or `crossmod bench --format json`.
    ///
    /// # Errors
    ///
    /// It is neither, or the second of its kind.
    pub fn add(&mut self, text: &str) -> Result<(), String> {
        let saved = serde_json::from_str(text).map_err(|error| {
            // Invalid JSON has a position; other JSON has none.
            let place = if error.line() > 0 { format!(" ({error})") } else { String::new() };
            format!("neither a survey nor a benchmark in the form of `--format json`{place}")
        })?;
        let twice = match saved {
            Saved::Survey(survey) => self.survey.replace(*survey).is_some(),
            Saved::Bench(bench) => self.bench.replace(*bench).is_some(),
        };
        if twice {
            Err("the second of its kind: a page has one survey and one benchmark".into())
        } else {
            Ok(())
        }
    }
}

/// The page.
pub fn html(results: &SavedResults) -> String {
    let host = results
        .survey
        .as_ref()
        .map(|survey| (&survey.host, &survey.crossmod))
        .or(results.bench.as_ref().map(|bench| (&bench.host, &bench.crossmod)));
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { "Crossmod: this machine at full speed" }
                style { (PreEscaped(STYLE)) (PreEscaped(chart::STYLE)) (PreEscaped(survey::HEAT)) (PreEscaped(MORE)) }
            }
            body {
                h1 { "This machine at full speed" }
                p.soft { (crate::freerun::TIER) "." }
                @if let Some((host, crossmod)) = host {
                    dl {
                        dt { "CPU" } dd { (host.cpu) ", " (host.cpus) " CPUs, microcode " (host.microcode.as_deref().unwrap_or("unknown")) }
                        dt { "Kernel" } dd { "Linux " (host.kernel) ", " (host.kvm) }
                        @if let Some(survey) = &results.survey { dt { "Survey" } dd { (format!("{:.0}", survey.seconds)) " s, seed " (survey.seed) @if survey.interrupted { ", " b { "interrupted" } } } }
                        @if let Some(bench) = &results.bench { dt { "Benchmark" } dd { (format!("{:.0}", bench.seconds)) " s, seed " (bench.seed) ", " (bench.cases.len()) " cases" @if bench.interrupted { ", " b { "interrupted" } } } }
                        dt { "Crossmod" } dd { (crossmod) }
                    }
                }
                @if let Some(survey) = &results.survey { (survey::section(survey)) }
                @if let Some(bench) = &results.bench { (bench::section(bench)) }
            }
        }
    };
    page.into_string()
}
