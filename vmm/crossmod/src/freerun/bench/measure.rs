//! Rounds of one case, and their results.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::protocol::{Protocol, SITE, code};
use super::{Case, CaseResult, KEPT, ProtocolResult, Quantiles};
use crate::freerun::messages::{Messages, Rates, injecting};
use crate::machine::free::bench::{BenchPatcher, BenchVm, Counted, ticks};
use crate::machine::free::{Injector, Message, spin};
use crate::machine::{MachineError, Result, stop_requested};

/// Longest pause between two patches.
const PAUSE: Duration = Duration::from_micros(200);
const ALL: usize = Protocol::ALL.len();

/// Patcher time and stall of one patch, in nanoseconds.
type Sample = [u64; 2];

/// Times of parts that occur several times in a patch, or never: rounds of messages, and the additional time of passes
/// with traps.
type Parts = [Histogram<u64>; 2];

/// The same of one slice, in TSC ticks.
type Ticks = [Vec<u64>; 2];

/// A case so far.
pub(super) struct Measured {
    case: Case,
    /// In the order of [`Protocol::ALL`].
    parts: [Parts; ALL],
    /// Per round, in the order of [`Protocol::ALL`].
    samples: Vec<[Sample; ALL]>,
    counted: [Counted; ALL],
    sent: [u64; ALL],
    passes: u64,
    /// NMIs from another thread.
    nmis: Messages,
    generation: u32,
}

impl Measured {
    pub fn new(case: Case) -> Measured {
        Measured {
            case,
            parts: std::array::from_fn(|_| [super::histogram(), super::histogram()]),
            samples: Vec::new(),
            counted: Default::default(),
            sent: Default::default(),
            passes: 0,
            nmis: Messages::default(),
            generation: 0,
        }
    }

    pub fn rounds(&self) -> u64 {
        self.samples.len() as u64
    }

    /// Indexes in [`Protocol::ALL`] of the protocols of this case: the handler of NMIs from another thread does not
    /// acknowledge broadcasts.
    fn performed(&self) -> impl Iterator<Item = usize> + use<> {
        let strays = self.case.nmi_rate > 0;
        (0..ALL).filter(move |&index| !(strays && Protocol::ALL[index] == Protocol::Int3Nmi))
    }

    /// Runs for `duration`, but at least one round, on a new machine.
    pub fn slice(
        &mut self,
        places: &[usize],
        duration: Duration,
        limit: u64,
        random: &mut fastrand::Rng,
    ) -> Result<()> {
        let case = self.case;
        let vm = BenchVm::new(case.executors, SITE, &code(case.sites), case.nmi_rate > 0)?;
        let seed = random.u64(..);
        vm.run(places, |patcher, injector| {
            let rates = Rates { nmi: case.nmi_rate.into(), irq: 0.0 };
            let rounds = || self.several(patcher, injector, duration, limit, random);
            let (result, crowded) = injecting(injector, rates, seed, rounds)?;
            // Executors take what was pending before a later message.
            let settled = result.is_ok() && !stop_requested();
            if settled && case.nmi_rate > 0 {
                Protocol::Int3Two.patch(patcher, 0, 1, Duration::ZERO)?;
            }
            self.passes += patcher.counted().passes;
            result?;
            self.nmis += Messages::of(injector, Message::Nmi, crowded, settled)?;
            Ok(())
        })
    }

    fn several(
        &mut self,
        patcher: &mut BenchPatcher<'_>,
        injector: Injector<'_>,
        duration: Duration,
        limit: u64,
        random: &mut fastrand::Rng,
    ) -> Result<()> {
        let (began, first, before) = (Instant::now(), ticks(), self.samples.len());
        let mut parts: [Ticks; ALL] = Default::default();
        while self.samples.len() == before
            || (began.elapsed() < duration && ((self.samples.len() - before) as u64) < limit)
        {
            match self.round(patcher, injector, &mut parts, random) {
                Err(MachineError::Interrupted) => break,
                result => result?,
            }
        }
        let ticks_per_ns = (ticks() - first) as f64 / began.elapsed().as_nanos() as f64;
        let ns = |ticks: u64| (ticks as f64 / ticks_per_ns) as u64;
        self.samples[before..].iter_mut().flatten().flatten().for_each(|sample| *sample = ns(*sample));
        for (all, new) in self.parts.iter_mut().zip(parts) {
            for (histogram, times) in all.iter_mut().zip(new) {
                times.into_iter().for_each(|time| super::record(histogram, ns(time)));
            }
        }
        Ok(())
    }

    /// Every protocol once. Times are in ticks.
    fn round(
        &mut self,
        patcher: &mut BenchPatcher<'_>,
        injector: Injector<'_>,
        parts: &mut [Ticks; ALL],
        random: &mut fastrand::Rng,
    ) -> Result<()> {
        let mut order: Vec<usize> = self.performed().collect();
        random.shuffle(&mut order);
        let mut round = [Sample::default(); ALL];
        let (mut counted, mut sent) = (self.counted, self.sent);
        for index in order {
            if stop_requested() {
                return Err(MachineError::Interrupted);
            }
            self.generation += 1;
            spin(Duration::from_nanos(random.u64(0..PAUSE.as_nanos() as u64)));
            let before = patcher.counted();
            let nmis = injector.all_sent();
            patcher.begin()?;
            let from = ticks();
            let delay = Duration::from_micros(self.case.delay.into());
            let performed = Protocol::ALL[index].patch(patcher, self.generation, self.case.sites, delay)?;
            let took = ticks() - from;
            let stall = patcher.end()?;
            if performed.sent > 0 {
                // Executors take earlier NMIs before they acknowledge a broadcast.
                injector.settle(&nmis);
            }
            round[index] = [took, stall];
            sent[index] += performed.sent;
            parts[index][0].extend(performed.rounds());
            parts[index][1].extend(patcher.trapped());
            counted[index] += patcher.counted() - before;
        }
        self.samples.push(round);
        (self.counted, self.sent) = (counted, sent);
        Ok(())
    }

    /// The results. `spare`: CPUs besides the patcher's.
    pub fn result(&self, spare: usize) -> Result<CaseResult> {
        let overcommitted = self.case.executors > spare;
        let lines: Vec<ProtocolResult> =
            self.performed().map(|index| self.protocol(index, overcommitted)).collect();
        if let Some(line) = lines.iter().find(|line| line.sent != line.delivered) {
            let name = line.protocol.name();
            let what = format!("{name}: {} messages sent, {} counted by handlers", line.sent, line.delivered);
            return Err(MachineError::Messages(what));
        }
        Ok(CaseResult {
            case: self.case,
            overcommitted,
            rounds: self.rounds(),
            passes: self.passes,
            nmis: self.nmis,
            lines,
        })
    }

    fn protocol(&self, index: usize, overcommitted: bool) -> ProtocolResult {
        let base = Protocol::BASE as usize;
        let ratios = |what: usize| -> Vec<f64> {
            let ratio = |round: &[Sample; ALL]| round[index][what] as f64 / round[base][what].max(1) as f64;
            self.samples.iter().map(ratio).collect()
        };
        let thinned = |ratios: Vec<f64>| -> Vec<f32> {
            let step = ratios.len().div_ceil(KEPT).max(1);
            ratios.into_iter().step_by(step).map(|ratio| ratio as f32).collect()
        };
        let ratio = |what: usize| {
            (!overcommitted && !self.samples.is_empty()).then(|| super::compare::median(&mut ratios(what)))
        };
        let quantiles = |what: usize| {
            let mut histogram = super::histogram();
            self.samples.iter().for_each(|round| super::record(&mut histogram, round[index][what]));
            Quantiles::of(&histogram)
        };
        let patch = quantiles(0);
        let counted = self.counted[index];
        ProtocolResult {
            protocol: Protocol::ALL[index],
            patch_ratio: ratio(0),
            stall_ratio: ratio(1),
            a_site: patch.p50 as f64 / self.case.sites as f64,
            patch,
            stall: quantiles(1),
            round: Quantiles::of(&self.parts[index][0]),
            traps: counted.traps,
            trap: Quantiles::of(&self.parts[index][1]),
            sent: self.sent[index],
            delivered: counted.ipis + counted.nmis,
            ratios: if overcommitted { Default::default() } else { [0, 1].map(|what| thinned(ratios(what))) },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_from_the_rounds() {
        let mut measured = Measured::new(Case::plain(1));
        measured.samples = vec![[[1000, 200]; ALL]; 5];
        for round in &mut measured.samples {
            round[0] = [100, 50];
        }
        measured.samples[4][0] = [10_000, 50];
        measured.counted = [Counted { passes: 1, traps: 2, ipis: 3, nmis: 1 }; ALL];
        measured.sent = [4; ALL];
        (1..=9).for_each(|time| crate::freerun::bench::record(&mut measured.parts[0][0], time));
        let outcome = measured.result(1).unwrap();
        let naive = outcome.line(Protocol::Naive).unwrap();
        assert_eq!((naive.patch_ratio, naive.stall_ratio), (Some(0.1), Some(0.25)));
        assert_eq!((naive.patch.p50, naive.stall.max), (100, 50));
        assert!(naive.patch.max >= 10_000 && naive.patch.max < 10_020, "{naive:?}");
        assert_eq!((outcome.rounds, naive.traps, naive.sent, naive.delivered), (5, 2, 4, 4));
        assert_eq!((naive.round.p50, naive.round.max, naive.trap.max), (5, 9, 0));
        let base = outcome.line(Protocol::BASE).unwrap();
        assert_eq!((base.patch_ratio, base.stall_ratio), (Some(1.0), Some(1.0)));
        assert_eq!(naive.ratios[0].len(), 5);
        // More executors than CPUs: no ratios.
        let over = measured.result(0).unwrap();
        assert!(over.overcommitted && over.lines.iter().all(|line| line.patch_ratio.is_none()));
        // A lost message is an error.
        measured.sent[3] += 1;
        assert!(measured.result(1).unwrap_err().to_string().contains("5 messages sent, 4 counted"));
    }

    #[test]
    fn cases_with_nmis_lack_the_protocol_that_sends_nmis() {
        let measured = Measured::new(Case { nmi_rate: 5, ..Case::plain(1) });
        assert!(measured.result(1).unwrap().line(Protocol::Int3Nmi).is_none());
        assert!(Measured::new(Case::plain(1)).result(1).unwrap().line(Protocol::Int3Nmi).is_some());
    }
}
