//! A window as a scenario: is it legal, or what happens to a CPU that arrives behind its first byte?
//!
//! What decides is where instructions begin, and where CPUs may stand, not what the instructions do: each is
//! replaced by a NOP of its length. A legal window is exchanged as the kernel does it, with a wait between
//! breakpoint and tail until every CPU has left. Where control may arrive at a byte inside, no wait helps: an
//! executor stands there, and the exchange goes on.

use std::fmt::Write;

use crate::linux::{Hazard, JUMP, Window};
use crate::scenario::Scenario;

/// Longest NOP that scenarios have a name for, in bytes.
const LONGEST_NOP: u64 = 9;

/// What decides about a window: lengths of its instructions, its offset in its page, the byte of an arrival.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Shape {
    /// Lengths of its instructions, in bytes.
    pub lengths: Vec<u64>,
    /// Offset of its first byte in a cache line.
    pub offset: u64,
    /// The byte at which control may arrive, if it is that which stands against it.
    pub arrival: Option<u64>,
}

impl Shape {
    /// The shape of a window; `None` if what stands against it is no matter of schedules (another patch, an
    /// exception, the function's end), if control arrives inside of an instruction, or if an instruction is
    /// longer than a NOP can be.
    pub fn of(window: &Window) -> Option<Shape> {
        let arrival = window.hazards.iter().find_map(|hazard| match hazard {
            Hazard::Entered { byte, .. } | Hazard::Returned { byte } => Some(*byte),
            _ => None,
        });
        let mut at = 0;
        let boundaries: Vec<u64> = window
            .lengths
            .iter()
            .map(|length| {
                at += length;
                at - length
            })
            .collect();
        let expressible = window.length >= JUMP
            && window.lengths.iter().all(|length| (1..=LONGEST_NOP).contains(length))
            && arrival.is_none_or(|byte| boundaries.contains(&byte))
            && (arrival.is_some() || window.hazards.is_empty());
        expressible.then(|| Shape { lengths: window.lengths.clone(), offset: window.address % 64, arrival })
    }

    /// The scenario of the shape; `name` is the window's.
    pub fn scenario(&self, name: &str) -> Scenario {
        let quote = |names: Vec<String>| format!("[{}]", names.join(", "));
        let old = self.lengths.iter().map(|length| format!("\"nop{length}\"")).collect();
        let rest: u64 = self.lengths.iter().sum::<u64>() - JUMP;
        let new = std::iter::once("\"jmp32\"".to_owned()).chain((0..rest).map(|_| "\"nop1\"".to_owned()));
        let mut text =
            String::from("title = \"whole instructions become a jump\"\nprotocol = \"text_poke_fixup\"\n");
        let grace = match self.arrival {
            None => {
                text.push_str("expect = \"safe\"\norder = [\"arm\", \"int3\", \"sync-int3\", \"grace\", \"tail\", \"sync-tail\", ");
                text.push_str("\"first\", \"sync-first\", \"disarm\"]\n");
                "[[step]]\nlabel = \"grace\"\nquiesce = {}\n"
            }
            Some(_) => {
                text.push_str("expect = [\"torn\", \"interior\", \"unserialised\"]\n");
                ""
            }
        };
        let _ = writeln!(
            text,
            "site = {{ old = {}, new = {}, offset = {:#x} }}",
            quote(old),
            quote(new.collect()),
            self.offset
        );
        let start = self.arrival.map_or(String::new(), |byte| format!("start = {{ interior = {byte} }}\n"));
        let _ = write!(text, "[[executor]]\npasses = 1\n{start}[[executor]]\npasses = 1\n{grace}");
        Scenario { name: format!("windows/{name}"), text, path: format!("{name}.toml") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linux::Via;
    use crate::property::Property;
    use crate::scenario::Options;

    fn window(lengths: &[u64], hazards: Vec<Hazard>) -> Window {
        let length = lengths.iter().sum();
        Window {
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
    fn legal_windows_wait_and_entered_ones_have_somebody_inside() {
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
    fn what_no_schedule_decides_has_no_shape() {
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
