//! Passes through the site: what is committed to it, what a fetch sees of that, and the trap handler.

use super::{ARMED, Bench, Label, Next, Origin, Outcome, Pass, Place, World, plain};
use crate::checker::case::Flow;
use crate::checker::fetch::{Commit, Exempt, Order, Seen, content, overlaps_recent};

impl Bench<'_> {
    /// A store enters the history of the site.
    pub(super) fn commit(&self, world: &mut World, slot: usize, at: usize, bytes: &[u8]) {
        let site = &self.case.site;
        let before = content(site, &world.commits)[at];
        let exempt = Exempt::of(site, self.amd(), at, bytes, before);
        for piece in self.model.pieces(site, world.commits.len(), at, bytes) {
            world.commits.push(piece.renumbered(world.commits.len()));
            world.origins.push(Origin { slot, exempt });
            if self.amd() {
                self.sees(world, slot, &piece);
            }
        }
    }

    /// A CPU sees its own stores: AMD APM, volume 2, section 7.6.1.
    fn sees(&self, world: &mut World, slot: usize, piece: &Commit) {
        let (site, commits) = (&self.case.site, world.commits.len());
        let block = (site.offset + piece.place().start) / self.model.atom - site.offset / self.model.atom;
        let clock = if self.model.order == Order::Block { block } else { 0 };
        if let Some(clock) = world.cpus[slot].view.clocks.get_mut(clock) {
            *clock = commits;
        }
    }

    pub(super) fn serialise(&self, world: &mut World, slot: usize) {
        world.cpus[slot].view = self.model.serialised(&self.case.site, world.commits.len());
    }

    /// A fetch of the site, which is one instruction.
    pub(super) fn fetch(&self, world: &World, slot: usize, nexts: &mut Vec<Next>) {
        let cpu = &world.cpus[slot];
        // Who sees its own stores, sees them once they are in memory.
        if (self.amd() || !self.model.stale) && cpu.stores_text() {
            return;
        }
        let Some(Pass { after_done, new_before, .. }) =
            cpu.levels.last().and_then(|level| level.pass.clone())
        else {
            return;
        };
        let own = |origin: &Origin| self.amd() && origin.slot == slot;
        let exempt = |commit: &Commit| {
            let origin = world.origins[commit.step()];
            if own(&origin) { Exempt::Always } else { origin.exempt }
        };
        // A store to what has been fetched makes its CPU fetch again, from memory as it is then: nothing before is missed.
        let sees_up_to = world.origins.iter().rposition(own).map_or(0, |last| last + 1);
        let sees: Vec<bool> = (0..world.commits.len()).map(|index| index < sees_up_to).collect();
        let site = &self.case.site;
        let unserialised = overlaps_recent(site, &world.commits, cpu.view.base, &exempt, 0);
        for (seen, view) in self.model.fetches_seeing(site, &world.commits, &sees, &cpu.view, 0) {
            // The trap waits until the buffer is empty.
            if seen == Seen::Int3 && !cpu.buffer.is_empty() {
                continue;
            }
            let mut next = plain(Label::Fetch(slot, seen), world.clone());
            next.violated.extend(unserialised.then_some("unserialised"));
            match seen {
                Seen::Torn => next.violated.push("torn"),
                Seen::Int3 => next.violated.extend(after_done.then_some("stale")),
                Seen::Old(_) => {
                    next.violated.extend(after_done.then_some("stale"));
                    next.violated.extend(new_before.then_some("order"));
                }
                Seen::New(_) => {}
            }
            match (seen, &mut next.world) {
                (Seen::Old(one) | Seen::New(one), Some(world)) => {
                    assert!(one.flow == Flow::Jump || one.bytes.len() == site.len(), "one instruction");
                    world.cpus[slot].view = view;
                    next.outcome = Some(end(world, slot, matches!(seen, Seen::New(_)), false));
                }
                (Seen::Int3, Some(world)) => {
                    world.cpus[slot].view = view;
                    world.cpus[slot].pass().at = Place::Trapped;
                }
                (_, ended) => *ended = None,
            }
            nexts.push(next);
        }
    }

    /// The built-in trap handler: if it is armed, it continues as the new version does.
    pub(super) fn handle(&self, world: &World, slot: usize, nexts: &mut Vec<Next>) {
        let mut next = world.clone();
        let label = Label::Handler(slot);
        let (mut violated, mut outcome) = (Vec::new(), None);
        if next.cpus[slot].pass().at == Place::Claimed {
            self.serialise(&mut next, slot);
            outcome = Some(end(&mut next, slot, true, true));
        } else if world.words[ARMED] == 1 {
            next.cpus[slot].pass().at = Place::Claimed;
        } else {
            violated.push("unclaimed-trap");
        }
        let world = violated.is_empty().then_some(next);
        nexts.push(Next { label, world, violated, outcome });
    }
}

/// A pass ends.
fn end(world: &mut World, slot: usize, new: bool, trapped: bool) -> Outcome {
    let cpu = &mut world.cpus[slot];
    cpu.seen_new |= new;
    let level = cpu.top();
    let outcome = Outcome { slot, function: level.function, step: level.at, new, trapped };
    (level.pass, level.at) = (None, level.at + 1);
    outcome
}
