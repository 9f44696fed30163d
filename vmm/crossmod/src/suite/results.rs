//! What a run of a suite gives: reports, and of what they are the results.

use crossmod_model::hex;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{Case, Shard};
use crate::host::Host;
use crate::image::Image;
use crate::report::Report;

/// All cases that were selected, in every shard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Selection {
    /// SHA-256 of their names, plans and expectations, in hex.
    pub digest: String,
    /// Their names, in the order of a run that is not sharded.
    pub cases: Vec<String>,
}

impl Selection {
    /// That of these cases.
    pub fn of(cases: &[Case]) -> Selection {
        Selection::new(cases.iter().map(|case| {
            let expect: Vec<&str> = case.plan.expect.iter().map(|property| property.name()).collect();
            (case.name.clone(), format!("{} {}", case.plan.digest(), expect.join(" ")))
        }))
    }

    /// From names, and what else makes them what they are.
    pub(super) fn new(cases: impl IntoIterator<Item = (String, String)>) -> Selection {
        let (mut hash, mut names) = (Sha256::new(), Vec::new());
        for (name, rest) in cases {
            hash.update(format!("{name}\n{rest}\n"));
            names.push(name);
        }
        let digest = hex::packed(&hash.finalize());
        Selection { digest, cases: names }
    }
}

/// The results of one run, or of several that were joined; `--format json` prints it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Results {
    /// Version of Crossmod.
    pub crossmod: String,
    /// Digest of the guest image.
    pub image: String,
    /// The options that a verdict may depend on, as on the command line; those that are not given are left out.
    pub options: String,
    /// Which part of the selection was run.
    pub shard: Shard,
    /// What was selected.
    pub selection: Selection,
    /// Where it ran.
    pub host: Host,
    /// Where else, for what was joined or resumed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub others: Vec<Host>,
    /// The reports, in the order of the selection.
    pub reports: Vec<Report>,
}

impl Results {
    /// Reports of this program, with default options, all of what was selected.
    pub fn of(host: Host, reports: Vec<Report>) -> Results {
        Results {
            crossmod: env!("CARGO_PKG_VERSION").into(),
            image: Image::digest(),
            options: String::new(),
            shard: Shard::WHOLE,
            selection: Selection::new(reports.iter().map(|report| (report.case(), report.plan.clone()))),
            host,
            others: Vec::new(),
            reports,
        }
    }

    /// Every machine that had a part in it.
    pub fn hosts(&self) -> impl Iterator<Item = &Host> {
        std::iter::once(&self.host).chain(&self.others)
    }

    /// Adds a machine, unless it is known.
    pub fn ran_on(&mut self, host: &Host) {
        if !self.hosts().any(|known| known == host) {
            self.others.push(host.clone());
        }
    }
}
