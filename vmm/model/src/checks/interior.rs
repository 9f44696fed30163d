//! `interior`: no RIP and no saved RIP is inside an instruction of the code now installed.
//!
//! A place inside the site is sound as long as it is a boundary of a version whose instruction there is
//! still, or already, in memory. Between the pieces of a store nothing is installed: there `torn` judges
//! what a fetch finds. An INT3 over the first byte changes nothing for a boundary behind it.

use crate::plan::Plan;
use crate::property::{Property, Violation};
use crate::state::ghost::GhostState;
use crate::state::shared_state::SiteHistory;
use crate::x86::cpu::Cpu;

/// After a store: checks the vCPU's RIP and the RIPs saved in its frames.
pub fn at_commit(plan: &Plan, history: &SiteHistory, cpu: &Cpu, ghost: &GhostState) -> Option<Violation> {
    if let Some(violation) = at_step(plan, history, cpu.regs.rip) {
        return Some(violation);
    }
    ghost
        .saved_rips(cpu, &plan.site)
        .find(|&rip| unsound(plan, history, rip))
        .map(|rip| report(plan, rip, "a saved RIP"))
}

/// After a step: checks RIP.
pub fn at_step(plan: &Plan, history: &SiteHistory, rip: u64) -> Option<Violation> {
    unsound(plan, history, rip).then(|| report(plan, rip, "RIP"))
}

fn unsound(plan: &Plan, history: &SiteHistory, rip: u64) -> bool {
    let site = &plan.site;
    if !site.inside(rip) || history.halfway {
        return false;
    }
    let offset = (rip - site.address) as usize;
    site.version_at(offset, &history.current()[offset..]).is_none()
}

fn report(plan: &Plan, rip: u64, who: &str) -> Violation {
    let offset = rip - plan.site.address;
    Violation::new(
        Property::Interior,
        format!("{who} stands at site+{offset}, inside an instruction of the code now installed"),
    )
}
