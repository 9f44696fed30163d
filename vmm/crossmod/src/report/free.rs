//! One page about a machine at full speed: self-contained, without script or network, for screens of any width and for
//! paper.

use maud::html;
use serde::Deserialize;

use super::page::{self, page};
use super::{bench, chart, survey};
use crate::freerun::bench::Bench;
use crate::freerun::survey::Survey;

const STYLE: &str = include_str!("free.css");

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
            return Err("the second of its kind: a page has one survey and one benchmark".into());
        }
        Ok(())
    }
}

/// The page.
pub fn html(results: &SavedResults) -> String {
    let host = results
        .survey
        .as_ref()
        .map(|survey| (&survey.host, &survey.crossmod))
        .or(results.bench.as_ref().map(|bench| (&bench.host, &bench.crossmod)));
    let body = html! {
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
    };
    page("Crossmod: this machine at full speed", &[page::STYLE, chart::STYLE, STYLE], &body)
}
