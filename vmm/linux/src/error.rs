//! Errors of images, each with a place, a reason and a remedy.

/// The reason why an image cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{place}: {reason}\nhelp: {remedy}", .file.as_ref().map_or(String::new(), |file| format!("{file}: ")))]
pub struct ImageError {
    /// The file, if known.
    pub file: Option<String>,
    /// The place in the file: a header, a section, a table entry.
    pub place: String,
    /// What is wrong there.
    pub reason: String,
    /// How to fix it.
    pub remedy: String,
}

impl ImageError {
    /// An error at a place.
    pub fn new(place: impl Into<String>, reason: impl Into<String>, remedy: impl Into<String>) -> Self {
        ImageError { file: None, place: place.into(), reason: reason.into(), remedy: remedy.into() }
    }

    /// An error that only damage explains.
    pub(crate) fn damaged(place: impl Into<String>, reason: impl Into<String>) -> Self {
        ImageError::new(place, reason, "the file is truncated or corrupted: download it again")
    }

    /// Adds the file, unless the error names one already.
    pub fn in_file(mut self, file: &str) -> Self {
        self.file.get_or_insert_with(|| file.to_owned());
        self
    }
}
