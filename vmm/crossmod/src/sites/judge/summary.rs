//! Counts over judged classes.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt::Write;

use itertools::Itertools;
use serde::Serialize;

use super::{Judged, Verdict};
use crate::property::Property;

/// Sites and classes of each verdict, the worst first.
pub fn tally(judged: &[Judged]) -> Vec<(Verdict, usize, usize)> {
    let mut tally: BTreeMap<&Verdict, (usize, usize)> = BTreeMap::new();
    for one in judged {
        let (sites, classes) = tally.entry(&one.verdict).or_default();
        *sites += one.sites();
        *classes += 1;
    }
    let tally = tally.into_iter().map(|(verdict, (sites, classes))| (verdict.clone(), sites, classes));
    tally.sorted_by_key(|(verdict, sites, _)| Reverse((verdict.severity(), *sites))).collect()
}

/// Number of judged sites.
pub fn sites<'a>(judged: impl IntoIterator<Item = &'a Judged>) -> usize {
    judged.into_iter().map(Judged::sites).sum()
}

/// Number of safe sites.
pub fn safe(judged: &[Judged]) -> usize {
    sites(judged.iter().filter(|one| one.verdict == Verdict::Safe))
}

/// Number of sites whose scenarios differ from the real bytes in one or more of three ways.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Provisos {
    /// Judged with stand-ins or moved targets.
    pub adapted: usize,
    /// Judged with versions that differ in other bytes than the real ones.
    pub misses: usize,
    /// Judged without their last bytes.
    pub left_out: usize,
}

impl Provisos {
    /// The provisos for the sites with this verdict.
    pub fn of(judged: &[Judged], verdict: &Verdict) -> Provisos {
        let mut provisos = Provisos::default();
        for one in judged.iter().filter(|one| one.verdict == *verdict) {
            let sites = |applies: bool| if applies { one.sites() } else { 0 };
            provisos.adapted += sites(one.adapted);
            provisos.misses += sites(one.misses > 0);
            provisos.left_out += sites(one.left_out > 0);
        }
        provisos
    }

    /// The provisos for safe sites as text: a line for each count above 0.
    pub fn lines(&self) -> Vec<String> {
        let lines = [
            (self.adapted, "were judged with stand-ins or moved targets"),
            (self.misses, "were judged with versions that differ in other bytes than the real ones"),
            (self.left_out, "were judged by their first bytes only: they are longer than a scenario's site"),
        ];
        let some = lines.into_iter().filter(|(count, _)| *count > 0);
        some.map(|(count, how)| format!("{count} of the safe sites {how}")).collect()
    }
}

/// What sites need if a single store patches them under AMD's rule: see
/// [`PatchSetup::one_store`](crate::sites::export::PatchSetup::one_store).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct OneStore {
    /// Number of sites.
    pub sites: usize,
    /// Sites that need nothing, if CPUs may run the old version for an unknown time: the rule does not bound it.
    pub safe: usize,
    /// Sites that need INT3 as a handshake.
    pub int3: usize,
    /// Sites that also need a wait, because a CPU may be between their instructions.
    pub wait: usize,
    /// Sites without a verdict.
    pub not_decided: usize,
    /// Sites that a store alone would tear.
    pub torn: Torn,
}

/// Sites that a store alone would tear, by the largest block whose boundary they cross.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Torn {
    /// Sites inside an aligned quadword.
    pub inside: usize,
    /// Sites across the end of a quadword, or of a block of 16 or 32 bytes.
    pub quadword: usize,
    /// Sites across the end of a cache line.
    pub line: usize,
    /// Sites across the end of a page.
    pub page: usize,
}

impl OneStore {
    /// Counts the verdicts on `PatchSetup::one_store`. Of all `sites`, those that were not judged are not decided.
    pub fn of(judged: &[Judged], sites: usize) -> OneStore {
        let mut sum = OneStore { sites, not_decided: sites, ..OneStore::default() };
        for one in judged {
            let need = match &one.verdict {
                Verdict::NotDecided(_) | Verdict::Inexpressible(_) => continue,
                verdict if verdict.safe_but_late() => &mut sum.safe,
                verdict if verdict.violates(Property::Interior) => &mut sum.wait,
                _ => &mut sum.int3,
            };
            *need += one.sites();
            sum.not_decided = sum.not_decided.saturating_sub(one.sites());
            if one.verdict.violates(Property::Torn) {
                *match one.class.traits.crossing {
                    None => &mut sum.torn.inside,
                    Some((4096.., _)) => &mut sum.torn.page,
                    Some((64.., _)) => &mut sum.torn.line,
                    Some(_) => &mut sum.torn.quadword,
                } += one.sites();
            }
        }
        sum
    }

    /// The counts as text.
    pub fn text(&self) -> String {
        let Torn { inside, quadword, line, page } = self.torn;
        let mut text = format!(
            "of {} sites {} are safe with one aligned store under the AMD rule (which does not say when it is seen), {} need \
             int3 (a handshake)",
            self.sites, self.safe, self.int3
        );
        if self.wait > 0 {
            let _ =
                write!(text, ", {} also need a wait (a CPU may be between their instructions)", self.wait);
        }
        if self.not_decided > 0 {
            let _ = write!(text, ", {} are not decided", self.not_decided);
        }
        let _ = write!(
            text,
            "; with nothing but the store {} would tear: {quadword} at a quadword, {line} at a line, {page} at a page",
            inside + quadword + line + page
        );
        if inside > 0 {
            let _ = write!(text, ", {inside} inside a quadword");
        }
        text
    }
}
