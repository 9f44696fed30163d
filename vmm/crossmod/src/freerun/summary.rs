//! What a survey comes to: rates by what the stores cross, and the vendors' rules against what was seen.

use serde::Serialize;

use super::cell::Crosses;
use super::outcome::{Counts, bound};
use super::pairs::PairRow;
use super::{Row, Side, Survey};

/// Places of single stores that cross the same.
#[derive(Debug, Clone, Serialize)]
pub struct Class {
    /// What they cross.
    pub crosses: Crosses,
    /// How many places.
    pub places: usize,
    /// What each side saw, in the order of [`Side::ALL`].
    pub counts: Vec<(Side, Counts)>,
    /// Torn rate of each of [`Class::COMPARED`] over that of the two threads; none unless both saw some.
    pub factors: [Option<f64>; 2],
}

impl Class {
    /// What is compared with two threads: first the same thread that stores, then a vCPU that does.
    pub const COMPARED: [Side; 2] = [Side::Host, Side::Vcpu];

    /// What one side saw.
    pub fn side(&self, side: Side) -> &Counts {
        let found = self.counts.iter().find(|(other, _)| *other == side);
        &found.expect("a class has every side").1
    }
}

/// What became of a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// Promised, and not seen broken.
    Confirmed,
    /// Promised, and seen broken.
    Broken,
    /// Not promised, and seen.
    Seen,
    /// Not promised, and not seen.
    NotSeen,
}

impl Standing {
    /// In words.
    pub fn words(self) -> &'static str {
        match self {
            Standing::Confirmed => "confirmed",
            Standing::Broken => "BROKEN",
            Standing::Seen => "outside the promise: seen",
            Standing::NotSeen => "outside the promise: not seen",
        }
    }
}

/// A rule against what was seen.
#[derive(Debug, Clone, Serialize)]
pub struct Rule {
    /// Whose.
    pub whose: &'static str,
    /// What it says.
    pub says: &'static str,
    /// Passes that could have shown the opposite.
    pub trials: u64,
    /// Passes that did.
    pub against: u64,
    /// What follows.
    pub standing: Standing,
}

impl Rule {
    fn new(whose: &'static str, says: &'static str, promised: bool, trials: u64, against: u64) -> Rule {
        let standing = match (promised, against) {
            (true, 0) => Standing::Confirmed,
            (true, _) => Standing::Broken,
            (false, 0) => Standing::NotSeen,
            (false, _) => Standing::Seen,
        };
        Rule { whose, says, trials, against, standing }
    }

    /// 95 % bound of the rate if nothing was seen.
    pub fn bound(&self) -> Option<f64> {
        (self.against == 0).then(|| bound(self.trials))
    }
}

impl Survey {
    /// What a reader must not miss, in words: outcomes that a binding model does not have, by boundary, and
    /// what nothing explains.
    pub fn headlines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        let vendor = self.host.vendor();
        for model in self.models.iter().filter(|line| line.model == "line" || line.model == vendor) {
            for (&boundary, passes) in &model.forbidden_by_boundary {
                let places = self.rows.iter().filter(|row| row.cell.crosses() == boundary).count();
                let promise = match (model.model.as_str(), boundary) {
                    ("line", Crosses::Line | Crosses::Page) => "no vendor promises it",
                    // Inside a line.
                    ("line", _) => "what practice relies on; no vendor promises it",
                    _ => "what the vendor promises",
                };
                lines.push(format!(
                    "{passes} passes in the {places} places that cross {} showed what the `{}` model does not have ({promise})",
                    match boundary {
                        Crosses::Nothing => "nothing".into(),
                        Crosses::Line | Crosses::Page => format!("a {}", boundary.name()),
                        _ => format!("{} bytes inside a line", boundary.name()),
                    },
                    model.model,
                ));
            }
        }
        let sum = |what: fn(&Counts) -> u64| -> u64 {
            self.rows.iter().flat_map(|row| &row.seen).map(|seen| what(&seen.counts)).sum()
        };
        let (mut exceptions, ahead) = (sum(|counts| counts.exceptions), sum(|counts| counts.ahead));
        let mut unexplained = 0;
        for row in &self.pairs {
            exceptions += row.seen.iter().map(|seen| seen.exceptions).sum::<u64>();
            unexplained += row.seen.iter().map(|seen| seen.unexplained).sum::<u64>();
        }
        for (inside, within) in [(true, "an aligned quadword"), (false, "a line")] {
            let rows = || {
                let rows = self.pairs.iter().filter(|row| row.crosses < Crosses::Line);
                rows.filter(|row| row.amd_promises_whole == inside)
            };
            let torn: u64 = rows().flat_map(|row| &row.seen).map(|seen| seen.torn).sum();
            let places = rows().filter(|row| row.seen.iter().any(|seen| seen.torn > 0)).count();
            if torn > 0 {
                lines.push(format!(
                    "{torn} passes executed bytes of both instructions of a pair that lies inside {within}, at {places} of \
                     {} places",
                    rows().count()
                ));
            }
        }
        if exceptions + ahead + unexplained > 0 {
            lines.push(format!(
                "unexplained: {exceptions} exceptions, {ahead} passes ahead of the writer, {unexplained} that no mix of \
                 the bytes of a pair leads to"
            ));
        }
        lines
    }

    /// False if something was seen that the vendor promises not to happen, or that nothing explains.
    pub fn held(&self) -> bool {
        !self.findings.iter().any(|finding| finding.broken)
            && self.rules().iter().all(|rule| rule.standing != Standing::Broken)
    }

    /// Rates by what single stores cross.
    pub fn classes(&self) -> Vec<Class> {
        let mut kinds: Vec<Crosses> = self.rows.iter().map(|row| row.cell.crosses()).collect();
        kinds.sort_unstable();
        kinds.dedup();
        let of = |crosses| {
            self.rows.iter().filter(move |row| row.cell.crosses() == crosses && row.cell.length.single())
        };
        let class = |crosses| {
            let counts = |side| {
                let mut sum = Counts::default();
                of(crosses).filter_map(|row| row.side(side)).for_each(|seen| sum.add(&seen.counts));
                sum
            };
            let counts: Vec<(Side, Counts)> =
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

    /// The vendors' rules and what practice relies on. The two threads count as well: it is the same CPU.
    pub fn rules(&self) -> Vec<Rule> {
        let sum = |rows: &dyn Fn(&Row) -> bool, sides: &dyn Fn(Side) -> bool, what: fn(&Counts) -> u64| {
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
        let wide = |row: &Row| row.cell.length.bytes() > 1;
        let in_quadword = |row: &Row| row.cell.amd_promises_whole() && wide(row);
        let in_line = |row: &Row| {
            row.cell.length.single() && !row.cell.amd_promises_whole() && row.cell.crosses() < Crosses::Line
        };
        let over_line = |row: &Row| row.cell.length.single() && row.cell.crosses() >= Crosses::Line;
        let copied = |row: &Row| !row.cell.length.single();
        let single = |row: &Row| row.cell.length.single();
        let serialised = |side| side == Side::Serialised;
        let not_serialised = |side| side != Side::Serialised;
        let rule =
            |whose, says, promised, (trials, against)| Rule::new(whose, says, promised, trials, against);
        let torn = |counts: &Counts| counts.torn;
        vec![
            rule(
                "AMD",
                "one store inside an aligned quadword is seen whole",
                amd,
                sum(&in_quadword, &any, torn),
            ),
            rule(
                "AMD",
                "the same where one store makes another instruction of it",
                amd,
                pairs(&|row| row.amd_promises_whole && row.several_bytes),
            ),
            rule(
                "AMD",
                "no pass shows an older version than an earlier pass did",
                amd,
                sum(&single, &any, |c| c.order),
            ),
            rule(
                "AMD, Intel",
                "nothing from before the last serialising instruction is executed",
                true,
                sum(&|_| true, &serialised, |c| c.stale),
            ),
            rule(
                "practice",
                "one store inside a line is seen whole, whatever it crosses there",
                false,
                sum(&in_line, &any, torn),
            ),
            rule(
                "nobody",
                "one store across lines or pages is seen whole",
                false,
                sum(&over_line, &any, torn),
            ),
            rule("nobody", "five bytes by REP MOVSB are seen whole", false, sum(&copied, &any, torn)),
            rule(
                "nobody",
                "without serialising, the version complete before is executed",
                false,
                sum(&|_| true, &not_serialised, |c| c.stale),
            ),
        ]
    }
}
