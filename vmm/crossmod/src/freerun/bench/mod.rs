//! The cost of protocols: all of them in one interleaved run, so that a drifting machine favours none.
//!
//! A host thread patches five-byte instructions, each inside an aligned quadword, while executors pass through them
//! without pause. Each round performs every protocol once, in random order. Crossmod measures for each patch:
//!
//! * the patcher's time from its first store to its last wait, and that of each round of messages;
//! * the *stall*, the longest time between two passes of any executor from just before the patch until two passes
//!   after it;
//! * the number of traps and messages, and the additional time of a pass with traps.
//!
//! Each case differs from the first one in one thing: the number of sites patched at once, the number of executors, NMIs
//! from another thread, or a delay of the patcher before its last store, as if a softirq ran there. Cases take turns in
//! short slices, also in random order.
//!
//! The results say nothing about safety, which is the task of [`check`](crate::check()): some of these protocols are
//! cheap because they are unsafe. Nor do they show a kernel's own costs, whose broadcasts do not go through a hypervisor
//! and whose handlers are not emulated. If KVM runs nested or without hardware virtualisation, each message, trap and
//! instruction of a handler costs far more than on bare metal, and the comparison shows how many of those a protocol
//! needs. A stall includes other work that the host scheduled meanwhile, which affects its maximum, but hardly its
//! median.

mod compare;
mod measure;
mod protocol;

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

pub use compare::{Change, Comparison, compare, same_machine};
pub use protocol::{MOST_SITES, Protocol};

use super::messages::Messages;
use crate::host::Host;
use crate::machine::{MachineError, Result, allowed_cpus, pin, stop_requested};
use measure::Measured;

/// Duration of a slice.
const SLICE: Duration = Duration::from_millis(400);
/// Turns of the first case for each turn of another: reports show its tails.
const WEIGHT: usize = 3;
/// Ratios kept for comparisons with other runs, evenly over the run.
const KEPT: usize = 400;
/// Quantiles of a latency curve.
const CURVE: [f64; 12] = [0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.995, 0.999, 0.9995, 1.0];

/// How to run.
#[derive(Debug, Clone)]
pub struct BenchOptions {
    /// The cases. The others are compared with the first one.
    pub cases: Vec<Case>,
    /// Duration of the whole run.
    pub duration: Duration,
    /// Most rounds of each case.
    pub rounds: u64,
    /// Seed of the order of protocols and cases, of the pauses and of NMIs.
    pub seed: u64,
}

/// A combination of what varies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Case {
    /// Sites patched at once, with one round of messages for all.
    pub sites: usize,
    /// vCPUs that pass through the sites.
    pub executors: usize,
    /// NMIs per second, for all executors together.
    pub nmi_rate: u32,
    /// Delay of the patcher before its last store, in microseconds.
    pub delay: u32,
}

impl Case {
    /// One site, without NMIs and delay.
    pub fn plain(executors: usize) -> Case {
        Case { sites: 1, executors, nmi_rate: 0, delay: 0 }
    }

    /// The plain case, and those that differ from it in one thing. `spare`: CPUs besides the patcher's.
    pub fn sweep(executors: usize, spare: usize) -> Vec<Case> {
        let plain = Case::plain(executors);
        let mut cases = vec![plain];
        cases.extend([16, MOST_SITES].map(|sites| Case { sites, ..plain }));
        let counts =
            (0..).map(|power| 1 << power).take_while(|&count| count < spare).chain([spare, spare + 1]);
        cases.extend(counts.filter(|&count| count != executors && count <= 8).map(Case::plain));
        cases.extend([1_000, 10_000].map(|nmi_rate| Case { nmi_rate, ..plain }));
        cases.extend([20, 200].map(|delay| Case { delay, ..plain }));
        cases
    }
}

impl std::fmt::Display for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let counted =
            |count: usize, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
        write!(f, "{}, {}", counted(self.sites, "site"), counted(self.executors, "executor"))?;
        if self.nmi_rate > 0 {
            write!(f, ", {} NMIs/s", self.nmi_rate)?;
        }
        if self.delay > 0 {
            write!(f, ", delay {} µs", self.delay)?;
        }
        Ok(())
    }
}

/// Quantiles in nanoseconds.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Quantiles {
    /// Median.
    pub p50: u64,
    /// 99 %.
    pub p99: u64,
    /// 99.9 %.
    pub p999: u64,
    /// Largest.
    pub max: u64,
    /// Pairs of a quantile (0 to 1) and its value.
    pub curve: Vec<(f64, u64)>,
}

impl Quantiles {
    fn of(histogram: &Histogram<u64>) -> Quantiles {
        let at = |quantile| histogram.value_at_quantile(quantile);
        let curve = CURVE.map(|quantile| (quantile, at(quantile))).to_vec();
        Quantiles { p50: at(0.5), p99: at(0.99), p999: at(0.999), max: histogram.max(), curve }
    }
}

/// Three significant digits, resized as needed.
fn histogram() -> Histogram<u64> {
    Histogram::new(3).expect("three digits are within what the crate takes")
}

fn record(histogram: &mut Histogram<u64>, nanoseconds: u64) {
    histogram.record(nanoseconds).expect("a histogram that resizes has room for any u64");
}

/// Results of one protocol in one case.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ProtocolResult {
    /// The protocol.
    pub protocol: Protocol,
    /// Median over the rounds of its patcher time divided by that of [`Protocol::BASE`] in the same round; none if the
    /// case is overcommitted.
    pub patch_ratio: Option<f64>,
    /// The same of stalls.
    pub stall_ratio: Option<f64>,
    /// Median of its patcher time divided by the number of sites, in nanoseconds.
    pub a_site: f64,
    /// Patcher time.
    pub patch: Quantiles,
    /// Longest stall of an executor.
    pub stall: Quantiles,
    /// Time of a round of messages, from sending the first until every executor has acknowledged it, or is held; zeros
    /// without rounds.
    pub round: Quantiles,
    /// Traps of executors.
    pub traps: u64,
    /// Additional time of a pass with traps, compared with the last pass without: for one site, the cost of a trap, and
    /// of any message in the same pass; zeros without traps.
    pub trap: Quantiles,
    /// IPIs and NMIs sent.
    pub sent: u64,
    /// IPIs and NMIs that handlers counted.
    pub delivered: u64,
    /// Ratios of single rounds, evenly over the run: patcher time, stall.
    pub ratios: [Vec<f32>; 2],
}

/// Results of one case.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CaseResult {
    /// The case.
    #[serde(flatten)]
    pub case: Case,
    /// There are more executors than CPUs besides the patcher's, so that times depend on the host's scheduler.
    pub overcommitted: bool,
    /// Complete rounds.
    pub rounds: u64,
    /// Passes of all executors, each through all sites.
    pub passes: u64,
    /// NMIs from another thread.
    pub nmis: Messages,
    /// The protocols, in the order of [`Protocol::ALL`]. Cases with NMIs lack the protocol that sends NMIs.
    pub lines: Vec<ProtocolResult>,
}

impl CaseResult {
    /// The results of one protocol.
    pub fn line(&self, protocol: Protocol) -> Option<&ProtocolResult> {
        self.lines.iter().find(|line| line.protocol == protocol)
    }
}

/// A run, with the machine that it ran on.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Bench {
    /// Version of Crossmod.
    pub crossmod: String,
    /// The kind of result.
    pub tier: String,
    /// The machine.
    pub host: Host,
    /// Seed.
    pub seed: u64,
    /// Duration in seconds.
    pub seconds: f64,
    /// Ended by a signal.
    pub interrupted: bool,
    /// The cases, the plain one first.
    pub cases: Vec<CaseResult>,
}

/// Runs a benchmark. A round that a signal interrupts does not count.
///
/// # Errors
///
/// [`MachineError::NoKvm`] and [`MachineError::NotHere`] if it cannot run here; [`MachineError::Contract`] if an executor
/// does not answer; [`MachineError::Messages`] if handlers counted another number of messages than were sent.
pub fn bench(options: &BenchOptions, mut tick: impl FnMut(f64)) -> Result<Bench> {
    let cpus = allowed_cpus();
    let &[own, ref others @ ..] = &cpus[..] else {
        return Err(MachineError::NotHere("there is no CPU that this process may use".into()));
    };
    // Before the calling thread is pinned: the host counts the CPUs that the process may use.
    let host = Host::read();
    pin(own);
    let places = if others.is_empty() { &cpus[..] } else { others };
    let began = Instant::now();
    let mut random = fastrand::Rng::with_seed(options.seed);
    let mut measured: Vec<Measured> = options.cases.iter().map(|&case| Measured::new(case)).collect();
    let ripe = |measured: &Measured| measured.rounds() >= options.rounds;
    while began.elapsed() < options.duration && !measured.iter().all(ripe) && !stop_requested() {
        let mut turns: Vec<usize> = (0..measured.len()).chain(std::iter::repeat_n(0, WEIGHT - 1)).collect();
        random.shuffle(&mut turns);
        for turn in turns {
            // The run does not end before every case has had a turn.
            let late = began.elapsed() >= options.duration && measured.iter().all(|case| case.rounds() > 0);
            if late || ripe(&measured[turn]) || stop_requested() {
                continue;
            }
            let limit = options.rounds - measured[turn].rounds();
            measured[turn].slice(places, SLICE, limit, &mut random)?;
            tick((began.elapsed().as_secs_f64() / options.duration.as_secs_f64()).min(1.0));
        }
    }
    let cases = measured.iter().map(|measured| measured.result(others.len())).collect::<Result<_, _>>()?;
    Ok(Bench {
        crossmod: env!("CARGO_PKG_VERSION").into(),
        tier: super::TIER.into(),
        host,
        seed: options.seed,
        seconds: began.elapsed().as_secs_f64(),
        interrupted: stop_requested(),
        cases,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sweep_varies_one_thing_at_a_time() {
        for (executors, spare) in [(1, 1), (3, 3), (2, 7)] {
            let cases = Case::sweep(executors, spare);
            let plain = Case::plain(executors);
            assert_eq!(cases[0], plain);
            for case in &cases[1..] {
                let differs = [
                    case.sites != plain.sites,
                    case.executors != plain.executors,
                    case.nmi_rate != plain.nmi_rate,
                    case.delay != plain.delay,
                ];
                assert_eq!(differs.into_iter().filter(|&differs| differs).count(), 1, "{case}");
            }
            assert!(cases.iter().any(|case| case.executors == spare + 1), "{cases:?}");
        }
        assert_eq!(
            Case { nmi_rate: 5, delay: 3, ..Case::plain(2) }.to_string(),
            "1 site, 2 executors, 5 NMIs/s, delay 3 µs"
        );
    }
}
