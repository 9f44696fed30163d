//! The patcher: one round after the other, each from a site that every executor has been serialised for.

use std::sync::atomic::Ordering;
use std::time::Duration;

use crossmod_abi::va;

use super::finding::Event;
use super::watch::Shared;
use crate::machine::MachineError;
use crate::machine::free::{Hands, Waited, spin};
use crate::plan::{Function, OpKind, Word};
use crate::property::Property;

/// Longest pause between two operations, and longest time that executors are left alone about a round.
const PAUSE: Duration = Duration::from_micros(2);
const ALONE: Duration = Duration::from_micros(20);
/// What a move of the step `delay` is at full speed.
const DELAY: Duration = Duration::from_micros(5);

/// How a round ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// At its end.
    Complete,
    /// Somebody did not answer: the run is over.
    Stuck,
    /// By a signal.
    Interrupted,
}

/// The patcher.
pub struct Patching<'a, 'b> {
    pub shared: &'a Shared<'a>,
    pub hands: &'a mut Hands<'b>,
    pub random: fastrand::Rng,
}

impl Patching<'_, '_> {
    /// Performs the scenario's program once.
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
                        self.hands.begun(new);
                    }
                    let bytes = self.numbered(*offset, bytes, new);
                    self.hands.store(site + offset, &bytes);
                    Waited::Done
                }
                OpKind::Armed(armed) => {
                    self.shared.armed.store(*armed, Ordering::SeqCst);
                    Waited::Done
                }
                OpKind::Broadcast { function, mask } => {
                    let mask = self.members(*mask);
                    self.hands.broadcast(*function, mask)?;
                    Waited::Done
                }
                OpKind::WaitAcks { mask } => self.hands.wait_acks(self.members(*mask)),
                OpKind::WaitWord { word: Word::Arrived, value } => {
                    let most = self.hands.everyone().count_ones();
                    let all = *value as usize == self.shared.plan.executors.len();
                    self.hands.wait_arrived(if all { most } else { (*value).min(most) }.into())
                }
                OpKind::SetWord { word: Word::Release, value } => {
                    if *value != 0 {
                        self.hands.release();
                    }
                    Waited::Done
                }
                OpKind::SetWord { word: Word::Arrived, .. } => {
                    self.hands.reset_arrivals();
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
                    self.hands.done(new);
                    Waited::Done
                }
                // Nobody but the patcher writes the words that are left; the hardware does what it does.
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

    /// Puts the old version of a round in place while every executor is held, and serialises them.
    pub fn reset(&mut self, round: u64) -> Result<Ended, MachineError> {
        let (shared, everyone) = (self.shared, self.hands.everyone());
        // Held executors that the program has not let go.
        self.hands.release();
        self.hands.reset_arrivals();
        self.hands.broadcast(Function::Stop, everyone)?;
        let waited = self.hands.wait_arrived(everyone.count_ones().into());
        if let Some(ended) = self.ended(waited, "reset") {
            return Ok(ended);
        }
        let number = 2 * round;
        self.hands.store((shared.plan.site.address - va::SITE) as usize, &shared.versions.bytes(number));
        shared.armed.store(shared.plan.handler.armed_at_start, Ordering::SeqCst);
        shared.freed.store(false, Ordering::SeqCst);
        shared.round.store(round, Ordering::SeqCst);
        shared.begun.store(number, Ordering::SeqCst);
        self.hands.begun(number);
        shared.done.store(number, Ordering::SeqCst);
        self.hands.done(number);
        self.hands.release();
        let waited = self.hands.wait_acks(everyone);
        // Broadcasts of the program count from here.
        self.hands.reset_arrivals();
        Ok(self.ended(waited, "reset").unwrap_or(Ended::Complete))
    }

    fn ended(&self, waited: Waited, step: &str) -> Option<Ended> {
        match waited {
            Waited::Done => None,
            Waited::Interrupted => Some(Ended::Interrupted),
            Waited::Stuck => {
                let event = || Event {
                    property: Property::Deadlock,
                    what: format!("step `{step}` waited for three seconds, and nothing came"),
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

    /// The bytes of a store, with the numbers of this round in place of the scenario's displacements.
    fn numbered(&self, offset: usize, bytes: &[u8], new: u64) -> Vec<u8> {
        let site = &self.shared.plan.site;
        for (code, number) in [(&site.new, new), (&site.old, new - 1)] {
            if code.bytes.get(offset..offset + bytes.len()) == Some(bytes) {
                return self.shared.versions.bytes(number)[offset..offset + bytes.len()].to_vec();
            }
        }
        bytes.to_vec()
    }

    /// Everyone of the scenario is everyone here, however many there are.
    fn members(&self, mask: u32) -> u32 {
        if mask == self.shared.plan.everyone() { self.hands.everyone() } else { mask }
    }

    fn alone(&mut self, longest: Duration) {
        spin(Duration::from_nanos(self.random.u64(..longest.as_nanos() as u64)));
    }
}
