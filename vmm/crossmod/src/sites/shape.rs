//! Probe windows as scenarios: is the window legal, or what happens to a CPU that arrives after its first byte?
//!
//! The answer depends on where instructions begin and where CPUs may be, not on what the instructions do, so each is
//! replaced by a NOP of its length. A legal window is patched as the kernel does, with a wait between breakpoint and tail
//! until every CPU has left it. If control may arrive at a byte inside, no wait helps: an executor starts there while the
//! window is patched.

use crossmod_linux::{Hazard, JUMP, ProbeWindow};
use itertools::Itertools;

use crate::scenario::Scenario;

/// Length of the longest NOP that scenarios have a name for, in bytes.
const LONGEST_NOP: u64 = 9;

/// The shape of a window: everything that the verdict depends on.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Shape {
    /// Lengths of its instructions, in bytes.
    pub lengths: Vec<u64>,
    /// Offset of its first byte in a cache line.
    pub offset: u64,
    /// The byte inside at which control may arrive, if the window is illegal for that reason.
    pub arrival: Option<u64>,
}

impl Shape {
    /// The shape of a window; `None` if its hazards do not depend on schedules (another patch, an exception, the
    /// function's end), if control arrives inside an instruction, or if an instruction is longer than the longest NOP.
    pub fn of(window: &ProbeWindow) -> Option<Shape> {
        let arrival = window.hazards.iter().find_map(|hazard| match hazard {
            Hazard::Entered { byte, .. } | Hazard::Returned { byte } => Some(*byte),
            _ => None,
        });
        let ends = window.lengths.iter().scan(0, |end, length| {
            *end += length;
            Some(*end)
        });
        let boundaries: Vec<u64> = ends.zip(&window.lengths).map(|(end, length)| end - length).collect();
        let expressible = window.length >= JUMP
            && window.lengths.iter().all(|length| (1..=LONGEST_NOP).contains(length))
            && arrival.is_none_or(|byte| boundaries.contains(&byte))
            && (arrival.is_some() || window.hazards.is_empty());
        expressible.then(|| Shape { lengths: window.lengths.clone(), offset: window.address % 64, arrival })
    }

    /// The scenario of the shape, with the name of a window.
    pub fn scenario(&self, name: &str) -> Scenario {
        let old = self.lengths.iter().map(|length| format!("\"nop{length}\"")).join(", ");
        let rest: u64 = self.lengths.iter().sum::<u64>() - JUMP;
        let new = ["\"jmp32\""].into_iter().chain((0..rest).map(|_| "\"nop1\"")).join(", ");
        let (expect, start, grace) = match self.arrival {
            None => (
                "expect = \"safe\"\norder = [\"arm\", \"int3\", \"sync-int3\", \"grace\", \"tail\", \"sync-tail\", \
                 \"first\", \"sync-first\", \"disarm\"]",
                String::new(),
                "[[step]]\nlabel = \"grace\"\nquiesce = {}\n",
            ),
            Some(byte) => (
                "expect = [\"torn\", \"interior\", \"unserialised\"]",
                format!("start = {{ interior = {byte} }}\n"),
                "",
            ),
        };
        let text = format!(
            "title = \"whole instructions become a jump\"\nprotocol = \"text_poke_fixup\"\n{expect}\n\
             site = {{ old = [{old}], new = [{new}], offset = {:#x} }}\n\
             [[executor]]\npasses = 1\n{start}[[executor]]\npasses = 1\n{grace}",
            self.offset
        );
        Scenario { name: format!("windows/{name}"), text, path: format!("{name}.toml") }
    }
}

#[cfg(test)]
mod tests {
    use crossmod_linux::Via;

    use super::*;
    use crate::property::Property;
    use crate::scenario::Options;

    fn window(lengths: &[u64], hazards: Vec<Hazard>) -> ProbeWindow {
        let length = lengths.iter().sum();
        ProbeWindow {
            site: "f+0x3e".into(),
            address: 0xffff_ffff_8100_003e,
            length,
            lengths: lengths.to_vec(),
            bytes: String::new(),
            instructions: lengths.len(),
            hazards,
        }
    }

    fn entered(byte: u64) -> Hazard {
        Hazard::Entered { byte, from: "g".into(), via: Via::Branch }
    }

    #[test]
    fn legal_windows_wait_and_entered_ones_have_an_executor_inside() {
        let legal = Shape::of(&window(&[2, 4], Vec::new())).expect("a shape");
        let plan = legal.scenario("f").plan(&Options::default()).expect("a plan");
        assert_eq!((plan.site.len(), plan.site.old.boundaries), (6, vec![0, 2]));
        assert!(plan.expect.is_empty());
        let entered_at_2 = Shape::of(&window(&[2, 3], vec![entered(2)])).expect("a shape");
        let plan = entered_at_2.scenario("f").plan(&Options::default()).expect("a plan");
        assert!(plan.expect.contains(&Property::Interior));
        assert_eq!(plan.executors[0].start, crate::plan::Start::Interior(2));
    }

    #[test]
    fn windows_that_no_schedule_decides_have_no_shape() {
        for (lengths, hazards) in [
            (&[2, 3][..], vec![entered(1)]),
            (&[2, 10], Vec::new()),
            (&[2, 2], vec![Hazard::FunctionEnd { left: 4 }]),
            (&[5], vec![Hazard::Patched { kind: "mcount", byte: 0 }]),
        ] {
            assert_eq!(Shape::of(&window(lengths, hazards)), None, "{lengths:?}");
        }
    }
}
