//! Tables of verdicts: protocols and their mutants against fetch models.

mod html;
mod plot;
mod text;

use serde::Serialize;

pub use html::html;
pub use text::{legend, text};

use crossmod_kvm::host::Host;
use crossmod_model::property::Property;

use crate::results::{Report, Status};

/// One row: a scenario or one of its mutants, under each fetch model.
#[derive(Debug, Clone, Serialize)]
pub struct MatrixRow {
    /// Name of the scenario.
    pub scenario: String,
    /// Its title.
    pub title: String,
    /// The mutation; empty for the unchanged scenario.
    pub change: String,
    /// Why the mutant is not a valid scenario, if it is not.
    pub refused: Option<String>,
    /// A report for each fetch model, in the order of [`Matrix::models`]; fewer if the run was interrupted.
    pub cells: Vec<Report>,
}

/// All rows, and the host that they were computed on.
#[derive(Debug, Serialize)]
pub struct Matrix<'a> {
    /// Version of Crossmod.
    pub crossmod: &'static str,
    /// Digest of the guest image.
    pub image: String,
    /// The host.
    pub host: &'a Host,
    /// Names of the fetch models.
    pub models: Vec<String>,
    /// The rows.
    pub rows: Vec<MatrixRow>,
    /// Further searches for the plot of search costs: transitions and seconds.
    pub costs: Vec<(u64, f64)>,
}

impl Matrix<'_> {
    /// Transitions and seconds of every search, including those of the cells.
    fn all_costs(&self) -> Vec<(u64, f64)> {
        let cells = self.rows.iter().flat_map(|row| &row.cells);
        let own = cells.filter_map(|cell| Some((cell.counts.transitions, cell.counts.seconds?)));
        own.chain(self.costs.iter().copied()).filter(|&(transitions, _)| transitions > 0).collect()
    }
}

/// A cell in a few words.
fn verdict(report: &Report, separator: &str, name: impl Fn(Property) -> &'static str) -> String {
    let found: Vec<&str> = report.violated().map(name).collect();
    match report.status {
        Status::Safe => "safe".into(),
        Status::Hazard => found.join(separator),
        Status::Vacuous => "vacuous".into(),
        Status::NotDecided => "?".into(),
        Status::Skipped => "skip".into(),
        Status::HarnessError => "ERROR".into(),
    }
}
