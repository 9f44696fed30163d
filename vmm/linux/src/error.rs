//! Why an image cannot be read: the place, the reason, the remedy.

use std::fmt;

/// An image, or a part of it, that is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct ImageError {
    /// The file, once it is known.
    pub file: Option<String>,
    /// Where in it: a header, a section, a table entry.
    pub place: String,
    /// What is wrong there.
    pub reason: String,
    /// What to do about it.
    pub remedy: String,
}

impl ImageError {
    /// Something wrong at a place.
    pub fn new(place: impl Into<String>, reason: impl Into<String>, remedy: impl Into<String>) -> Self {
        ImageError { file: None, place: place.into(), reason: reason.into(), remedy: remedy.into() }
    }

    /// Something that only damage explains.
    pub(super) fn damaged(place: impl Into<String>, reason: impl Into<String>) -> Self {
        ImageError::new(place, reason, "the file is truncated or corrupted: fetch it again")
    }

    /// The same, said of a file, unless a file inside of it is named already.
    pub fn in_file(mut self, file: &str) -> Self {
        self.file.get_or_insert_with(|| file.to_owned());
        self
    }
}

impl fmt::Display for ImageError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(file) = &self.file {
            write!(formatter, "{file}: ")?;
        }
        write!(formatter, "{}: {}\nhelp: {}", self.place, self.reason, self.remedy)
    }
}
