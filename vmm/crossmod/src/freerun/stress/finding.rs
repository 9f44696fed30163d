//! The first finding of each property, with its context, written to disk before it is reported.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use serde::Serialize;

use crate::host::Host;
use crate::machine::free::Pass;
use crate::property::Property;

/// Why a finding cannot be replayed.
pub const NOT_REPLAYABLE: &str = "seen once, at full speed, on this machine: there is no record of the schedule, and the same seed makes a \
     similar run, not the same one";

/// A pass as it was logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Logged {
    /// The version that was complete when the pass began: 2r is the old one of round r, 2r + 1 the new one.
    pub done: u64,
    /// The value that it left in RAX.
    pub rax: u64,
    /// The version whose first store had begun when the pass was over.
    pub begun: u64,
}

impl From<&Pass> for Logged {
    fn from(pass: &Pass) -> Logged {
        Logged { done: pass.done, rax: pass.value, begun: pass.begun }
    }
}

/// A violation.
#[derive(Debug, Clone, Serialize)]
pub struct Event {
    /// The violated property.
    pub property: Property,
    /// Its description.
    pub what: String,
    /// Number of the executor.
    pub executor: usize,
    /// Whose pass it was: `executor`, `nmi handler`, `irq handler`, or `patcher`.
    pub by: &'static str,
    /// The pass, if it was complete.
    pub pass: Option<Logged>,
    /// Passes of the same executor just before it, oldest first.
    pub before: Vec<Logged>,
    /// Passes just after it.
    pub after: Vec<Logged>,
}

impl Event {
    /// An event outside of any complete pass.
    pub fn new(property: Property, what: String, executor: usize, by: &'static str) -> Event {
        Event { property, what, executor, by, pass: None, before: Vec::new(), after: Vec::new() }
    }
}

/// The circumstances of every finding of a run.
#[derive(Debug, Clone, Serialize)]
pub struct Circumstances {
    /// Version of Crossmod.
    pub crossmod: &'static str,
    /// The kind of result.
    pub tier: &'static str,
    /// Name of the scenario.
    pub scenario: String,
    /// Digest of its plan.
    pub plan: String,
    /// The machine.
    pub host: Host,
    /// Seed.
    pub seed: u64,
    /// vCPUs.
    pub executors: usize,
    /// Page offset of the site's first byte.
    pub offset: u64,
    /// Up to 16 bytes before the site, in hex.
    pub bytes_before: String,
    /// Up to 16 bytes behind it, in hex.
    pub bytes_after: String,
}

/// A finding.
#[derive(Debug, Clone, Serialize)]
pub struct StressFinding {
    /// Always false.
    pub replayable: bool,
    /// The reason.
    pub not_replayable: &'static str,
    /// The command that explores for the same hazard deterministically.
    pub explore: String,
    /// The round.
    pub round: u64,
    /// The site's bytes in the old version of that round, in hex.
    pub old: String,
    /// In the new version.
    pub new: String,
    /// The violation.
    #[serde(flatten)]
    pub event: Event,
    /// The run.
    #[serde(flatten)]
    pub run: Circumstances,
}

impl std::fmt::Display for StressFinding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Event { property, what, executor, by, .. } = &self.event;
        write!(f, "{property}: {what} (round {}, {by} {executor}; not replayable)", self.round)
    }
}

/// Keeps the first finding of each property.
pub struct Recorder<'a> {
    directory: PathBuf,
    stem: String,
    /// Bit *i*: the property with this number has a finding.
    seen: AtomicU32,
    failed: AtomicBool,
    kept: Mutex<Kept>,
    /// Called with each finding after it was written to disk.
    found: &'a (dyn Fn(&StressFinding, &Path) + Sync),
}

#[derive(Default)]
struct Kept {
    findings: BTreeMap<Property, StressFinding>,
    failed: Option<(PathBuf, io::Error)>,
}

impl<'a> Recorder<'a> {
    /// A recorder that writes `DIRECTORY/STEM.PROPERTY.finding.json`.
    pub fn new(
        directory: &Path,
        name: &str,
        found: &'a (dyn Fn(&StressFinding, &Path) + Sync),
    ) -> Recorder<'a> {
        Recorder {
            directory: directory.to_owned(),
            stem: name.replace(['/', '\\'], "."),
            seen: AtomicU32::new(0),
            failed: AtomicBool::new(false),
            kept: Mutex::default(),
            found,
        }
    }

    /// Notes a finding if it is the first of its property: first on disk, then in memory.
    pub fn note(&self, property: Property, finding: impl FnOnce() -> StressFinding) {
        let bit = 1 << property as u32;
        if self.seen.load(Ordering::Relaxed) & bit != 0
            || self.seen.fetch_or(bit, Ordering::Relaxed) & bit != 0
        {
            return;
        }
        let finding = finding();
        let path = self.directory.join(format!("{}.{property}.finding.json", self.stem));
        let text = serde_json::to_string_pretty(&finding).map_err(io::Error::other);
        // A poisoned lock means that a thread panicked while holding it, but findings are inserted whole.
        let mut kept = self.kept.lock().unwrap_or_else(|error| error.into_inner());
        match text.and_then(|text| write(&path, &(text + "\n"))) {
            Ok(()) => (self.found)(&finding, &path),
            Err(error) => {
                kept.failed.get_or_insert((path, error));
                self.failed.store(true, Ordering::Relaxed);
            }
        }
        kept.findings.insert(property, finding);
    }

    /// True after a finding could not be written.
    pub fn failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }

    /// The findings, and the first file that could not be written.
    pub fn finish(self) -> (Vec<StressFinding>, Option<(PathBuf, io::Error)>) {
        let kept = self.kept.into_inner().unwrap_or_else(|error| error.into_inner());
        (kept.findings.into_values().collect(), kept.failed)
    }
}

/// Writes a file completely or not at all, even if the process is killed or the machine stops: to disk under another
/// name, which is then renamed.
///
/// # Errors
///
/// Those of the file system.
pub fn write(path: &Path, text: &str) -> io::Result<()> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = directory.join(format!(".{name}.{}", std::process::id()));
    let mut file = File::create(&temporary)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    File::open(directory)?.sync_all()
}
