//! The words that reports use.

use itertools::Itertools;

use crate::scenario::{Entry, Section};

/// The words, in the order in which a reader of a report meets them: each a heading, a line that says what it means, and
/// a paragraph with more.
const WORDS: &str = include_str!("words.md");

pub(super) fn words() -> Section {
    let one_line = |text: &str| text.split_whitespace().join(" ");
    let entries = WORDS.trim_start_matches("# ").split("\n# ").map(|word| {
        let (name, rest) = word.split_once('\n').unwrap_or((word, ""));
        let (summary, text) = rest.split_once("\n\n").unwrap_or((rest, ""));
        Entry {
            kind: "a word of reports",
            name: name.into(),
            path: format!("report.{}", name.replace(' ', "-")),
            summary: one_line(summary),
            facts: Vec::new(),
            values: Vec::new(),
            text: one_line(text),
            example: String::new(),
        }
    });
    Section {
        title: "Words of reports".into(),
        text: "What reports, tables and schedules mean by a word.".into(),
        entries: entries.collect(),
    }
}
