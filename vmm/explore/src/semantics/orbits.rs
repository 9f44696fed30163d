//! Orbits of executors: those that the plan treats alike in everything are interchangeable.
//!
//! Executors of one orbit have the same passes, ring, role and start, and every broadcast, wait and mask names either
//! all of them or none. The guest knows no CPU numbers: private memory is at the same addresses in each. Exchanging
//! two of them in a state therefore leads to the same future with the two exchanged, and no property asks which of
//! them it was.

use crossmod_model::plan::{Executor, OpKind, Plan};

/// The number of each executor's orbit, in the order of their first members.
pub(super) fn orbits(plan: &Plan) -> Vec<u8> {
    let masks: Vec<u32> = plan
        .program
        .iter()
        .filter_map(|op| match op.kind {
            OpKind::Broadcast { mask, .. } | OpKind::WaitAcks { mask } | OpKind::WaitEach { mask, .. } => {
                Some(mask)
            }
            _ => None,
        })
        .collect();
    let alike = |a: usize, b: usize| {
        let Executor { passes, ring, role, start, interrupts_off } = &plan.executors[a];
        let other = &plan.executors[b];
        // Broadcasts of programs that are not yet delivered are kept by slot.
        plan.programs.sends.is_empty()
            && (*passes, *ring, *role, *start) == (other.passes, other.ring, other.role, other.start)
            && *interrupts_off == other.interrupts_off
            && masks.iter().all(|mask| mask >> a & 1 == mask >> b & 1)
    };
    let mut firsts: Vec<usize> = Vec::new();
    (0..plan.executors.len())
        .map(|slot| {
            let orbit = firsts.iter().position(|&first| alike(first, slot)).unwrap_or_else(|| {
                firsts.push(slot);
                firsts.len() - 1
            });
            orbit as u8
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use crossmod_scenario::{self as scenario, Options};

    use super::*;

    fn of(body: &str) -> Vec<u8> {
        let text = format!(
            "title = \"t\"\nexpect = \"safe\"\n{body}\n[site]\nold = \"nop5\"\nnew = \"jmp32\"\noffset = 0x100\n"
        );
        orbits(&scenario::parse("test", &text, &Options::default()).expect("a plan"))
    }

    #[test]
    fn a_mask_or_a_role_separates_executors() {
        let executors = "[executors]\ncount = 3\n";
        assert_eq!(of(&format!("{executors}[[step]]\nsync = {{}}")), [0, 0, 0]);
        assert_eq!(of(&format!("{executors}[[step]]\nsync = {{ to = [1] }}")), [0, 1, 0]);
        let each = "[[executor]]\npasses = 1\n[[executor]]\npasses = 2\n[[executor]]\npasses = 1\n";
        assert_eq!(of(&format!("{each}[[step]]\nsync = {{}}")), [0, 1, 0]);
    }
}
