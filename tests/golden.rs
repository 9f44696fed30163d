//! Golden files: what a counter-example looks like to its reader. `CROSSMOD_BLESS=1` rewrites them; look at
//! the difference before it is committed.

use std::path::PathBuf;

use crossmod::results::Finding;

/// Width of rendered schedules in golden files.
pub const WIDTH: usize = 110;

fn path(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden")).join(format!("{name}.txt"))
}

/// Compares a finding, rendered at [`WIDTH`], with the golden file of that name.
pub fn compare(name: &str, finding: &Finding) {
    let shown = format!(
        "{}: {}\n{} moves, {} context switches\n\n{}",
        finding.violation.property,
        finding.violation.detail,
        finding.schedule.len(),
        finding.switches,
        finding.rendering
    );
    let path = path(name);
    if std::env::var("CROSSMOD_BLESS").is_ok_and(|value| value == "1") {
        std::fs::write(&path, shown).unwrap();
        return;
    }
    let golden = std::fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("{}: {error}; CROSSMOD_BLESS=1 writes it", path.display()));
    assert!(
        golden == shown,
        "{} no longer shows this counter-example; if that is right, CROSSMOD_BLESS=1 rewrites it.\n\
         --- golden\n{golden}\n--- now\n{shown}",
        path.display()
    );
}
