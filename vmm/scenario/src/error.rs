//! Errors that point into a scenario file.

use std::ops::Range;
use std::sync::Arc;

use iced_x86::IcedError;
use miette::{Diagnostic, NamedSource, SourceSpan};

/// Why a scenario cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The file cannot be read as text.
    File,
    /// The text is not TOML, or a key or a type is wrong.
    Syntax,
    /// The text is well formed and asks for something contradictory.
    Invalid,
    /// The scenario is fine, but not with the options that were given: skip it, and say why.
    Unsupported,
}

/// An error in a scenario, with its place and what to change.
#[derive(Debug, Clone, thiserror::Error, Diagnostic)]
#[error("{message}")]
pub struct ScenarioError {
    message: String,
    #[source_code]
    source_code: Arc<NamedSource<String>>,
    #[label("{label}")]
    span: Option<SourceSpan>,
    label: &'static str,
    #[help]
    help: String,
    kind: ErrorKind,
}

impl ScenarioError {
    /// An error that concerns the file as a whole.
    pub(super) fn whole(kind: ErrorKind, name: &str, message: String, help: String) -> Self {
        let source_code = Arc::new(NamedSource::new(name, String::new()));
        ScenarioError { message, source_code, span: None, label: "", help, kind }
    }

    /// The assembler refuses the programs, for a limit of its own.
    pub(super) fn of_assembler(reason: &str) -> Self {
        let message = format!("the programs cannot be assembled: {reason}");
        let help = "this is a limit of the compiler: simplify them".to_owned();
        ScenarioError::whole(ErrorKind::Invalid, "programs", message, help)
    }

    /// The same error at this place, unless it has one.
    pub(super) fn or_at(self, place: &Place) -> Self {
        if self.span.is_some() { self } else { place.error(self.message, "here", self.help) }
    }

    /// What sort of error it is.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Name of the file in question.
    pub fn file(&self) -> &str {
        self.source_code.name()
    }

    /// Line and column, both from 1, in characters; `None` if the error concerns the whole file.
    pub fn position(&self) -> Option<(usize, usize)> {
        let offset = self.span?.offset();
        let before = self.source_code.inner().get(..offset)?;
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or(before).chars().count() + 1;
        Some((line, column))
    }

    /// What to change.
    pub fn advice(&self) -> &str {
        &self.help
    }

    /// The same error of another kind.
    pub(super) fn of_kind(mut self, kind: ErrorKind) -> Self {
        self.kind = kind;
        self
    }
}

impl From<IcedError> for ScenarioError {
    fn from(error: IcedError) -> Self {
        ScenarioError::of_assembler(&error.to_string())
    }
}

/// The text that places refer to.
#[derive(Debug, Default, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Source {
    /// The file's name, or path.
    pub name: Arc<str>,
    pub text: Arc<str>,
}

impl Source {
    pub(super) fn new(name: &str, text: &str) -> Self {
        Source { name: name.into(), text: text.into() }
    }

    pub(super) fn at(&self, span: Range<usize>) -> Place {
        Place { source: self.clone(), start: span.start, end: span.end }
    }
}

/// A place in a scenario or in a protocol file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub source: Source,
    start: usize,
    end: usize,
}

impl Place {
    /// The top of the same file.
    pub(super) fn top(&self) -> Place {
        self.source.at(0..1)
    }

    /// Where the line begins, in bytes.
    pub(super) fn line(&self) -> usize {
        self.source.text[..self.start].rfind('\n').map_or(0, |end| end + 1)
    }

    /// What is wrong here, in the words of `label` under the caret, and what to change.
    pub(super) fn error(
        &self,
        message: impl Into<String>,
        label: &'static str,
        help: impl Into<String>,
    ) -> ScenarioError {
        let Source { name, text } = &self.source;
        let start = self.start.min(text.len());
        let end = self.end.clamp(start, text.len());
        ScenarioError {
            message: message.into(),
            source_code: Arc::new(NamedSource::new(name, text.to_string()).with_language("TOML")),
            span: Some((start..end).into()),
            label,
            help: help.into(),
            kind: ErrorKind::Invalid,
        }
    }
}

/// The known name nearest to a misspelt one, for a help line; none if none is near.
pub fn nearest<'a>(wrong: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // Long input is not a misspelling, and computing the distance takes quadratic time.
    if wrong.len() > 40 {
        return None;
    }
    let distance = |name: &'a str| (strsim::levenshtein(wrong, name), name);
    let (distance, name) = known.into_iter().map(distance).min()?;
    (distance <= 1 + name.len() / 4).then_some(name)
}

/// What to change about a misspelt name: the known one that is near, `otherwise` if there is none.
pub(super) fn suggest(wrong: &str, known: &[&str], otherwise: &str) -> String {
    let near = nearest(wrong, known.iter().copied());
    near.map_or_else(|| otherwise.to_owned(), |name| format!("did you mean `{name}`?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelling_finds_its_name_and_noise_finds_none() {
        assert_eq!(nearest("sync-in3", ["arm", "sync-int3", "tail"]), Some("sync-int3"));
        assert_eq!(nearest("elephant", ["arm", "sync-int3", "tail"]), None);
    }

    #[test]
    fn positions_count_from_one_and_in_characters() {
        let source = Source::new("x", "a\né = 1\n");
        let error = source.at(5..6).error("m", "l", "h");
        assert_eq!(error.position(), Some((2, 3)));
        let error = source.at(900..901).error("m", "l", "h");
        assert_eq!(error.position(), Some((3, 1)));
    }
}
