//! Entries as text: the whole reference as Markdown, one entry for a terminal.

use std::fmt::Write;

use itertools::Itertools;

use crate::scenario::{Entry, Section};

/// How a scenario is put together.
const INTRODUCTION: &str = include_str!("introduction.md");
/// Whole scenarios, by what they show.
const EXAMPLES: &str = include_str!("examples.md");

/// The reference as one page of Markdown.
pub fn markdown() -> String {
    let sections = super::sections();
    let mut out = format!("{}\n", INTRODUCTION.trim_end());
    out.push_str("\n## Contents\n\n");
    for section in &sections {
        let _ = writeln!(out, "* [{}](#{}): {}", section.title, anchor(&section.title), links(section));
    }
    let _ = writeln!(out, "* [Worked examples](#worked-examples)");
    for section in &sections {
        let _ = write!(out, "\n## {}\n", section.title);
        if !section.text.is_empty() {
            let _ = write!(out, "\n{}\n", section.text);
        }
        for entry in &section.entries {
            write_entry(&mut out, entry);
        }
    }
    let _ = write!(out, "\n{}", EXAMPLES);
    out
}

fn links(section: &Section) -> String {
    section.entries.iter().map(|entry| format!("[`{}`](#{})", entry.name, entry.path)).join(", ")
}

/// The anchor that a heading gets where Markdown is shown.
fn anchor(title: &str) -> String {
    let kept = title.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-'));
    kept.map(|c| if c == ' ' { '-' } else { c.to_ascii_lowercase() }).collect()
}

fn write_entry(out: &mut String, entry: &Entry) {
    let _ = write!(out, "\n<a id=\"{}\"></a>\n\n### `{}`\n\n{}\n", entry.path, heading(entry), entry.summary);
    if !entry.facts.is_empty() {
        out.push('\n');
    }
    for (title, text) in &entry.facts {
        let _ = writeln!(out, "* {title}: {text}");
    }
    if !entry.values.is_empty() {
        let _ = writeln!(out, "* Values:");
        for (value, meaning) in &entry.values {
            let value = if is_value(value) { format!("`{value}`") } else { value.clone() };
            let separator = if meaning.is_empty() { "" } else { ": " };
            let _ = writeln!(out, "  * {value}{separator}{meaning}");
        }
    }
    if !entry.text.is_empty() {
        let _ = write!(out, "\n{}\n", entry.text);
    }
    if !entry.example.is_empty() {
        let _ = write!(out, "\n```toml\n{}```\n", entry.example);
    }
}

/// Keys with the table that they belong to; the other names as they are.
fn heading(entry: &Entry) -> &str {
    match entry.kind {
        "a key" | "a step" => &entry.path,
        _ => &entry.name,
    }
}

/// True for a value that is written as it is, not for the name of a type.
fn is_value(value: &str) -> bool {
    value.starts_with(|c: char| matches!(c, '"' | '{') || c.is_ascii_digit())
}

/// Where the columns of facts begin.
const COLUMN: usize = 16;
/// Where lines are wrapped.
const WIDTH: usize = 110;

/// One entry as plain text.
pub fn plain(entry: &Entry) -> String {
    let mut out = format!("{}: {}\n", heading(entry), entry.kind);
    match entry.summary.strip_prefix("Violated when ") {
        Some(when) => write_fact(&mut out, "violated when", when.trim_end_matches('.')),
        None => {
            write_lines(&mut out, 2, &unmarked(&entry.summary));
            if !entry.facts.is_empty() {
                out.push('\n');
            }
        }
    }
    for (title, text) in &entry.facts {
        write_fact(&mut out, &title.to_lowercase(), &unmarked(text));
    }
    for (value, meaning) in &entry.values {
        let separator = if meaning.is_empty() { "" } else { ": " };
        write_fact(&mut out, "value", &format!("{value}{separator}{}", unmarked(meaning)));
    }
    for paragraph in entry.text.split("\n\n").filter(|paragraph| !paragraph.is_empty()) {
        out.push('\n');
        write_lines(&mut out, 2, &unmarked(paragraph));
    }
    if !entry.example.is_empty() {
        out.push('\n');
    }
    for line in entry.example.lines() {
        let _ = writeln!(out, "{}", format!("    {line}").trim_end());
    }
    out
}

/// Markdown without its links and backquotes.
fn unmarked(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("](#") {
        let (before, label) = before.rsplit_once('[').unwrap_or((before, ""));
        out.push_str(before);
        out.push_str(label);
        rest = after.split_once(')').map_or("", |(_, rest)| rest);
    }
    out.push_str(rest);
    out.replace('`', "")
}

fn write_fact(out: &mut String, title: &str, text: &str) {
    let mut lines = wrapped(text, WIDTH - COLUMN - 2).into_iter();
    let _ = writeln!(out, "  {title:COLUMN$}{}", lines.next().unwrap_or_default());
    for line in lines {
        let _ = writeln!(out, "  {:COLUMN$}{line}", "");
    }
}

fn write_lines(out: &mut String, indent: usize, text: &str) {
    for line in wrapped(text, WIDTH - indent) {
        let _ = writeln!(out, "{:indent$}{line}", "");
    }
}

fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.len() + 1 + word.len() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markdown_becomes_plain() {
        assert_eq!(unmarked("see [Built-in words](#built-in-words), `a`."), "see Built-in words, a.");
        assert_eq!(unmarked("a list [0, 1]"), "a list [0, 1]");
        assert_eq!(wrapped("a bb ccc", 4), ["a bb", "ccc"]);
        assert_eq!(anchor("`[site]`, `[[site]]`"), "site-site");
    }
}
