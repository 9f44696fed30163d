//! Judgements as data, for JSON.

use std::collections::BTreeMap;

use crossmod_linux::{Image, Member};
use serde::Serialize;

use super::{Judged, ModelOutcome, OneStore, Outcome, Provisos, RING, Verdict, safe, sites};
use crate::results::Tier;
use crate::sites::Origin;
use crate::sites::export::{EXECUTORS, PatchSetup};
use crate::x86::VendorRule;

/// Judgements with their origin.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Judgements {
    /// The tier: how scenarios were run.
    pub tier: Tier,
    /// The host and the images.
    #[serde(flatten)]
    pub origin: Origin,
    /// A judgement for each fetch model.
    pub judgements: Vec<Judgement>,
}

/// The judgement under one fetch model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Judgement {
    /// Name of the protocol.
    pub protocol: String,
    /// Vendor rule.
    pub rule: VendorRule,
    /// Name of the fetch model.
    pub fetch: String,
    /// Number of executors.
    pub executors: usize,
    /// Passes of each executor.
    pub passes: u8,
    /// Ring of the executors.
    pub ring: u8,
    /// Number of NMIs.
    pub nmi: u8,
    /// Number of sites to judge.
    pub sites: usize,
    /// Number of safe sites.
    pub safe: usize,
    /// Provisos for the safe sites.
    pub of_the_safe: Provisos,
    /// Number of sites that were not judged, because the run was interrupted.
    pub not_judged: usize,
    /// Sites without a second version, by kind: they are not among the sites to judge.
    pub one_version: BTreeMap<&'static str, usize>,
    /// What the sites need whatever the protocol.
    pub one_store: OneStore,
    /// The classes.
    pub classes: Vec<ClassRecord>,
}

/// A judged class.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct ClassRecord {
    /// The verdict.
    pub verdict: Verdict,
    /// Name of the kind.
    pub kind: &'static str,
    /// Length in bytes.
    pub length: u64,
    /// States of the versions.
    pub versions: [&'static str; 2],
    /// Lengths of the instructions of the versions, in bytes.
    pub instructions: [Vec<u8>; 2],
    /// The largest boundary that the sites cross.
    pub crossing: Option<Crossing>,
    /// Bit *n*: byte *n* differs between the versions.
    pub differs: u32,
    /// Number of sites.
    pub sites: usize,
    /// Label of the site whose scenarios were judged.
    pub representative: String,
    /// See [`Judged::adapted`].
    pub adapted: bool,
    /// See [`Judged::misses`].
    pub misses: usize,
    /// See [`Judged::left_out`].
    pub left_out: usize,
    /// Labels of all sites.
    pub members: Vec<String>,
}

/// A boundary that a site crosses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Crossing {
    /// Size of the block in bytes.
    pub boundary: u64,
    /// Number of bytes before the boundary.
    pub split: u64,
}

impl Judgements {
    /// The data of an outcome.
    pub fn new(images: &[Image], setup: &PatchSetup, outcome: &Outcome, origin: &Origin) -> Judgements {
        let one_version: BTreeMap<_, _> =
            outcome.without_class.iter().map(|(kind, count)| (kind.name(), *count)).collect();
        let judgement = |model: &ModelOutcome| Judgement {
            protocol: setup.protocol.clone(),
            rule: setup.rule,
            fetch: model.fetch.to_string(),
            executors: EXECUTORS,
            passes: setup.passes,
            ring: RING,
            nmi: setup.nmi,
            sites: outcome.sites,
            safe: safe(&model.judged),
            of_the_safe: Provisos::of(&model.judged, &Verdict::Safe),
            not_judged: outcome.sites - sites(&model.judged),
            one_version: one_version.clone(),
            one_store: model.one_store,
            classes: model.judged.iter().map(|judged| ClassRecord::new(images, judged)).collect(),
        };
        let judgements = outcome.models.iter().map(judgement).collect();
        Judgements { tier: Tier::Explore, origin: origin.clone(), judgements }
    }
}

impl ClassRecord {
    fn new(images: &[Image], judged: &Judged) -> ClassRecord {
        let label = |member: &Member| member.label(images);
        let traits = &judged.class.traits;
        ClassRecord {
            verdict: judged.verdict.clone(),
            kind: traits.kind.name(),
            length: traits.length,
            versions: [traits.disk.name(), traits.other.name()],
            instructions: traits.flows.each_ref().map(|flows| flows.iter().map(|(len, _)| *len).collect()),
            crossing: traits.crossing.map(|(boundary, split)| Crossing { boundary, split }),
            differs: traits.differs,
            sites: judged.sites(),
            representative: label(&judged.representative),
            adapted: judged.adapted,
            misses: judged.misses,
            left_out: judged.left_out,
            members: judged.class.members.iter().map(label).collect(),
        }
    }
}
