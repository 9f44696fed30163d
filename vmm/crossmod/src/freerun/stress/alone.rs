//! A version of a site that nothing patches.

use std::sync::mpsc;
use std::time::Duration;

use crate::machine::free::Pass;
use crate::machine::free::stress::{Observer, StressConfig, StressVm, Trap};
use crate::machine::{MachineError, Result};
use crate::plan::Plan;

/// Time between two looks for a signal.
const LOOK: Duration = Duration::from_millis(1);

/// The value that a pass leaves in EAX while nothing patches, or the reason why there is none.
pub(super) fn alone(
    plan: &Plan,
    (text, landing): (Vec<u8>, Vec<u8>),
    places: &[usize],
) -> Result<Result<u32, String>> {
    let vm = StressVm::new(StressConfig {
        executors: 1,
        site: plan.site.address,
        text,
        landing,
        nmi_runs_site: false,
        irq_runs_site: false,
    })?;
    let (sender, receiver) = mpsc::channel();
    let (seen, _) = vm.run(places, vec![FirstBatch(sender)], |handle, _| {
        while !handle.stopped() {
            if let Ok(seen) = receiver.recv_timeout(LOOK) {
                return Ok(Some(seen));
            }
        }
        Ok(receiver.try_recv().ok())
    })?;
    // A failed executor is an error already: only a signal is left.
    seen.ok_or(MachineError::Interrupted)
}

/// Sends what batches show, of which only the first matters.
struct FirstBatch(mpsc::Sender<Result<u32, String>>);

impl FirstBatch {
    fn see(&self, seen: Result<u32, String>) {
        _ = self.0.send(seen);
    }
}

impl Observer for FirstBatch {
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
