//! The journal of a run: each verdict is written to disk as soon as it is known, so that a run can resume after any kind
//! of interruption without losing or repeating a verdict.
//!
//! A journal consists of lines of JSON. The first line says what the verdicts belong to; a line with a host precedes the
//! reports that were made on that host. A line counts once its line feed is written: bytes after the last line feed were
//! being written when the run ended, and are cut off.

use std::collections::BTreeMap;
use std::fs::{File, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crossmod_kvm::host::Host;
use crossmod_model::image::Image;
use crossmod_model::plan::Ring;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::Case;
use crate::results::{Report, Status};

/// Version of the format.
const FORMAT: u32 = 1;
/// First bytes of a journal.
const BEGINNING: &[u8] = b"{\"journal\":";

/// What the verdicts of a journal depend on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// Version of the format.
    pub journal: u32,
    /// Version of Crossmod.
    pub crossmod: String,
    /// Digest of the guest image.
    pub image: String,
    /// The options that a verdict may depend on.
    pub options: String,
}

impl Header {
    /// The header that this program writes.
    pub fn new(options: &str) -> Header {
        Header {
            journal: FORMAT,
            crossmod: env!("CARGO_PKG_VERSION").into(),
            image: Image::digest(),
            options: options.into(),
        }
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Line {
    Host(Host),
    Report(Box<Report>),
}

/// Why a journal cannot be used; each variant begins with its path.
#[derive(Debug, Error)]
pub enum JournalError {
    /// The file cannot be opened, read or written.
    #[error("{0}: {1}")]
    File(String, String),
    /// The file is not a journal; it was not changed.
    #[error("{0} is not a journal and was not changed: give --resume a file that does not exist yet")]
    NotOne(String),
    /// The journal belongs to another run.
    #[error(
        "{path} is the journal of another {what}: there it is `{theirs}`, here `{ours}`; use the same {what}, or give a \
         new file to start over"
    )]
    Other {
        /// Its path.
        path: String,
        /// What differs.
        what: &'static str,
        /// The value in the journal.
        theirs: String,
        /// The value of this run.
        ours: String,
    },
    /// A line before the last, with its number from 1, cannot be read.
    #[error("{0}:{1}: the line is damaged: {2}; remove it, and its case is checked again")]
    Damaged(String, usize, String),
    /// Another process writes to the file.
    #[error("{0} is being written by another run: wait until that run ends, or give another file")]
    InUse(String),
}

/// An open journal.
#[derive(Debug)]
pub struct Journal {
    file: File,
    path: PathBuf,
    known: BTreeMap<String, Vec<Report>>,
    hosts: Vec<Host>,
    host: Option<Host>,
}

impl Journal {
    /// Opens a journal or creates it, and locks it until it is dropped.
    ///
    /// # Errors
    ///
    /// See [`JournalError`]. A file that is not a journal is not changed.
    pub fn open(path: &Path, header: &Header) -> Result<Journal, JournalError> {
        let shown = || path.display().to_string();
        let fail = |error: std::io::Error| JournalError::File(shown(), error.to_string());
        if path.metadata().is_ok_and(|metadata| !metadata.is_file()) {
            return Err(JournalError::File(shown(), "not a regular file; give the path of one".into()));
        }
        let mut file = File::options().read(true).append(true).create(true).open(path).map_err(fail)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(JournalError::InUse(shown())),
            Err(TryLockError::Error(error)) => return Err(fail(error)),
        }
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(fail)?;
        let whole = bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
        let torn = bytes.split_off(whole);
        if bytes.is_empty() && !(BEGINNING.starts_with(&torn) || torn.starts_with(BEGINNING)) {
            return Err(JournalError::NotOne(shown()));
        }
        let (known, hosts) =
            if bytes.is_empty() { Default::default() } else { read(&shown(), &bytes, header)? };
        if !torn.is_empty() {
            file.set_len(whole as u64).map_err(fail)?;
            file.seek(SeekFrom::End(0)).map_err(fail)?;
        }
        let mut journal = Journal { file, path: path.to_owned(), known, hosts, host: None };
        if bytes.is_empty() {
            journal.write(header)?;
            // The name must last as well.
            if let Some(parent) = path.parent() {
                let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
                File::open(parent).and_then(|directory| directory.sync_all()).map_err(fail)?;
            }
        }
        Ok(journal)
    }

    /// The machines that the reports were made on.
    pub fn hosts(&self) -> &[Host] {
        &self.hosts
    }

    /// The report of a case, if the journal has one for exactly this plan and expectation.
    pub fn known(&self, case: &Case, ring: Option<Ring>) -> Option<Report> {
        let reports = self.known.get(&case.name)?;
        let plan = case.digest(ring)?;
        let same = |report: &&Report| report.plan == plan && report.expect == case.plan.expect;
        reports.iter().rev().find(same).cloned()
    }

    /// Writes a report, made on `host`, to the disk if it is a verdict. A case that was skipped, interrupted or failed is
    /// tried again when the run resumes.
    ///
    /// # Errors
    ///
    /// [`JournalError::File`] if the file cannot be written.
    pub fn append(&mut self, host: &Host, report: &Report) -> Result<(), JournalError> {
        if matches!(report.status, Status::Skipped | Status::HarnessError) || report.interrupted() {
            return Ok(());
        }
        if self.host.as_ref() != Some(host) {
            self.write(&Line::Host(host.clone()))?;
            self.host = Some(host.clone());
        }
        self.write(&Line::Report(Box::new(report.clone())))
    }

    /// Writes one line by one call, and waits until it is on the disk.
    fn write(&mut self, line: &impl Serialize) -> Result<(), JournalError> {
        let written = serde_json::to_vec(line).map_err(std::io::Error::from).and_then(|mut text| {
            text.push(b'\n');
            self.file.write_all(&text)?;
            self.file.sync_data()
        });
        written.map_err(|error| JournalError::File(self.path.display().to_string(), error.to_string()))
    }
}

type Known = (BTreeMap<String, Vec<Report>>, Vec<Host>);

fn read(path: &str, bytes: &[u8], header: &Header) -> Result<Known, JournalError> {
    let mut lines = bytes.split(|&byte| byte == b'\n').enumerate().filter(|(_, line)| !line.is_empty());
    let first = lines.next().and_then(|(_, line)| serde_json::from_slice::<Header>(line).ok());
    let Some(first) = first else { return Err(JournalError::NotOne(path.into())) };
    for (what, theirs, ours) in [
        ("format", first.journal.to_string(), header.journal.to_string()),
        ("version of Crossmod", first.crossmod, header.crossmod.clone()),
        ("guest image", first.image, header.image.clone()),
        ("set of options", first.options, header.options.clone()),
    ] {
        if theirs != ours {
            return Err(JournalError::Other { path: path.into(), what, theirs, ours });
        }
    }
    let (mut known, mut hosts) = Known::default();
    for (index, line) in lines {
        let line: Line = serde_json::from_slice(line)
            .map_err(|error| JournalError::Damaged(path.into(), index + 1, error.to_string()))?;
        match line {
            Line::Host(host) if !hosts.contains(&host) => hosts.push(host),
            Line::Host(_) => {}
            Line::Report(report) => known.entry(report.case()).or_default().push(*report),
        }
    }
    Ok((known, hosts))
}
