//! The patcher: round after round, each from a site for which every executor was serialised.

use std::sync::atomic::Ordering;
use std::time::Duration;

use crossmod_abi::va;

use super::finding::Event;
use super::judge::Shared;
use crate::machine::MachineError;
use crate::machine::free::spin;
use crate::machine::free::stress::{PatcherHandle, Waited};
use crate::plan::{Function, OpKind, Word};
use crate::property::Property;

/// Longest pause between two operations.
const PAUSE: Duration = Duration::from_micros(2);
/// Longest time between a reset and a round, and after a round.
const ALONE: Duration = Duration::from_micros(20);
/// Duration of a `delay` step.
const DELAY: Duration = Duration::from_micros(5);

/// How a round ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// All steps were performed.
    Complete,
    /// A wait took too long. The run is over.
    Stuck,
    /// A signal came.
    Interrupted,
}

/// The patcher.
pub struct Patching<'a, 'b> {
    pub shared: &'a Shared<'a>,
    pub handle: &'a mut PatcherHandle<'b>,
    pub random: fastrand::Rng,
}

impl Patching<'_, '_> {
    /// Performs the scenario's steps once.
    pub fn round(&mut self, round: u64) -> Result<Ended, MachineError> {
        self.alone(ALONE);
        let site = (self.shared.plan.site.address - va::SITE) as usize;
        let new = 2 * round + 1;
        let mut stored = false;
        for op in &self.shared.plan.program {
            self.alone(PAUSE);
            let waited = match &op.kind {
                OpKind::Store { offset, bytes } => {
                    if !std::mem::replace(&mut stored, true) {
                        self.shared.begun.store(new, Ordering::SeqCst);
                        self.handle.begun(new);
                    }
                    let bytes = self.numbered(*offset, bytes, new);
                    self.handle.store(site + offset, &bytes);
                    Waited::Done
                }
                OpKind::Armed(armed) => {
                    self.shared.armed.store(*armed, Ordering::SeqCst);
                    Waited::Done
                }
                OpKind::Broadcast { function, mask } => {
                    let mask = self.members(*mask);
                    self.handle.broadcast(*function, mask)?;
                    Waited::Done
                }
                OpKind::WaitAcks { mask } => self.handle.wait_acks(self.members(*mask)),
                OpKind::WaitWord { word: Word::Arrived, value } => {
                    let most = self.handle.everyone().count_ones();
                    let all = *value as usize == self.shared.plan.executors.len();
                    self.handle.wait_arrived(if all { most } else { (*value).min(most) }.into())
                }
                OpKind::SetWord { word: Word::Release, value } => {
                    if *value != 0 {
                        self.handle.release();
                    }
                    Waited::Done
                }
                OpKind::SetWord { word: Word::Arrived, .. } => {
                    self.handle.reset_arrivals();
                    Waited::Done
                }
                OpKind::Delay => {
                    spin(DELAY);
                    Waited::Done
                }
                OpKind::FreeDescriptor => {
                    self.shared.freed.store(true, Ordering::SeqCst);
                    Waited::Done
                }
                OpKind::Done(_) => {
                    self.shared.done.store(new, Ordering::SeqCst);
                    self.handle.done(new);
                    Waited::Done
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
                | OpKind::FreeTarget(_) => Waited::Done,
            };
            if let Some(ended) = self.ended(waited, &op.step) {
                return Ok(ended);
            }
        }
        self.alone(ALONE);
        self.reset(round + 1)
    }

    /// Holds and serialises every executor, and restores the old version, of the given round.
    pub fn reset(&mut self, round: u64) -> Result<Ended, MachineError> {
        let (shared, everyone) = (self.shared, self.handle.everyone());
        // The steps may not have released every held executor.
        self.handle.release();
        self.handle.reset_arrivals();
        self.handle.broadcast(Function::Stop, everyone)?;
        let waited = self.handle.wait_arrived(everyone.count_ones().into());
        if let Some(ended) = self.ended(waited, "reset") {
            return Ok(ended);
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
        let waited = self.handle.wait_acks(everyone);
        // The arrivals that the steps wait for count from here.
        self.handle.reset_arrivals();
        Ok(self.ended(waited, "reset").unwrap_or(Ended::Complete))
    }

    fn ended(&self, waited: Waited, step: &str) -> Option<Ended> {
        match waited {
            Waited::Done => None,
            Waited::Interrupted => Some(Ended::Interrupted),
            Waited::Stuck => {
                let event = || Event {
                    property: Property::Deadlock,
                    what: format!("step `{step}` waited for three seconds without an answer"),
                    executor: 0,
                    by: "patcher",
                    pass: None,
                    before: Vec::new(),
                    after: Vec::new(),
                };
                self.shared.note(event, Property::Deadlock);
                Some(Ended::Stuck)
            }
        }
    }

    /// The bytes of a store, with the numbers of this round instead of the scenario's displacements.
    fn numbered(&self, offset: usize, bytes: &[u8], new: u64) -> Vec<u8> {
        let site = &self.shared.plan.site;
        for (code, number) in [(&site.new, new), (&site.old, new - 1)] {
            if code.bytes.get(offset..offset + bytes.len()) == Some(bytes) {
                return self.shared.versions.bytes(number)[offset..offset + bytes.len()].to_vec();
            }
        }
        bytes.to_vec()
    }

    /// The mask of all executors of the scenario becomes that of all executors here.
    fn members(&self, mask: u32) -> u32 {
        if mask == self.shared.plan.everyone() { self.handle.everyone() } else { mask }
    }

    fn alone(&mut self, longest: Duration) {
        spin(Duration::from_nanos(self.random.u64(..longest.as_nanos() as u64)));
    }
}
