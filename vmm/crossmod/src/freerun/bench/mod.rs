//! What protocols cost: all of them in one interleaved run, so that a machine that drifts favours none.
//!
//! A host thread patches five-byte instructions, each inside an aligned quadword, which executors pass through without
//! pause. Each round performs every protocol once, in an order drawn anew. Measured of each patch: the
//! patcher's time from its first store to its last wait, and of each round of messages; the *stall*, the longest time between two passes of any
//! executor from just before the patch until two passes after it; traps, how much longer a pass with traps took; messages.
//!
//! Cases differ from the first one in one thing each: the number of sites patched at once, of executors, NMIs from
//! beside, or how long the patcher is away before its last store, as if a softirq ran there. They take turns in short
//! slices, again in an order drawn anew.
//!
//! What this does not show: safety, which [`check`](crate::check()) is for (some of these protocols are unsafe,
//! and cheap for that reason); a kernel's own costs, whose broadcasts do not go through a hypervisor and whose
//! handlers are not emulated. Where KVM runs nested or without hardware virtualisation, a message, a trap and
//! each instruction of a handler cost far more than on bare metal, and protocols are compared by how many of
//! those they need. A stall includes whatever else the host scheduled meanwhile; its median is little
//! affected, its maximum is.

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
use crate::machine::{MachineError, allowed_cpus, pin, stop_requested};
use measure::Measured;

/// How long a case runs before it is the turn of another.
const SLICE: Duration = Duration::from_millis(400);
/// The first case is that many times as often at turn as another: its tails are looked at.
const WEIGHT: usize = 3;
/// Ratios kept of a protocol, evenly over the run, for comparisons with other runs.
const KEPT: usize = 400;
/// Quantiles of a latency curve.
const CURVE: [f64; 12] = [0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.995, 0.999, 0.9995, 1.0];

/// What to run.
#[derive(Debug, Clone)]
pub struct Options {
    /// The cases; the first one is what the others are compared with.
    pub cases: Vec<Case>,
    /// For how long altogether.
    pub duration: Duration,
    /// Stop after so many rounds of each case, if not before.
    pub rounds: u64,
    /// Seed of the order of protocols and cases, of the pauses and of NMIs.
    pub seed: u64,
}

/// What is varied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Case {
    /// Sites patched at once, with one round of messages for all.
    pub sites: usize,
    /// vCPUs that pass through the sites.
    pub executors: usize,
    /// NMIs a second, over all executors.
    pub nmi_rate: u32,
    /// Microseconds that the patcher is away before its last store.
    pub delay: u32,
}

impl Case {
    /// One site, nothing from beside.
    pub fn plain(executors: usize) -> Case {
        Case { sites: 1, executors, nmi_rate: 0, delay: 0 }
    }

    /// The plain case, and those that differ from it in one thing: up to one executor more than there are CPUs for.
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
        let plural = |count: usize| if count == 1 { "" } else { "s" };
        write!(
            f,
            "{} site{}, {} executor{}",
            self.sites,
            plural(self.sites),
            self.executors,
            plural(self.executors)
        )?;
        if self.nmi_rate > 0 {
            write!(f, ", {} NMIs/s", self.nmi_rate)?;
        }
        if self.delay > 0 {
            write!(f, ", patcher away {} µs", self.delay)?;
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

/// Three digits, and room for whatever occurs.
fn histogram() -> Histogram<u64> {
    Histogram::new(3).expect("three digits are within what the crate takes")
}

fn record(histogram: &mut Histogram<u64>, nanoseconds: u64) {
    histogram.record(nanoseconds).expect("a histogram that resizes has room for any u64");
}

/// One protocol in one case.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Line {
    /// Which.
    pub protocol: Protocol,
    /// Median over the rounds of its patcher time over that of [`Protocol::BASE`] in the same round; none where there
    /// are more executors than CPUs for them, since times are then those of the host's scheduler.
    pub patch_ratio: Option<f64>,
    /// The same of stalls.
    pub stall_ratio: Option<f64>,
    /// Median of its patcher time for each of the sites, in nanoseconds.
    pub a_site: f64,
    /// Patcher time.
    pub patch: Quantiles,
    /// Stall of the executor that stalled longest.
    pub stall: Quantiles,
    /// A round of messages, from sending the first until every executor has acknowledged it, or is held. Zeros
    /// without rounds.
    pub round: Quantiles,
    /// Traps of executors.
    pub traps: u64,
    /// How much longer than the last pass without a trap one with traps took: with one site, what a trap costs, and
    /// whatever message came in the same pass. Zeros without traps.
    pub trap: Quantiles,
    /// IPIs and NMIs that were sent.
    pub sent: u64,
    /// IPIs and NMIs that handlers counted.
    pub delivered: u64,
    /// Ratios of single rounds, patcher time and stall, evenly over the run.
    pub ratios: [Vec<f32>; 2],
}

/// A case with what it came to.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Outcome {
    /// What was varied.
    #[serde(flatten)]
    pub case: Case,
    /// More executors than CPUs beside the patcher's: times are those of the host's scheduler.
    pub overcommitted: bool,
    /// Rounds that are complete.
    pub rounds: u64,
    /// Passes of all executors, each through all sites.
    pub passes: u64,
    /// NMIs from beside.
    pub nmis: Messages,
    /// The protocols, in the order of [`Protocol::ALL`]; NMI rounds are not performed among other NMIs.
    pub lines: Vec<Line>,
}

impl Outcome {
    /// One protocol.
    pub fn line(&self, protocol: Protocol) -> Option<&Line> {
        self.lines.iter().find(|line| line.protocol == protocol)
    }
}

/// A run with what it was made on.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Bench {
    /// Version of Crossmod.
    pub crossmod: String,
    /// What kind of result this is.
    pub tier: String,
    /// Where it ran.
    pub host: Host,
    /// Seed.
    pub seed: u64,
    /// How long it ran.
    pub seconds: f64,
    /// Ended by a signal.
    pub interrupted: bool,
    /// The cases, the plain one first.
    pub cases: Vec<Outcome>,
}

/// Measures. A round that a signal cuts short does not count.
///
/// # Errors
///
/// [`MachineError::NoKvm`] and [`MachineError::NotHere`] if it cannot run here; [`MachineError::Contract`]
/// if an executor does not answer, or handlers counted another number of messages than were sent.
pub fn bench(options: &Options, mut tick: impl FnMut(f64)) -> Result<Bench, MachineError> {
    let cpus = allowed_cpus();
    let &[own, ref others @ ..] = &cpus[..] else {
        return Err(MachineError::NotHere("this needs a CPU for this process to use".into()));
    };
    // Before the calling thread is bound: it counts the CPUs that the process may use.
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
            // Every case has had a turn before the time may end the run.
            let late = began.elapsed() >= options.duration && measured.iter().all(|case| case.rounds() > 0);
            if late || ripe(&measured[turn]) || stop_requested() {
                continue;
            }
            let limit = options.rounds - measured[turn].rounds();
            measured[turn].slice(places, SLICE, limit, &mut random)?;
            tick((began.elapsed().as_secs_f64() / options.duration.as_secs_f64()).min(1.0));
        }
    }
    let cases = measured.iter().map(|measured| measured.outcome(others.len())).collect::<Result<_, _>>()?;
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
            "1 site, 2 executors, 5 NMIs/s, patcher away 3 µs"
        );
    }
}
