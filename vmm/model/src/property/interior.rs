//! `interior`: no RIP and no saved RIP stands inside an instruction of the code now installed.
//!
//! A place inside the site is sound as long as it is a boundary of a version whose instruction there is
//! still, or already, in memory. Between the pieces of a store nothing is installed: what a fetch would find there is for
//! `torn` to say. An INT3 over the first byte changes nothing for a boundary behind it.

use super::{Property, Violation, fetch};
use crate::plan::Plan;
use crate::state::ghost::GhostState;
use crate::state::shared_state::SiteHistory;
use crate::x86::cpu::Cpu;

/// After a store: is anybody's place gone?
pub fn at_commit(plan: &Plan, text: &SiteHistory, cpu: &Cpu, ghost: &GhostState) -> Option<Violation> {
    if let Some(violation) = at_step(plan, text, cpu.regs.rip) {
        return Some(violation);
    }
    ghost
        .saved_rips(cpu, &plan.site)
        .find(|&rip| unsound(plan, text, rip))
        .map(|rip| report(plan, rip, "a saved RIP"))
}

/// After a step: does it stand at a sound place?
pub fn at_step(plan: &Plan, text: &SiteHistory, rip: u64) -> Option<Violation> {
    unsound(plan, text, rip).then(|| report(plan, rip, "RIP"))
}

fn unsound(plan: &Plan, text: &SiteHistory, rip: u64) -> bool {
    let site = &plan.site;
    if !site.inside(rip) || text.halfway {
        return false;
    }
    let offset = (rip - site.address) as usize;
    fetch::version_at(site, offset, &text.current()[offset..]) == fetch::Version::None
}

fn report(plan: &Plan, rip: u64, who: &str) -> Violation {
    let offset = rip - plan.site.address;
    Violation::new(
        Property::Interior,
        format!("{who} stands at site+{offset}, inside an instruction of the code now installed"),
    )
}
