//! The pages at the top of the tree, and how to read them.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

pub const CROSSMOD: &str = env!("CARGO_BIN_EXE_crossmod");

const PAGES: [&str; 7] = [
    "README.md",
    "GUIDE.md",
    "REFERENCE.md",
    "MEASUREMENTS.md",
    "ARCHITECTURE.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
];

/// A page and its name.
pub struct Page {
    pub name: &'static str,
    pub text: String,
}

impl Page {
    pub fn named(name: &'static str) -> Page {
        let text =
            std::fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        Page { name, text }
    }

    /// The contents of the fenced blocks of one language.
    pub fn blocks(&self, language: &str) -> Vec<String> {
        let mut blocks = Vec::new();
        for (fence, line) in self.fenced() {
            match fence {
                Fence::Opens(name) if name == language => blocks.push(String::new()),
                Fence::Inside(name) if name == language => {
                    let block: &mut String = blocks.last_mut().unwrap();
                    block.push_str(line);
                    block.push('\n');
                }
                _ => {}
            }
        }
        blocks
    }

    /// The lines outside of fenced blocks.
    pub fn prose(&self) -> impl Iterator<Item = &str> {
        self.fenced().filter(|(fence, _)| matches!(fence, Fence::Outside)).map(|(_, line)| line)
    }

    /// The text between backticks in the prose; a span does not continue on the next line.
    pub fn spans(&self) -> impl Iterator<Item = &str> {
        self.prose().flat_map(|line| line.split('`').skip(1).step_by(2))
    }

    fn fenced(&self) -> impl Iterator<Item = (Fence<'_>, &str)> {
        let mut open: Option<&str> = None;
        self.text.lines().map(move |line| match (open, line.strip_prefix("```")) {
            (None, Some(language)) => {
                open = Some(language);
                (Fence::Opens(language), line)
            }
            (Some(_), Some(_)) => {
                open = None;
                (Fence::Closes, line)
            }
            (Some(language), None) => (Fence::Inside(language), line),
            (None, None) => (Fence::Outside, line),
        })
    }
}

/// Where a line is, by the language of the block.
enum Fence<'a> {
    Outside,
    Opens(&'a str),
    Inside(&'a str),
    Closes,
}

/// The directory of Cargo.lock.
pub fn root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.ancestors().find(|directory| directory.join("Cargo.lock").exists()).unwrap().to_owned()
}

/// The pages that exist.
pub fn pages() -> impl Iterator<Item = Page> {
    PAGES.into_iter().filter(|name| root().join(name).exists()).map(Page::named)
}

/// The arguments of Crossmod in a command line, if it is one.
pub fn arguments(command: &str) -> Option<Vec<&str>> {
    let rest =
        ["cargo run --release -- ", "crossmod "].iter().find_map(|prefix| command.strip_prefix(prefix))?;
    Some(rest.split_whitespace().collect())
}

pub fn crossmod(arguments: &[&str], directory: &Path) -> Output {
    Command::new(CROSSMOD)
        .args(arguments)
        .current_dir(directory)
        .env("COLUMNS", "100")
        .env_remove("CROSSMOD_SEED")
        .output()
        .unwrap()
}
