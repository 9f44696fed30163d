//! The results of a survey, as data.

use std::collections::BTreeMap;

use serde::ser::SerializeStruct;
use serde::{Deserialize, Serialize};

use super::cell::{Cell, Crosses};
use super::outcome::{Side, SideSeen};
use crate::host::Host;

/// An outcome that the `line` model or the vendor's model does not allow, or that nothing explains.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SurveyFinding {
    /// Length of the store, or the pair.
    pub what: String,
    /// Offset of the store in its line.
    pub offset: usize,
    /// What it crosses.
    pub crosses: Crosses,
    /// Who executed and stored.
    pub side: Side,
    /// The outcome.
    pub outcome: String,
    /// The model that does not allow it, or another reason.
    pub against: String,
    /// The vendor promises otherwise, or nothing explains it: the survey fails.
    pub broken: bool,
}

impl std::fmt::Display for SurveyFinding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let SurveyFinding { what, offset, crosses, side, outcome, against, broken: _ } = self;
        let (crosses, side) = (crosses.name(), side.name());
        write!(f, "{what} at {offset}, crosses {crosses}, {side}: {outcome} ({against}; not replayable)")
    }
}

/// One place. Its JSON also has what follows from the place.
#[derive(Debug, Clone, Deserialize)]
pub struct SurveyRow {
    /// The place.
    pub cell: Cell,
    /// The passes of each side; fewer if the survey was interrupted.
    pub seen: Vec<SideSeen>,
}

impl Serialize for SurveyRow {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let SurveyRow { cell, seen } = self;
        let mut row = serializer.serialize_struct("Row", 6)?;
        row.serialize_field("cell", cell)?;
        row.serialize_field("length", &cell.length)?;
        row.serialize_field("offset", &cell.offset())?;
        row.serialize_field("crosses", &cell.crosses())?;
        row.serialize_field("amd_promises_whole", &cell.amd_promises_whole())?;
        row.serialize_field("seen", seen)?;
        row.end()
    }
}

impl SurveyRow {
    /// The passes of one side.
    pub fn side(&self, side: Side) -> Option<&SideSeen> {
        self.seen.iter().find(|seen| seen.side == side)
    }
}

/// The outcomes of all places, compared with one fetch model.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct ModelLine {
    /// Name of the model.
    pub model: String,
    /// Different outcomes that it allows.
    pub allowed: u64,
    /// Different outcomes that it does not allow.
    pub forbidden: u64,
    /// Passes with those.
    pub forbidden_passes: u64,
    /// The same passes, by what the bytes cross.
    pub forbidden_by_boundary: BTreeMap<Crosses, u64>,
    /// Different outcomes that were not compared: too many stores lie between their bytes.
    pub unknown: u64,
}

/// A survey, with the machine that it ran on.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Survey {
    /// Version of Crossmod.
    pub crossmod: String,
    /// The kind of result.
    pub tier: String,
    /// The machine.
    pub host: Host,
    /// CPUs of the executor and of the writer.
    pub cpus: [usize; 2],
    /// Both threads were pinned to their CPUs.
    pub pinned: bool,
    /// Seed of the spacing of stores.
    pub seed: u64,
    /// Duration in seconds.
    pub seconds: f64,
    /// Ended by a signal before every place had its slices.
    pub interrupted: bool,
    /// The places.
    pub rows: Vec<SurveyRow>,
    /// The pairs of instructions.
    pub pairs: Vec<PairRow>,
    /// The outcomes, compared with each fetch model.
    pub models: Vec<ModelLine>,
    /// Outcomes that should not occur.
    pub findings: Vec<SurveyFinding>,
}

/// Passes of one side through a pair at one place.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct PairSeen {
    /// Who executed and stored.
    pub side: Side,
    /// All passes. Each is old, new, torn, or unexplained.
    pub passes: u64,
    /// Passes that showed the old version, of any store.
    pub old: u64,
    /// Passes that showed the new one.
    pub new: u64,
    /// Passes that executed bytes of both.
    pub torn: u64,
    /// Passes that left a value in RAX that no mix of the bytes leaves.
    pub unexplained: u64,
    /// Exceptions. No mix raises one that is not handled.
    pub exceptions: u64,
    /// Counts of the mixes that were executed, in hex.
    pub mixes: BTreeMap<String, u64>,
    /// Stores made.
    pub stores: u64,
    /// How long it ran.
    pub seconds: f64,
}

/// A pair at one place.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PairRow {
    /// Name of the pair.
    pub pair: String,
    /// The eight bytes of the old version, in hex.
    pub old: String,
    /// Those of the new version, in hex.
    pub new: String,
    /// Offset of the first byte in its line.
    pub offset: usize,
    /// What the bytes that differ cross.
    pub crosses: Crosses,
    /// AMD promises that the store is seen whole.
    pub amd_promises_whole: bool,
    /// More than one byte differs: it can be torn.
    pub several_bytes: bool,
    /// The passes of each side; fewer if the survey was interrupted, and without `plain` if a version raises #BP.
    pub seen: Vec<PairSeen>,
}

impl PairRow {
    /// Sides that run pairs.
    pub const SIDES: [Side; 4] = [Side::Host, Side::Vcpu, Side::Plain, Side::Cold];

    /// The passes of one side.
    pub fn side(&self, side: Side) -> Option<&PairSeen> {
        self.seen.iter().find(|seen| seen.side == side)
    }
}

/// A part of a survey that is complete.
#[derive(Debug)]
pub enum Done<'a> {
    /// A place.
    Row(&'a SurveyRow),
    /// A pair at one place.
    Pair(&'a PairRow),
}
