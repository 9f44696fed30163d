//! Properties of a state: what a fetch may meet, and where executors will continue.

use super::{Bench, Cpu, Place, World};
use crate::checker::case::{self, INT3, Resume};
use crate::checker::fetch::{Commit, View, content, overlaps_recent};

impl Bench<'_> {
    /// The fetch overlaps stores that this executor should have serialised for.
    pub(super) fn unserialised(&self, world: &World, view: &View, byte: usize) -> bool {
        let exempt = |commit: &Commit| self.exempt[commit.step()];
        overlaps_recent(self.case, &world.commits, view.base, &exempt, byte)
    }

    /// Some executor will continue inside the site, not before it.
    pub(super) fn inside(&self, cpu: &Cpu) -> bool {
        cpu.levels.iter().any(|level| match level.place {
            Place::Site(byte) => byte > 0,
            Place::Trapped | Place::Claimed => true,
            Place::Returning => matches!(self.case.resume, Some(Resume::At(byte)) if byte < self.case.len()),
            _ => false,
        })
    }

    /// Some executor will continue inside an instruction of the version that stands there, perhaps behind an
    /// INT3. The frame of a trap counts once the handler has said where to continue. None if somebody stands
    /// inside of the site while it is a mixture: what its instructions are only a decoder can tell.
    pub(super) fn interior(&self, world: &World) -> Option<bool> {
        let standing: Vec<usize> = world
            .cpus
            .iter()
            .flat_map(|cpu| &cpu.levels)
            .filter_map(|level| match (level.place, self.case.resume) {
                (Place::Site(byte), _) | (Place::Returning, Some(Resume::At(byte))) => Some(byte),
                _ => None,
            })
            .filter(|&byte| byte > 0 && byte < self.case.len())
            .collect();
        if standing.is_empty() {
            return Some(false);
        }
        let text = content(self.case, &world.commits);
        let stands = |version: &case::Version| {
            let bytes = case::bytes(version);
            text[1..] == bytes[1..] && (text[0] == bytes[0] || text[0] == INT3)
        };
        let installed = [&self.case.new, &self.case.old].into_iter().find(|one| stands(one))?;
        Some(standing.into_iter().any(|byte| case::at(installed, byte).is_none()))
    }
}
