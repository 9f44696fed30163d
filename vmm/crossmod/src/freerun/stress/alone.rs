//! A version of a site that nothing patches.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::machine::MachineError;
use crate::machine::free::Pass;
use crate::machine::free::stress::{Observer, StressConfig, StressVm, Trap};
use crate::plan::Plan;

/// The value that a pass leaves in EAX while nothing patches, or the reason why there is none.
pub(super) fn alone(
    plan: &Plan,
    (text, landing): (Vec<u8>, Vec<u8>),
    places: &[usize],
) -> Result<Result<u32, String>, MachineError> {
    let vm = StressVm::new(StressConfig {
        executors: 1,
        site: plan.site.address,
        text,
        landing,
        nmi_runs_site: false,
        irq_runs_site: false,
    })?;
    let ready = AtomicBool::new(false);
    let (_, observers) = vm.run(places, vec![FirstBatch { ready: &ready, seen: None }], |handle, _| {
        while !ready.load(Ordering::Relaxed) && !handle.stopped() {
            std::thread::yield_now();
        }
        Ok(())
    })?;
    // A failed executor is an error already: only a signal is left.
    observers.into_iter().find_map(|observer| observer.seen).ok_or(MachineError::Interrupted)
}

/// Observes the first batch.
struct FirstBatch<'a> {
    ready: &'a AtomicBool,
    seen: Option<Result<u32, String>>,
}

impl FirstBatch<'_> {
    fn see(&mut self, seen: Result<u32, String>) {
        self.seen.get_or_insert(seen);
        self.ready.store(true, Ordering::Relaxed);
    }
}

impl Observer for FirstBatch<'_> {
    fn passes(&mut self, passes: &[Pass]) {
        let Some(first) = passes.first().map(|pass| pass.value as u32) else { return };
        let same = passes.iter().all(|pass| pass.value as u32 == first);
        self.see(if same { Ok(first) } else { Err("leaves different values in EAX".into()) });
    }

    fn trap(&mut self, _: u64) -> Trap {
        self.see(Err("raises #BP".into()));
        Trap::Abandon
    }

    fn fault(&mut self, what: &str, rip: u64) {
        self.see(Err(format!("ends in {what} at {rip:#x}")));
    }
}
