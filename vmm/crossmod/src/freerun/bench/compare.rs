//! Comparison of two runs: whether the relative cost of protocols has changed.
//!
//! The comparison uses ratios of single rounds, in which both protocols ran on the same machine in the same state, so
//! that the speed of the machine cancels out. A bootstrap (Efron, Annals of Statistics 1979) decides whether two medians
//! differ: it draws the ratios of both runs again, with replacement, and takes the middle 99 % of the quotients of their
//! medians as the interval. With sixteen quotients, one outside of a 95 % interval would not be surprising. Successive
//! rounds are not quite independent: an interval that ends close to 1 says little.

use serde::Serialize;

use super::{Bench, Protocol};
use crate::host::Host;

/// Draws.
const DRAWS: usize = 2000;
/// Below and above the interval.
const OUTSIDE: f64 = 0.005;
/// Fewer ratios than this decide nothing.
const FEWEST: usize = 20;

/// The conclusion from a quotient of medians.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Change {
    /// The interval lies above 1.
    Slower,
    /// The interval lies below 1.
    Faster,
    /// It does not exclude 1.
    None,
    /// Too few rounds.
    Undecided,
}

impl Change {
    /// Its text in reports.
    pub fn words(self) -> &'static str {
        match self {
            Change::Slower => "SLOWER (significant at 99 %)",
            Change::Faster => "faster (significant at 99 %)",
            Change::None => "no significant difference",
            Change::Undecided => "too few rounds to say",
        }
    }
}

/// One protocol in two runs.
#[derive(Debug, Clone, Serialize)]
pub struct Comparison {
    /// The protocol.
    pub protocol: Protocol,
    /// Patcher time, not stall.
    pub patch: bool,
    /// Median ratio in the earlier run.
    pub then: f64,
    /// Median ratio in this one.
    pub now: f64,
    /// 99 % interval of now over then.
    pub interval: [f64; 2],
    /// The conclusion.
    pub change: Change,
}

/// Decides whether the ratios of two runs are comparable. Another kernel or microcode may be the very subject of the
/// comparison; but another CPU, number of CPUs, or KVM changes the ratios by itself.
///
/// # Errors
///
/// Which of these differs, and how.
pub fn same_machine(then: &Host, now: &Host) -> Result<(), String> {
    let facts = |host: &Host| [host.cpu.clone(), format!("{} CPUs", host.cpus), host.kvm.clone()];
    let (then, now) = (facts(then), facts(now));
    match then.iter().zip(&now).find(|(then, now)| then != now) {
        Some((then, now)) => Err(format!("it was measured on another machine: {then}, and here {now}")),
        None => Ok(()),
    }
}

/// Compares the plain cases of two runs.
///
/// # Errors
///
/// The reason why they are not comparable.
pub fn compare(then: &Bench, now: &Bench, seed: u64) -> Result<Vec<Comparison>, String> {
    let (Some(old), Some(new)) = (then.cases.first(), now.cases.first()) else {
        return Err("it contains no case".into());
    };
    same_machine(&then.host, &now.host)?;
    if old.case != new.case {
        return Err(format!("its plain case is another: {}, and here {}", old.case, new.case));
    }
    if old.overcommitted || new.overcommitted {
        return Err("it has more executors than CPUs, and therefore no ratios to compare".into());
    }
    let mut random = fastrand::Rng::with_seed(seed);
    let mut all = Vec::new();
    for line in new.lines.iter().filter(|line| line.protocol != Protocol::BASE) {
        let Some(before) = old.line(line.protocol) else { continue };
        for (what, (then, now)) in before.ratios.iter().zip(&line.ratios).enumerate() {
            let exact = |ratios: &[f32]| -> Vec<f64> { ratios.iter().map(|&ratio| ratio.into()).collect() };
            let (mut then, mut now) = (exact(then), exact(now));
            let interval = bootstrap(&then, &now, &mut random);
            let change = match interval {
                _ if then.len().min(now.len()) < FEWEST => Change::Undecided,
                [low, _] if low > 1.0 => Change::Slower,
                [_, high] if high < 1.0 => Change::Faster,
                _ => Change::None,
            };
            let (then, now) = (median(&mut then), median(&mut now));
            all.push(Comparison { protocol: line.protocol, patch: what == 0, then, now, interval, change });
        }
    }
    Ok(all)
}

fn bootstrap(then: &[f64], now: &[f64], random: &mut fastrand::Rng) -> [f64; 2] {
    if then.is_empty() || now.is_empty() {
        return [0.0, f64::MAX];
    }
    let mut draw = |from: &[f64]| {
        let mut drawn: Vec<f64> = from.iter().map(|_| from[random.usize(..from.len())]).collect();
        median(&mut drawn)
    };
    let mut quotients: Vec<f64> = (0..DRAWS).map(|_| draw(now) / draw(then).max(f64::MIN_POSITIVE)).collect();
    quotients.sort_by(f64::total_cmp);
    let at = |part: f64| quotients[((DRAWS - 1) as f64 * part).round() as usize];
    [at(OUTSIDE), at(1.0 - OUTSIDE)]
}

/// The median; 0 of no values.
pub(super) fn median(values: &mut [f64]) -> f64 {
    if values.is_empty() {
        return 0.0;
    }
    let middle = values.len() / 2;
    *values.select_nth_unstable_by(middle, f64::total_cmp).1
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A skewed distribution around a median.
    fn around(median: f64, random: &mut fastrand::Rng) -> Vec<f64> {
        (0..200).map(|_| median * (1.0 + 0.3 * random.f64() * random.f64())).collect()
    }

    #[test]
    fn an_interval_nearly_always_contains_the_truth_and_excludes_a_large_difference() {
        let mut random = fastrand::Rng::with_seed(7);
        let (mut missed, mut found) = (0, 0);
        for _ in 0..100 {
            let (a, b, c) = (around(1.0, &mut random), around(1.0, &mut random), around(1.2, &mut random));
            let [low, high] = bootstrap(&a, &b, &mut random);
            missed += u32::from(low > 1.0 || high < 1.0);
            let [low, high] = bootstrap(&a, &c, &mut random);
            found += u32::from(low > 1.0 && low < 1.2 && high > 1.2);
        }
        assert!(missed <= 5 && found >= 95, "{missed} {found}");
    }

    #[test]
    fn another_machine_is_named_and_another_kernel_is_none() {
        let here = Host { cpu: "A".into(), cpus: 2, kvm: "kvm_amd".into(), ..Host::read() };
        assert_eq!(same_machine(&here, &Host { kernel: "7.0".into(), ..here.clone() }), Ok(()));
        for (other, what) in [
            (Host { cpu: "B".into(), ..here.clone() }, "B, and here A"),
            (Host { cpus: 3, ..here.clone() }, "3 CPUs, and here 2 CPUs"),
            (Host { kvm: "kvm_pvm".into(), ..here.clone() }, "kvm_pvm, and here kvm_amd"),
        ] {
            let why = same_machine(&other, &here).unwrap_err();
            assert_eq!(why, format!("it was measured on another machine: {what}"));
        }
    }

    #[test]
    fn medians() {
        assert_eq!(median(&mut []), 0.0);
        assert_eq!(median(&mut [3.0, 1.0, 2.0]), 2.0);
    }
}
