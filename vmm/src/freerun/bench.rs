//! What protocols cost: all of them in one interleaved run, so that a machine that drifts favours none.
//!
//! A host thread patches one five-byte instruction, inside an aligned quadword, which executors pass through without
//! pause. Each round performs every protocol once, in an order drawn anew. Measured of each patch: the
//! patcher's time from its first store to its last wait; the *stall*, the longest time between two passes of any
//! executor from just before the patch until two passes after it; traps and messages.
//!
//! What this does not show: safety, which [`check`](crate::check()) is for (some of these protocols are unsafe,
//! and cheap for that reason); a kernel's own costs, whose broadcasts do not go through a hypervisor and whose
//! handlers are not emulated. Where KVM runs nested or without hardware virtualisation, a message, a trap and
//! each instruction of a handler cost far more than on bare metal, and protocols are compared by how many of
//! those they need. A stall includes whatever else the host scheduled meanwhile; its median is little
//! affected, its maximum is.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde::Serialize;

pub use super::protocol::Protocol;
use super::protocol::{SITE, code};
use crate::host::Host;
use crate::machine::free::{Counted, Patcher, Rig, ticks};
use crate::machine::{MachineError, allowed_cpus, pin, stop_requested};

/// Longest pause between two patches.
const PAUSE: Duration = Duration::from_micros(200);

/// What to run.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// vCPUs that pass through the site.
    pub executors: usize,
    /// For how long.
    pub duration: Duration,
    /// Stop after so many rounds, if not before.
    pub rounds: u64,
    /// Seed of the order of protocols and of the pauses.
    pub seed: u64,
}

/// Quantiles in nanoseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Quantiles {
    /// Median.
    pub p50: u64,
    /// 99 %.
    pub p99: u64,
    /// 99.9 %.
    pub p999: u64,
    /// Largest.
    pub max: u64,
}

impl Quantiles {
    fn of(histogram: &Histogram<u64>) -> Quantiles {
        let at = |quantile| histogram.value_at_quantile(quantile);
        Quantiles { p50: at(0.5), p99: at(0.99), p999: at(0.999), max: histogram.max() }
    }
}

/// One protocol.
#[derive(Debug, Clone, Serialize)]
pub struct Line {
    /// Which.
    pub protocol: Protocol,
    /// How often it was performed.
    pub patches: u64,
    /// Median over the rounds of its patcher time over that of [`Protocol::BASE`] in the same round.
    pub patch_ratio: f64,
    /// The same of stalls.
    pub stall_ratio: f64,
    /// Patcher time.
    pub patch: Quantiles,
    /// Stall of the executor that stalled longest.
    pub stall: Quantiles,
    /// Traps of executors.
    pub traps: u64,
    /// IPIs and NMIs that were sent.
    pub sent: u64,
    /// IPIs and NMIs that handlers counted.
    pub delivered: u64,
}

/// A run with what it was made on.
#[derive(Debug, Clone, Serialize)]
pub struct Bench {
    /// Version of Crossmod.
    pub crossmod: &'static str,
    /// What kind of result this is.
    pub tier: &'static str,
    /// Where it ran.
    pub host: Host,
    /// vCPUs that passed through the site.
    pub executors: usize,
    /// More executors than CPUs beside the patcher's: times are those of the host's scheduler.
    pub overcommitted: bool,
    /// Seed.
    pub seed: u64,
    /// How long it ran.
    pub seconds: f64,
    /// Rounds that are complete.
    pub rounds: u64,
    /// Passes of all executors.
    pub passes: u64,
    /// Ended by a signal.
    pub interrupted: bool,
    /// The protocols, in the order of [`Protocol::ALL`].
    pub lines: Vec<Line>,
}

/// What was measured of one patch: patcher time and stall in ticks.
type Sample = [u64; 2];

struct Measured {
    /// Per round, in the order of [`Protocol::ALL`].
    samples: Vec<[Sample; Protocol::ALL.len()]>,
    counted: [Counted; Protocol::ALL.len()],
    sent: [u64; Protocol::ALL.len()],
    passes: u64,
    ticks_per_ns: f64,
    interrupted: bool,
}

/// Measures. A round that a signal cuts short does not count.
///
/// # Errors
///
/// [`MachineError::NoKvm`] and [`MachineError::NotHere`] if it cannot run here; [`MachineError::Contract`]
/// if an executor does not answer, or handlers counted another number of messages than were sent.
pub fn bench(options: &Options) -> Result<Bench, MachineError> {
    let cpus = allowed_cpus();
    let &[own, ref others @ ..] = &cpus[..] else {
        return Err(MachineError::NotHere("this needs a CPU for this process to use".into()));
    };
    // Before the calling thread is bound: it counts the CPUs that the process may use.
    let host = Host::read();
    let began = Instant::now();
    let rig = Rig::new(options.executors, SITE, &code(0))?;
    pin(own);
    let places = if others.is_empty() { &cpus[..] } else { others };
    let measured = rig.run(places, |patcher| measure(options, patcher))?;
    let lines = Protocol::ALL.into_iter().map(|protocol| line(protocol, &measured)).collect();
    Ok(Bench {
        crossmod: env!("CARGO_PKG_VERSION"),
        tier: super::TIER,
        host,
        executors: options.executors,
        overcommitted: options.executors > others.len(),
        seed: options.seed,
        seconds: began.elapsed().as_secs_f64(),
        rounds: measured.samples.len() as u64,
        passes: measured.passes,
        interrupted: measured.interrupted,
        lines,
    })
}

fn measure(options: &Options, patcher: &mut Patcher<'_>) -> Result<Measured, MachineError> {
    let mut random = fastrand::Rng::with_seed(options.seed);
    let mut measured = Measured {
        samples: Vec::new(),
        counted: Default::default(),
        sent: Default::default(),
        passes: 0,
        ticks_per_ns: 1.0,
        interrupted: false,
    };
    let (began, first) = (Instant::now(), ticks());
    let mut generation = 0;
    'rounds: while began.elapsed() < options.duration && (measured.samples.len() as u64) < options.rounds {
        let mut order: [usize; Protocol::ALL.len()] = std::array::from_fn(|index| index);
        random.shuffle(&mut order);
        let mut round = [Sample::default(); Protocol::ALL.len()];
        let (mut counted, mut sent) = (measured.counted, measured.sent);
        for index in order {
            if stop_requested() {
                break 'rounds;
            }
            generation += 1;
            let pause = Duration::from_nanos(random.u64(0..PAUSE.as_nanos() as u64));
            let from = Instant::now();
            while from.elapsed() < pause {
                std::hint::spin_loop();
            }
            let patched = one(Protocol::ALL[index], patcher, code(generation));
            let (sample, more, messages) = match patched {
                Err(MachineError::Interrupted) => break 'rounds,
                other => other?,
            };
            round[index] = sample;
            counted[index] = sum(counted[index], more);
            sent[index] += messages;
        }
        measured.samples.push(round);
        (measured.counted, measured.sent) = (counted, sent);
    }
    measured.interrupted = stop_requested();
    measured.ticks_per_ns = (ticks() - first) as f64 / began.elapsed().as_nanos() as f64;
    measured.passes = patcher.counted().passes;
    for (protocol, (counted, &sent)) in Protocol::ALL.iter().zip(measured.counted.iter().zip(&measured.sent))
    {
        let delivered = counted.ipis + counted.nmis;
        if delivered != sent {
            let what = format!("{}: {sent} messages sent, {delivered} counted by handlers", protocol.name());
            return Err(MachineError::Contract { rip: 0, what });
        }
    }
    Ok(measured)
}

fn one(
    protocol: Protocol,
    patcher: &mut Patcher<'_>,
    new: [u8; 8],
) -> Result<(Sample, Counted, u64), MachineError> {
    let before = patcher.counted();
    patcher.begin()?;
    let from = ticks();
    let sent = protocol.patch(patcher, new)?;
    let took = ticks() - from;
    let stall = patcher.end()?;
    let after = patcher.counted();
    let more = Counted {
        passes: after.passes - before.passes,
        traps: after.traps - before.traps,
        ipis: after.ipis - before.ipis,
        nmis: after.nmis - before.nmis,
    };
    Ok(([took, stall], more, sent))
}

fn sum(a: Counted, b: Counted) -> Counted {
    Counted {
        passes: a.passes + b.passes,
        traps: a.traps + b.traps,
        ipis: a.ipis + b.ipis,
        nmis: a.nmis + b.nmis,
    }
}

fn line(protocol: Protocol, measured: &Measured) -> Line {
    let place = |protocol: Protocol| Protocol::ALL.iter().position(|&other| other == protocol);
    let (index, base) = (place(protocol).unwrap_or_default(), place(Protocol::BASE).unwrap_or_default());
    let quantiles = |what: usize| {
        // Three digits, up to whatever occurs: an auto-resizing histogram accepts every value.
        let Ok(mut histogram) = Histogram::<u64>::new(3) else { return Quantiles::default() };
        for round in &measured.samples {
            let nanoseconds = (round[index][what] as f64 / measured.ticks_per_ns) as u64;
            // Cannot fail: it resizes, and has room for any u64.
            let _ = histogram.record(nanoseconds);
        }
        Quantiles::of(&histogram)
    };
    let ratio = |what: usize| {
        let ratios =
            measured.samples.iter().map(|round| round[index][what] as f64 / round[base][what].max(1) as f64);
        median(ratios.collect())
    };
    let counted = measured.counted[index];
    Line {
        protocol,
        patches: measured.samples.len() as u64,
        patch_ratio: ratio(0),
        stall_ratio: ratio(1),
        patch: quantiles(0),
        stall: quantiles(1),
        traps: counted.traps,
        sent: measured.sent[index],
        delivered: counted.ipis + counted.nmis,
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_made_of_the_rounds() {
        let mut rounds = vec![[[2000, 400]; Protocol::ALL.len()]; 5];
        for round in &mut rounds {
            round[0] = [200, 100];
        }
        rounds[4][0] = [20_000, 100];
        let measured = Measured {
            samples: rounds,
            counted: [Counted { passes: 1, traps: 2, ipis: 3, nmis: 1 }; Protocol::ALL.len()],
            sent: [4; Protocol::ALL.len()],
            passes: 9,
            ticks_per_ns: 2.0,
            interrupted: false,
        };
        let naive = line(Protocol::Naive, &measured);
        assert_eq!((naive.patch_ratio, naive.stall_ratio), (0.1, 0.25));
        assert_eq!((naive.patch.p50, naive.stall.max), (100, 50));
        assert!(naive.patch.max >= 10_000 && naive.patch.max < 10_020, "{naive:?}");
        assert_eq!((naive.patches, naive.traps, naive.sent, naive.delivered), (5, 2, 4, 4));
        let base = line(Protocol::BASE, &measured);
        assert_eq!((base.patch_ratio, base.stall_ratio), (1.0, 1.0));
    }

    #[test]
    fn no_rounds_are_no_figures() {
        assert_eq!(median(Vec::new()), 0.0);
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
    }
}
