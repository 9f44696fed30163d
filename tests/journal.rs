//! The journal of a run, cut at every byte. Needs no KVM.

use std::path::Path;
use std::time::Duration;

use crossmod::host::Host;
use crossmod::results::{Reason, Report, Status};
use crossmod::scenario;
use crossmod::suite::{self, Case, Header, Journal, JournalError};

fn cases() -> Vec<Case> {
    let names = ["seed/fixup", "matrix/int3", "seed/naive-store"];
    let scenarios: Vec<_> =
        scenario::library().into_iter().filter(|scenario| names.contains(&scenario.name.as_str())).collect();
    suite::cases(&scenarios, &[]).unwrap()
}

/// Opens a journal that was dropped. Other tests start processes, and a new process holds all open files of this one
/// until it executes its program. A lock can therefore outlive its journal for a moment.
fn reopen(path: &Path, header: &Header) -> Result<Journal, JournalError> {
    for _ in 0..10_000 {
        match Journal::open(path, header) {
            Err(JournalError::InUse { .. }) => std::thread::sleep(Duration::from_millis(1)),
            result => return result,
        }
    }
    Journal::open(path, header)
}

/// A case as if it had been checked.
fn report(case: &Case, status: Status) -> Report {
    Report {
        status,
        reason: None,
        plan: case.plan.digest(),
        expect: case.plan.expect.clone(),
        ..Report::skipped(&case.scenario.name, Reason::BeforeItsTurn).under(Some(case.model))
    }
}

#[test]
fn wherever_it_is_cut_what_was_whole_is_known_and_the_rest_is_written_again() {
    let (cases, host, header) = (cases(), Host::read(), Header::new("--ring 0"));
    assert!(cases.len() >= 8);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("journal");
    let mut journal = Journal::open(&path, &header).unwrap();
    for case in &cases {
        journal.append(&host, &report(case, Status::Safe)).unwrap();
    }
    drop(journal);
    let bytes = std::fs::read(&path).unwrap();
    for cut in 0..=bytes.len() {
        let part = directory.path().join("part");
        std::fs::write(&part, &bytes[..cut]).unwrap();
        // The header and the host are lines as well.
        let whole = bytes[..cut].iter().filter(|&&byte| byte == b'\n').count().saturating_sub(2);
        let mut journal = reopen(&part, &header).unwrap();
        let known = cases.iter().filter(|case| journal.known(case, None).is_some()).count();
        assert_eq!(known, whole, "cut at {cut}");
        // Opened after every byte; continued only now and then, because each line waits for the disk.
        if cut % 997 != 0 {
            continue;
        }
        for case in &cases {
            if journal.known(case, None).is_none() {
                journal.append(&host, &report(case, Status::Safe)).unwrap();
            }
        }
        drop(journal);
        let again = reopen(&part, &header).unwrap();
        assert!(cases.iter().all(|case| again.known(case, None).is_some()), "cut at {cut}");
        assert_eq!(again.hosts(), std::slice::from_ref(&host));
        let reports = std::fs::read_to_string(&part).unwrap().matches("{\"report\":").count();
        assert_eq!(reports, cases.len(), "cut at {cut}");
    }
}

#[test]
fn what_is_no_verdict_is_not_kept_and_what_is_another_is_not_taken() {
    let (cases, host, header) = (cases(), Host::read(), Header::new(""));
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("journal");
    let mut journal = Journal::open(&path, &header).unwrap();
    let interrupted = Report {
        ended: Some(crossmod::explore::Ended::Interrupted),
        ..report(&cases[0], Status::NotDecided)
    };
    for none in [report(&cases[0], Status::Skipped), report(&cases[0], Status::HarnessError), interrupted] {
        journal.append(&host, &none).unwrap();
    }
    let other = Report { plan: String::new(), ..report(&cases[0], Status::Safe) };
    journal.append(&host, &other).unwrap();
    assert!(matches!(Journal::open(&path, &header), Err(JournalError::InUse { .. })));
    drop(journal);
    let journal = reopen(&path, &header).unwrap();
    assert!(journal.known(&cases[0], None).is_none());
    assert_eq!(std::fs::read_to_string(&path).unwrap().matches("{\"report\":").count(), 1);
    drop(journal);
    let error = reopen(&path, &Header::new("--verify")).unwrap_err().to_string();
    assert!(error.contains("there it is ``, here `--verify`"), "{error}");
}
