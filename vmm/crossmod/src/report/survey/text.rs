//! A survey as text: a line for each place, printed when it is done, and a summary.

use std::fmt::Write;

use super::{FACTOR, PAIRS_CLAIM, headlines, host, per_million};
use crate::freerun::survey::{Crosses, PairRow, PairSeen, PassCounts, Side, SideSeen, Survey, SurveyRow};

/// The header of [`line()`].
pub const HEADER: &str = concat!(
    "                                      torn, per million passes                                 stale\n",
    "store          at  crosses  promise   host     vcpu     plain    neighb.  cold     same CPU    host     vcpu     serial.  cold      passes"
);

/// The header of [`line()`] for stores of two halves.
pub const HALVES: &str = concat!(
    "\n                                      first half newer than the second, per million passes     stale\n",
    "two stores     at  crosses  promise   host     vcpu     plain    neighb.  cold     same CPU    host     vcpu     serial.  cold      passes"
);

/// The header of [`pair`].
pub const PAIRS: &str = concat!(
    "\n                                        torn, per million passes\n",
    "pair             at  crosses  promise   host     vcpu     plain    cold       old      new      passes"
);

/// The beginning of the line of a place: where it is, and what is promised about it.
fn beginning(offset: usize, crosses: Crosses, promised: bool) -> String {
    format!("{offset:2}  {:7}  {:8}", crosses.name(), if promised { "AMD" } else { "" })
}

/// The end of a line: millions of passes, and how many of them nothing explains.
fn end(mut line: String, passes: u64, odd: u64) -> String {
    let _ = write!(line, "  {:.2} M", passes as f64 / 1e6);
    if odd > 0 {
        let _ = write!(line, "  {odd} UNEXPLAINED");
    }
    line
}

/// The line of a pair at one place.
pub fn pair(row: &PairRow) -> String {
    let sum = |what: fn(&PairSeen) -> u64| row.seen.iter().map(what).sum::<u64>();
    let passes = sum(|seen| seen.passes);
    let place = beginning(row.offset, row.crosses, row.amd_promises_whole);
    let mut out = format!("{:15}  {place}", row.pair);
    for (side, width) in [(Side::Host, 7), (Side::Vcpu, 7), (Side::Plain, 7), (Side::Cold, 9)] {
        let torn = match row.side(side) {
            Some(_) if !row.several_bytes => "none".into(),
            Some(seen) => per_million(seen.torn, seen.passes),
            None => "-".into(),
        };
        let _ = write!(out, "  {torn:width$}");
    }
    for count in [sum(|seen| seen.old), sum(|seen| seen.new)] {
        let percent = format!("{:.1} %", 100.0 * count as f64 / passes.max(1) as f64);
        let _ = write!(out, "  {percent:7}");
    }
    end(out, passes, sum(|seen| seen.unexplained + seen.exceptions))
}

/// The line of a place.
pub fn line(row: &SurveyRow) -> String {
    const TORN: [Side; 6] =
        [Side::Host, Side::Vcpu, Side::Plain, Side::Neighbours, Side::Cold, Side::SameCpu];
    const STALE: [Side; 4] = [Side::Host, Side::Vcpu, Side::Serialised, Side::Cold];
    let cell = &row.cell;
    let place = beginning(cell.offset(), cell.crosses(), cell.amd_promises_whole());
    let mut out = format!("{:13}  {place}", cell.length.name());
    let mut column = |side, width: usize, what: fn(&PassCounts) -> u64| {
        let seen = row.side(side);
        let rate = seen.map_or("-".into(), |seen| per_million(what(&seen.counts), seen.counts.passes));
        let _ = write!(out, "  {rate:width$}");
    };
    // What is stored in two halves, the second one first, is mostly executed as a mix.
    let what: fn(&PassCounts) -> u64 =
        if cell.length.halves() { |counts| counts.first_newer } else { |counts| counts.torn };
    TORN.into_iter().zip([7, 7, 7, 7, 7, 10]).for_each(|(side, width)| column(side, width, what));
    STALE.into_iter().zip([7, 7, 7, 8]).for_each(|(side, width)| column(side, width, |counts| counts.stale));
    let sum = |what: fn(&PassCounts) -> u64| row.seen.iter().map(|seen| what(&seen.counts)).sum::<u64>();
    end(out, sum(|counts| counts.passes), sum(|counts| counts.ahead + counts.exceptions))
}

/// The summary after the lines.
pub fn summary(survey: &Survey) -> String {
    let mut out = String::from("\n");
    if !survey.pairs.is_empty() {
        let _ = writeln!(out, "{PAIRS_CLAIM}\n");
    }
    for headline in headlines(survey) {
        let _ = writeln!(out, "HEADLINE: {headline}");
    }
    let _ = writeln!(
        out,
        "single stores by what they cross: torn per million passes, and the rate under KVM divided by that without"
    );
    let _ = write!(out, "  crosses  places");
    Side::ALL.iter().for_each(|side| _ = write!(out, "  {:10}", side.name()));
    let _ = writeln!(out, "  host / plain  vcpu / plain");
    for class in survey.classes() {
        let _ = write!(out, "  {:7}  {:6}", class.crosses.name(), class.places);
        for (_, counts) in &class.counts {
            let _ = write!(out, "  {:10}", per_million(counts.torn, counts.passes));
        }
        let [host, vcpu] = class.factors.map(super::factor);
        let _ = writeln!(out, "  {host:12}  {vcpu}");
    }
    let _ = writeln!(out, "  {FACTOR}");
    let _ = writeln!(out, "\nrules");
    for rule in survey.rules() {
        let seen = match rule.bound() {
            Some(bound) => format!("0 of {}, below {bound:.1e} at 95 %", rule.trials),
            None => format!("{} of {}", rule.against, rule.trials),
        };
        let _ =
            writeln!(out, "  {}: {}: {} ({seen} against it)", rule.whose, rule.says, rule.standing.words());
    }
    let _ = writeln!(
        out,
        "\nobserved is allowed: different outcomes, neither old nor new, that each fetch model allows and forbids"
    );
    for model in &survey.models {
        let unknown = match model.unknown {
            0 => String::new(),
            count => format!(", {count} not compared (too many stores between their bytes)"),
        };
        let _ = writeln!(
            out,
            "  {:15}  {} allowed, {} forbidden ({} passes){unknown}",
            model.model, model.allowed, model.forbidden, model.forbidden_passes
        );
    }
    let passes = |side| {
        let seen = || survey.rows.iter().filter_map(move |row| row.side(side));
        let seconds: f64 = seen().map(|seen| seen.seconds).sum();
        let count = |what: fn(&SideSeen) -> u64| seen().map(what).sum::<u64>() as f64 / seconds / 1e6;
        (count(|seen| seen.counts.passes), count(|seen| seen.stores))
    };
    let _ = write!(out, "\nmillions of passes and stores per second:");
    for side in Side::ALL {
        let (passes, stores) = passes(side);
        let _ = write!(out, " {} {passes:.1} and {stores:.1};", side.name());
    }
    let _ = write!(
        out,
        "\n{} places and {} pairs at places in {:.0} s, seed {}{}\n{}\n{}",
        survey.rows.len(),
        survey.pairs.len(),
        survey.seconds,
        survey.seed,
        if survey.interrupted { "; INTERRUPTED" } else { "" },
        survey.tier,
        host(survey)
    );
    out
}
