//! Scenario files on disk.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::Scenario;
use super::error::{ErrorKind, ScenarioError};

/// Largest scenario file, in bytes.
const LARGEST: u64 = 1 << 20;

/// Reads a scenario file. Nothing is parsed yet.
///
/// # Errors
///
/// Of kind [`ErrorKind::File`]: the path cannot be opened, is not a regular file, is larger than 1 MiB, is empty
/// or is not UTF-8.
pub fn load(path: &Path) -> Result<Scenario, ScenarioError> {
    let shown = path.display().to_string();
    let fail = |message: String, help: &str| {
        Err(ScenarioError::whole(ErrorKind::File, &shown, format!("{shown}: {message}"), help.to_owned()))
    };
    let metadata = match path.metadata() {
        Ok(metadata) => metadata,
        Err(error) => return fail(error.to_string(), "give the path of a scenario file (TOML)"),
    };
    if metadata.is_dir() {
        return fail("is a directory".into(), "give the path of a scenario file inside it");
    }
    // Opening a FIFO would wait for a writer.
    if !metadata.is_file() {
        return fail("is not a regular file".into(), "give the path of a scenario file (TOML)");
    }
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(LARGEST + 1).read_to_end(&mut bytes));
    if let Err(error) = read {
        return fail(error.to_string(), "make the file readable");
    }
    if bytes.len() as u64 > LARGEST {
        return fail(
            format!("has {} bytes, more than the {LARGEST} of the largest scenario", metadata.len()),
            "a scenario is a few dozen lines of TOML: is this another file?",
        );
    }
    let text = match String::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => {
            let at = error.utf8_error().valid_up_to();
            return fail(
                format!("is not UTF-8 text (byte {at})"),
                "a scenario is text: is this a binary, or saved in another encoding?",
            );
        }
    };
    // TOML has none of them, and quoting one in a message could confuse a terminal.
    let binary = |character: &char| character.is_ascii_control() && !matches!(character, '\t' | '\n' | '\r');
    if let Some(at) = text.find(|character| binary(&character)) {
        return fail(
            format!("is not text: byte {at} is a control character"),
            "a scenario is text: is this a binary?",
        );
    }
    if text.trim().is_empty() {
        return fail("is empty".into(), "start from a copy of a shipped scenario");
    }
    Ok(Scenario { name: name(path), text, path: shown })
}

/// `directory/stem`, as the shipped scenarios are called.
fn name(path: &Path) -> String {
    let part = |part: Option<&std::ffi::OsStr>| part.map(|part| part.to_string_lossy().into_owned());
    let stem = part(path.file_stem()).unwrap_or_default();
    match part(path.parent().and_then(Path::file_name)) {
        Some(group) => format!("{group}/{stem}"),
        None => stem,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error_for(bytes: &[u8]) -> ScenarioError {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.toml");
        std::fs::write(&path, bytes).unwrap();
        load(&path).unwrap_err()
    }

    #[test]
    fn a_file_is_named_after_its_directory() {
        let directory = tempfile::tempdir().unwrap();
        let group = directory.path().join("mine");
        std::fs::create_dir(&group).unwrap();
        std::fs::write(group.join("site.toml"), "title = 1").unwrap();
        assert_eq!(load(&group.join("site.toml")).unwrap().name, "mine/site");
        assert_eq!(name(Path::new("site.toml")), "site");
    }

    #[test]
    fn unusable_files_are_told_apart() {
        let directory = tempfile::tempdir().unwrap();
        let error = load(directory.path()).unwrap_err();
        assert!(error.to_string().ends_with("is a directory"), "{error}");
        let error = load(&directory.path().join("none.toml")).unwrap_err();
        assert!(error.to_string().contains("No such file"), "{error}");
        let error = load(Path::new("/dev/zero")).unwrap_err();
        assert!(error.to_string().contains("not a regular file"), "{error}");
        for (bytes, message) in [
            (&b""[..], "is empty"),
            (&b" \n\t\n"[..], "is empty"),
            (&b"title = \"\xff\xfe\""[..], "is not UTF-8 text (byte 9)"),
            (&b"\x7fELF\x02\x01\x01\x00\x80"[..], "is not UTF-8 text (byte 8)"),
            (&b"\0\0\0\0"[..], "is not text: byte 0 is a control character"),
            (&b"title = \"\x1b[31m\""[..], "is not text: byte 9 is a control character"),
        ] {
            let error = error_for(bytes);
            assert!(error.to_string().contains(message), "{error}");
            assert_eq!(error.kind(), ErrorKind::File);
            assert!(!error.advice().is_empty());
        }
    }

    #[test]
    fn a_huge_file_is_refused_without_reading_all_of_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("huge.toml");
        let file = File::create(&path).unwrap();
        file.set_len(100 << 20).unwrap();
        let error = load(&path).unwrap_err();
        assert!(error.to_string().contains("104857600 bytes"), "{error}");
    }
}
