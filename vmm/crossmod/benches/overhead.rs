//! What the virtual machine costs an executor: passes through a site at ring 3 inside it against the same instructions
//! on a plain thread, both on one CPU, in turn.
//!
//! `cargo bench --bench overhead`

use crossmod::freerun::survey::Cell;
use crossmod::machine::free::Pass;
use crossmod::machine::free::survey::{
    BATCH, Job, Length, Pinning, PlainThreads, Shape, Slice, SurveyVm, Writer,
};
use crossmod::machine::{MachineError, allowed_cpus, pin};
use crossmod::plan::Ring;

/// Pairs of measurements.
const PAIRS: usize = 201;
/// Batches of one measurement: some 20 ms.
const BATCHES: u64 = 500;

fn main() -> Result<(), MachineError> {
    let cpus = allowed_cpus();
    let cpu = cpus.last().copied().unwrap_or_default();
    let pinned = pin(cpu);
    let cell = Cell::in_line(Length::Four, 0);
    let job = Job {
        site: cell.site(),
        code: cell.code(),
        store: cell.store,
        length: cell.length,
        alternating: None,
        shape: Shape::Tight,
        spacing: 0,
        seed: 1,
        duration: std::time::Duration::from_millis(20),
    };
    let (mut machine, mut plain) = (SurveyVm::new(Ring::User)?, PlainThreads::new()?);
    let passes = (BATCHES * BATCH as u64) as f64;
    let (mut ratios, mut rates) = (Vec::new(), [Vec::new(), Vec::new()]);
    for pair in 0..PAIRS {
        let mut times = [0.0; 2];
        // Neither is always the first.
        for turn in [pair % 2, 1 - pair % 2] {
            times[turn] = if turn == 0 {
                machine.undisturbed(&job, BATCHES)?.as_secs_f64()
            } else {
                plain.undisturbed(&job, BATCHES).as_secs_f64()
            };
        }
        ratios.push(times[1] / times[0]);
        (0..2).for_each(|which| rates[which].push(passes / times[which] / 1e6));
    }
    let [guest, host] = rates.each_mut().map(|rates| quantile(rates, 0.5));
    let [low, middle, high] = [0.25, 0.5, 0.75].map(|part| quantile(&mut ratios, part));
    eprintln!("CPU {cpu}{}; {PAIRS} interleaved pairs", if pinned { "" } else { ", NOT PINNED" });
    eprintln!("millions of passes a second: {guest:.1} on a vCPU at ring 3, {host:.1} on a plain thread");
    eprintln!("vCPU / thread: {middle:.3} (quartiles {low:.3} and {high:.3})");

    // With an exit for each batch, as the survey looks at its passes.
    if let [executor, writer, ..] = cpus[..] {
        let job = Job { spacing: 0xffff, ..job };
        let place = Pinning { executor, writer };
        let sink = |_: &[Pass]| {};
        let guest = machine.slice(&job, Writer::Host, place, sink)?;
        let thread = plain.slice(&job, place, sink)?;
        let rate = |slice: &Slice| slice.passes as f64 / slice.seconds / 1e6;
        eprintln!(
            "with a look at each batch of {BATCH} and a writer beside: {:.1} and {:.1}",
            rate(&guest),
            rate(&thread)
        );
    }
    Ok(())
}

fn quantile(values: &mut [f64], part: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    values[((values.len() - 1) as f64 * part).round() as usize]
}
