//! The results of a run: the reports, and the selection of cases that they belong to.

use std::fmt;
use std::str::FromStr;

use crossmod_kvm::host::Host;
use crossmod_linux::sha256;
use crossmod_model::image::Image;
use serde::{Deserialize, Serialize};

use super::report::Report;

/// All cases that were selected, over every shard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Selection {
    /// SHA-256 of their names, plans and expectations, in hex.
    pub digest: String,
    /// Their names, in the order of a run without shards.
    pub cases: Vec<String>,
}

impl Selection {
    /// From names, each with the text that identifies what the name stands for.
    pub(crate) fn new(cases: impl IntoIterator<Item = (String, String)>) -> Selection {
        let (cases, texts): (_, Vec<String>) =
            cases.into_iter().map(|(name, rest)| (name.clone(), format!("{name}\n{rest}\n"))).unzip();
        Selection { digest: sha256(texts.concat()), cases }
    }

    /// The cases of `reports`.
    pub(crate) fn of_reports(reports: &[Report]) -> Selection {
        Selection::new(reports.iter().map(|report| (report.case(), report.plan.clone())))
    }
}

/// The results of one run, or of several that were joined: the document that `--format json` prints.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Results {
    /// Version of Crossmod.
    pub crossmod: String,
    /// Digest of the guest image.
    pub image: String,
    /// The options that a verdict may depend on, as given on the command line.
    pub options: String,
    /// The part of the selection that was run.
    pub shard: Shard,
    /// The whole selection.
    pub selection: Selection,
    /// The machine that it ran on.
    pub host: Host,
    /// Further machines, of results that were joined or resumed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub others: Vec<Host>,
    /// The reports, in the order of the selection.
    pub reports: Vec<Report>,
}

impl Results {
    /// A whole run of this program with default options.
    pub fn of(host: Host, reports: Vec<Report>) -> Results {
        Results {
            crossmod: env!("CARGO_PKG_VERSION").into(),
            image: Image::digest(),
            options: String::new(),
            shard: Shard::WHOLE,
            selection: Selection::of_reports(&reports),
            host,
            others: Vec::new(),
            reports,
        }
    }

    /// Every machine that took part.
    pub fn hosts(&self) -> impl Iterator<Item = &Host> {
        std::iter::once(&self.host).chain(&self.others)
    }

    /// Adds a machine, unless it is listed already.
    pub fn ran_on(&mut self, host: &Host) {
        if !self.hosts().any(|known| known == host) {
            self.others.push(host.clone());
        }
    }
}

/// Part `index` of `count`; both count from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Shard {
    /// Which.
    pub index: u32,
    /// Of how many.
    pub count: u32,
}

impl Shard {
    /// All of a suite.
    pub const WHOLE: Shard = Shard { index: 1, count: 1 };
    /// Most parts of a suite.
    pub const MOST: u32 = 4096;
}

/// `K/N`.
impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Shard, String> {
        let numbers = text
            .split_once('/')
            .and_then(|(index, count)| Some((index.parse::<u32>().ok()?, count.parse::<u32>().ok()?)));
        match numbers {
            Some((index @ 1.., count @ ..=Shard::MOST)) if index <= count => Ok(Shard { index, count }),
            Some((0, _)) => Err("shards count from 1: for a runner that counts from 0, add 1".into()),
            _ => Err(format!(
                "a shard is K/N, K from 1 to N, N at most {}: `2/4` is the second of four",
                Shard::MOST
            )),
        }
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.count)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn texts_that_are_no_shard_are_refused(text in "[0-9/ a-]{0,8}") {
            if let Ok(shard) = text.parse::<Shard>() {
                prop_assert!(1 <= shard.index && shard.index <= shard.count && shard.count <= Shard::MOST);
            }
        }
    }

    #[test]
    fn a_shard_is_read_as_it_is_written() {
        assert_eq!("2/4".parse(), Ok(Shard { index: 2, count: 4 }));
        assert_eq!(Shard { index: 2, count: 4 }.to_string(), "2/4");
        assert!("0/4".parse::<Shard>().unwrap_err().contains("add 1"));
        for wrong in ["", "1", "5/4", "1/0", "1/4097", "-1/4", "1/4/2", "a/b"] {
            assert!(wrong.parse::<Shard>().is_err(), "{wrong}");
        }
    }
}
