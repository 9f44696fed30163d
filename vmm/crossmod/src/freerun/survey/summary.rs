//! What follows from a survey: rates by what the stores cross, and the vendors' rules compared with the counts.

use std::collections::BTreeSet;

use serde::Serialize;

use super::cell::Crosses;
use super::outcome::{PassCounts, Side, bound};
use super::results::{PairRow, Survey, SurveyRow};
use crate::machine::free::survey::Length;

/// Places of single stores that cross the same boundary.
#[derive(Debug, Clone, Serialize)]
pub struct Class {
    /// The boundary.
    pub crosses: Crosses,
    /// Number of places.
    pub places: usize,
    /// Passes of each side, in the order of [`Side::ALL`].
    pub counts: Vec<(Side, PassCounts)>,
    /// Torn rate of each of [`Class::COMPARED`] divided by that of the two threads; none if either is zero.
    pub factors: [Option<f64>; 2],
}

impl Class {
    /// Sides compared with two threads: a host thread as writer, then a vCPU.
    pub const COMPARED: [Side; 2] = [Side::Host, Side::Vcpu];

    /// Passes of one side.
    pub fn side(&self, side: Side) -> &PassCounts {
        let found = self.counts.iter().find(|(other, _)| *other == side);
        &found.expect("a class has every side").1
    }
}

/// The state of a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// Promised, and nothing against it.
    Confirmed,
    /// Promised, and broken.
    Broken,
    /// Not promised, and seen.
    Seen,
    /// Not promised, and not seen.
    NotSeen,
}

impl Standing {
    /// Its text in reports.
    pub fn words(self) -> &'static str {
        match self {
            Standing::Confirmed => "confirmed",
            Standing::Broken => "BROKEN",
            Standing::Seen => "outside the promise: seen",
            Standing::NotSeen => "outside the promise: not seen",
        }
    }
}

/// A rule, compared with the counts.
#[derive(Debug, Clone, Serialize)]
pub struct Rule {
    /// Who promises it.
    pub whose: &'static str,
    /// Its text.
    pub says: &'static str,
    /// Passes that could have broken it.
    pub trials: u64,
    /// Passes that broke it.
    pub against: u64,
    /// Its state.
    pub standing: Standing,
}

impl Rule {
    fn new(whose: &'static str, says: &'static str, promised: bool, (trials, against): (u64, u64)) -> Rule {
        let standing = match (promised, against) {
            (true, 0) => Standing::Confirmed,
            (true, _) => Standing::Broken,
            (false, 0) => Standing::NotSeen,
            (false, _) => Standing::Seen,
        };
        Rule { whose, says, trials, against, standing }
    }

    /// 95 % bound of the rate of passes that break it, if none did.
    pub fn bound(&self) -> Option<f64> {
        (self.against == 0).then(|| bound(self.trials))
    }
}

impl Survey {
    /// False if an outcome breaks a promise of the vendor, or nothing explains it.
    pub fn held(&self) -> bool {
        !self.findings.iter().any(|finding| finding.broken)
            && self.rules().iter().all(|rule| rule.standing != Standing::Broken)
    }

    /// Rates by what single stores cross.
    pub fn classes(&self) -> Vec<Class> {
        let kinds: BTreeSet<Crosses> = self.rows.iter().map(|row| row.cell.crosses()).collect();
        let of = |crosses| {
            self.rows.iter().filter(move |row| row.cell.crosses() == crosses && row.cell.length.single())
        };
        let class = |crosses| {
            let counts = |side| {
                let mut sum = PassCounts::default();
                of(crosses).filter_map(|row| row.side(side)).for_each(|seen| sum += seen.counts);
                sum
            };
            let counts: Vec<(Side, PassCounts)> =
                Side::ALL.into_iter().map(|side| (side, counts(side))).collect();
            let mut class = Class { crosses, places: of(crosses).count(), counts, factors: [None; 2] };
            let plain = class.side(Side::Plain);
            class.factors = Class::COMPARED.map(|side| {
                let guest = class.side(side);
                (guest.torn > 0 && plain.torn > 0).then(|| guest.torn_rate() / plain.torn_rate())
            });
            class
        };
        kinds.into_iter().map(class).filter(|class| class.places > 0).collect()
    }

    /// The vendors' rules, and what practice relies on. The threads without KVM count, too: they use the same CPU.
    pub fn rules(&self) -> Vec<Rule> {
        let sum = |rows: &dyn Fn(&SurveyRow) -> bool,
                   sides: &dyn Fn(Side) -> bool,
                   what: fn(&PassCounts) -> u64| {
            let seen = self.rows.iter().filter(|row| rows(row)).flat_map(|row| &row.seen);
            seen.filter(|seen| sides(seen.side))
                .fold((0, 0), |(all, some), seen| (all + seen.counts.passes, some + what(&seen.counts)))
        };
        let pairs = |rows: &dyn Fn(&PairRow) -> bool| {
            let seen = self.pairs.iter().filter(|row| rows(row)).flat_map(|row| &row.seen);
            seen.fold((0, 0), |(all, some), seen| (all + seen.passes, some + seen.torn))
        };
        let amd = self.host.vendor() == "amd";
        let any = |_: Side| true;
        let wide = |row: &SurveyRow| row.cell.length.bytes() > 1;
        let in_quadword = |row: &SurveyRow| row.cell.amd_promises_whole() && wide(row);
        let in_line = |row: &SurveyRow| {
            row.cell.length.single() && !row.cell.amd_promises_whole() && row.cell.crosses() < Crosses::Line
        };
        let over_line = |row: &SurveyRow| row.cell.length.single() && row.cell.crosses() >= Crosses::Line;
        let copied = |row: &SurveyRow| row.cell.length == Length::Five;
        let halves = |row: &SurveyRow| row.cell.shows_order();
        let single = |row: &SurveyRow| row.cell.length.single();
        let serialised = |side| side == Side::Serialised;
        let not_serialised = |side| side != Side::Serialised;
        let torn = |counts: &PassCounts| counts.torn;
        let rewritten = |row: &PairRow| row.amd_promises_whole && row.several_bytes;
        let older = "no pass shows an older version than an earlier pass did";
        let serialising = "nothing from before the last serialising instruction is executed";
        let practice = "one store inside a line is seen whole, whatever it crosses there";
        let ordered = "the blocks of one instruction are fetched in one order";
        let complete = "without serialising, the version complete before is executed";
        [
            ("AMD", "one store inside an aligned quadword is seen whole", amd, sum(&in_quadword, &any, torn)),
            ("AMD", "the same where one store makes another instruction of it", amd, pairs(&rewritten)),
            ("AMD", older, amd, sum(&single, &any, |c| c.order)),
            ("AMD, Intel", serialising, true, sum(&|_| true, &serialised, |c| c.stale)),
            ("practice", practice, false, sum(&in_line, &any, torn)),
            ("practice", ordered, false, sum(&halves, &any, |c| c.first_newer)),
            ("nobody", "one store across lines or pages is seen whole", false, sum(&over_line, &any, torn)),
            ("nobody", "five bytes by REP MOVSB are seen whole", false, sum(&copied, &any, torn)),
            ("nobody", complete, false, sum(&|_| true, &not_serialised, |c| c.stale)),
        ]
        .map(|(whose, says, promised, counts)| Rule::new(whose, says, promised, counts))
        .into()
    }
}
