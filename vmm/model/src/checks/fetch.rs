//! An instruction fetch, and which version of the site it belongs to.

use iced_x86::Instruction;

use crate::plan::{Declared, Plan, Site};
use crate::state::ghost::GhostState;
use crate::state::shared_state::{SharedState, SiteHistory};

/// A fetch about to be executed.
pub struct Fetch<'a> {
    /// The plan.
    pub plan: &'a Plan,
    /// Shared state.
    pub shared_state: &'a SharedState,
    /// The site and its history.
    pub history: &'a SiteHistory,
    /// The executor's bookkeeping.
    pub ghost: &'a GhostState,
    /// Address of the instruction.
    pub rip: u64,
    /// The bytes seen there, to the end of the fetch window.
    pub bytes: &'a [u8],
    /// What they decode to.
    pub instruction: Option<&'a Instruction>,
    /// For fetches inside the site: which version.
    pub version: Option<Version>,
}

/// The version of the site that an instruction belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Version {
    /// Only old has this instruction here.
    Old,
    /// Only new has it.
    New,
    /// Both have it.
    Both,
    /// The protocol's INT3 over a first byte.
    Trap,
    /// A declared intermediate other than INT3.
    Intermediate,
    /// None of them.
    None,
}

/// Which version the bytes at `offset` of the site belong to.
pub fn version_at(site: &Site, offset: usize, bytes: &[u8]) -> Version {
    match site.declared(offset).find(|(_, declared)| bytes.starts_with(declared)) {
        Some((Declared::Both, _)) => Version::Both,
        Some((Declared::Old, _)) => Version::Old,
        Some((Declared::New, _)) => Version::New,
        Some((Declared::Intermediate, [0xcc])) => Version::Trap,
        Some((Declared::Intermediate, _)) => Version::Intermediate,
        None => Version::None,
    }
}

impl Fetch<'_> {
    /// Offset from the site's first byte, for fetches inside it.
    pub fn offset(&self) -> Option<usize> {
        self.plan.site.contains(self.rip).then(|| (self.rip - self.plan.site.address) as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Code, Part};

    #[test]
    fn versions_are_told_apart_at_their_boundaries_only() {
        let code =
            |bytes: &[u8], boundaries: &[usize]| Code { bytes: bytes.into(), boundaries: boundaries.into() };
        let site = Site {
            address: 0,
            old: code(&[0x31, 0xc9, 0x0f, 0x1f, 0x00], &[0, 2]),
            new: code(&[0xe9, 1, 2, 3, 4], &[0]),
            intermediates: vec![vec![0xcc], vec![0xeb, 0xfe]],
            parts: vec![Part::whole(5)],
        };
        assert_eq!(version_at(&site, 0, &[0x31, 0xc9, 0xff]), Version::Old);
        assert_eq!(version_at(&site, 2, &[0x0f, 0x1f, 0x00]), Version::Old);
        assert_eq!(version_at(&site, 0, &[0xe9, 1, 2, 3, 4]), Version::New);
        assert_eq!(version_at(&site, 0, &[0xcc, 1]), Version::Trap);
        assert_eq!(version_at(&site, 0, &[0xeb, 0xfe, 9]), Version::Intermediate);
        assert_eq!(version_at(&site, 2, &[0xcc]), Version::None, "undeclared boundary");
        assert_eq!(version_at(&site, 0, &[0xe9, 1, 2, 3, 5]), Version::None);
        assert_eq!(version_at(&site, 1, &[0xc9]), Version::None);
    }
}
