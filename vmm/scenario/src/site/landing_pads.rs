//! Landing pads: where control arrives after the site, and which places are possible for them.

use crossmod_abi::{PAGE, va};
use crossmod_model::layout::{in_landing_window, in_site_pages};
use crossmod_model::plan::{Pad, Part, Site};
use iced_x86::{FlowControl, Instruction};

use super::version::Version;
use crate::error::ScenarioError;

/// Bytes of a landing pad: `lea eax, [rax + mark]; ret`.
pub(crate) const PAD: u64 = 4;
const NO_TARGET: &str = "branches may go to any address within 2 GiB of the site";

/// Marks for pads that have no mark of their own: distinct bits, so that the sum in EAX tells which pads a pass went
/// through.
const SPARE: [u8; 7] = [1, 8, 0x40, 2, 4, 0x10, 0x20];

/// Adds the pad that follows a part.
pub(crate) fn after(pads: &mut Vec<Pad>, address: u64, name: String) {
    let free = SPARE.into_iter().find(|mark| pads.iter().all(|pad| pad.mark != *mark));
    pads.push(Pad { address, mark: free.unwrap_or(1), name });
}

/// Adds a pad for every branch that leaves a part; gives the address of the first.
pub(crate) fn add(
    pads: &mut Vec<Pad>,
    site: &Site,
    part: &Part,
    version: &Version,
    name: &str,
    marks: [u8; 2],
) -> Result<Option<u64>, ScenarioError> {
    let mut first = None;
    for instruction in &version.instructions {
        let call = match instruction.flow_control() {
            FlowControl::UnconditionalBranch | FlowControl::ConditionalBranch => false,
            FlowControl::Call => true,
            _ => continue,
        };
        let target = instruction.near_branch_target();
        let offset = target.wrapping_sub(site.address) as usize;
        if site.contains(target) && part.contains(offset) {
            let offset = offset - part.offset;
            if !version.code.boundaries.contains(&offset) {
                return Err(version.place.error(
                    format!("`{instruction}` jumps to byte {offset}, inside another instruction"),
                    "no boundary there",
                    format!("jump to one of the boundaries {:?}, or outside", version.code.boundaries),
                ));
            }
            continue;
        }
        if site.contains(target) && site.entry(offset).is_some() {
            continue;
        }
        if target != site.address + (part.offset + part.len) as u64 {
            first = first.or(Some(target));
        }
        if pads.iter().any(|pad| pad.address == target) {
            continue;
        }
        fits(pads, site, version, instruction, target)?;
        let preferred = marks[usize::from(call)];
        let free = [preferred].into_iter().chain(SPARE).find(|mark| pads.iter().all(|pad| pad.mark != *mark));
        let Some(mark) = free else {
            return Err(version.place.error(
                "too many branches leave the site",
                "too many targets",
                "let several share a target",
            ));
        };
        pads.push(Pad { address: target, mark, name: name.to_owned() });
    }
    Ok(first)
}

fn fits(
    pads: &[Pad],
    site: &Site,
    version: &Version,
    instruction: &Instruction,
    target: u64,
) -> Result<(), ScenarioError> {
    let refuse = |message: String, label: &'static str, help: String| {
        Err(version.place.error(format!("`{instruction}`: {message}"), label, help))
    };
    let pages = va::SITE..va::SITE + 2 * PAGE;
    let inside = pages.contains(&target);
    if !in_landing_window(target) && !in_site_pages(target) {
        return refuse("its target is out of reach".into(), "nowhere", NO_TARGET.into());
    }
    let end = if inside { pages.end } else { target - target % PAGE + PAGE };
    if target + PAD > end {
        return refuse(
            format!("a landing pad at {target:#x} would cross the end of its page"),
            "cut",
            format!("a pad has {PAD} bytes: move the target to page offset {:#x} or below", PAGE - PAD),
        );
    }
    if inside && target < site.address + site.len() as u64 && site.address < target + PAD {
        let message = "its landing pad would overlap the site".to_owned();
        return refuse(message, "too near", format!("a pad has {PAD} bytes: move the target before it"));
    }
    for pad in pads {
        let other_inside = pages.contains(&pad.address);
        let near = if inside || other_inside {
            inside && other_inside && pad.address.abs_diff(target) < PAD
        } else {
            (pad.address % PAGE).abs_diff(target % PAGE) < PAD
        };
        if near {
            return refuse(
                format!("its landing pad at {target:#x} collides with `{}` at {:#x}", pad.name, pad.address),
                "collides",
                if inside {
                    format!("keep targets {PAD} bytes apart from each other and from the end of the site")
                } else {
                    format!(
                        "outside the site's two pages only the low 12 bits of a target count: keep them \
                         {PAD} bytes apart"
                    )
                },
            );
        }
    }
    Ok(())
}
