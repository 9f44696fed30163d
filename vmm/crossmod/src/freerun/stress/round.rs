//! The patcher: round after round, each from a site for which every executor was serialised.

use std::sync::atomic::Ordering;
use std::time::Duration;

use crossmod_abi::va;

use super::finding::Event;
use super::judge::StressState;
use crate::machine::free::spin;
use crate::machine::free::stress::{PatcherHandle, Waited};
use crate::machine::{MachineError, Result};
use crate::plan::{Function, OpKind, Word};
use crate::property::Property;

/// Longest pause between two operations.
const PAUSE: Duration = Duration::from_micros(2);
/// Longest time between a reset and a round, and after a round.
const ALONE: Duration = Duration::from_micros(20);
/// Duration of a `delay` step.
const DELAY: Duration = Duration::from_micros(5);

/// The patcher.
pub struct Patching<'a, 'b> {
    pub shared: &'a StressState<'a>,
    pub handle: &'a mut PatcherHandle<'b>,
    pub random: fastrand::Rng,
}

impl Patching<'_, '_> {
    /// Performs the scenario's steps once. If a wait does not end, the run is over.
    pub fn round(&mut self, round: u64) -> Result<Waited> {
        self.alone(ALONE);
        for op in &self.shared.plan.program {
            self.alone(PAUSE);
            let waited = self.perform(&op.kind, 2 * round + 1)?;
            if self.noted(waited, &op.step)? != Waited::Done {
                return Ok(waited);
            }
        }
        self.alone(ALONE);
        self.reset(round + 1)
    }

    /// Performs one step. `new`: the version that the round stores.
    fn perform(&mut self, kind: &OpKind, new: u64) -> Result<Waited> {
        let Patching { shared, handle, .. } = self;
        match kind {
            OpKind::Store { offset, bytes } => {
                if shared.begun.load(Ordering::SeqCst) != new {
                    shared.begun.store(new, Ordering::SeqCst);
                    handle.begun(new);
                }
                let site = (shared.plan.site.address - va::SITE) as usize;
                handle.store(site + offset, &numbered(shared, *offset, bytes, new));
            }
            OpKind::Armed(armed) => shared.armed.store(*armed, Ordering::SeqCst),
            OpKind::Broadcast { function, mask } => {
                let mask = self.members(*mask);
                self.handle.broadcast(*function, mask)?;
            }
            OpKind::WaitAcks { mask } => return Ok(self.handle.wait_acks(self.members(*mask))),
            OpKind::WaitWord { word: Word::Arrived, value } => {
                let most = handle.everyone().count_ones();
                let all = *value as usize == shared.plan.executors.len();
                return Ok(handle.wait_arrived(if all { most } else { (*value).min(most) }.into()));
            }
            OpKind::SetWord { word: Word::Release, value: 1.. } => handle.release(),
            OpKind::SetWord { word: Word::Arrived, .. } => handle.reset_arrivals(),
            OpKind::Delay => spin(DELAY),
            OpKind::FreeDescriptor => shared.freed.store(true, Ordering::SeqCst),
            OpKind::Done(_) => {
                shared.done.store(new, Ordering::SeqCst);
                handle.done(new);
            }
            // Only the patcher writes the remaining words, and the hardware behaves as it does.
            OpKind::WaitWord { .. }
            | OpKind::SetWord { .. }
            | OpKind::Describe(_)
            | OpKind::AssumeSynchronised
            | OpKind::Quiesce(_)
            | OpKind::SetEach { .. }
            | OpKind::WaitEach { .. }
            | OpKind::Take(_)
            | OpKind::AddWord { .. }
            | OpKind::FreeTarget(_) => {}
        }
        Ok(Waited::Done)
    }

    /// Holds and serialises every executor, and restores the old version, of the given round.
    pub fn reset(&mut self, round: u64) -> Result<Waited> {
        let (shared, everyone) = (self.shared, self.handle.everyone());
        // The steps may not have released every held executor.
        self.handle.release();
        self.handle.reset_arrivals();
        self.handle.broadcast(Function::Stop, everyone)?;
        let waited = Self::answered(self.handle.wait_arrived(everyone.count_ones().into()))?;
        if waited != Waited::Done {
            return Ok(waited);
        }
        let number = 2 * round;
        self.handle.store((shared.plan.site.address - va::SITE) as usize, &shared.versions.bytes(number));
        shared.armed.store(shared.plan.handler.armed_at_start, Ordering::SeqCst);
        shared.freed.store(false, Ordering::SeqCst);
        shared.round.store(round, Ordering::SeqCst);
        shared.begun.store(number, Ordering::SeqCst);
        self.handle.begun(number);
        shared.done.store(number, Ordering::SeqCst);
        self.handle.done(number);
        self.handle.release();
        let waited = Self::answered(self.handle.wait_acks(everyone))?;
        // The arrivals that the steps wait for count from here.
        self.handle.reset_arrivals();
        Ok(waited)
    }

    /// The end of a wait while no step of the protocol is under way. Nothing that the protocol does can keep an executor
    /// from answering then.
    fn answered(waited: Waited) -> Result<Waited> {
        match waited {
            Waited::Stuck | Waited::NotRun => Err(MachineError::NotAnswered),
            waited => Ok(waited),
        }
    }

    /// The end of a wait of a step; notes a finding if executors have run and have not answered.
    fn noted(&self, waited: Waited, step: &str) -> Result<Waited> {
        match waited {
            Waited::NotRun => return Err(MachineError::NotAnswered),
            Waited::Stuck => {
                let what = format!(
                    "step `{step}` waited for three seconds without an answer, though every executor has run for one"
                );
                let event = || Event::new(Property::Deadlock, what, 0, "patcher");
                self.shared.note(event, Property::Deadlock);
            }
            _ => {}
        }
        Ok(waited)
    }

    /// The mask of all executors of the scenario becomes that of all executors here.
    fn members(&self, mask: u32) -> u32 {
        if mask == self.shared.plan.everyone() { self.handle.everyone() } else { mask }
    }

    fn alone(&mut self, longest: Duration) {
        spin(Duration::from_nanos(self.random.u64(..longest.as_nanos() as u64)));
    }
}

/// The bytes of a store, with the numbers of this round instead of the scenario's displacements.
fn numbered(shared: &StressState<'_>, offset: usize, bytes: &[u8], new: u64) -> Vec<u8> {
    let site = &shared.plan.site;
    for (code, number) in [(&site.new, new), (&site.old, new - 1)] {
        if code.bytes.get(offset..offset + bytes.len()) == Some(bytes) {
            return shared.versions.bytes(number)[offset..offset + bytes.len()].to_vec();
        }
    }
    bytes.to_vec()
}
