//! `wrong-resume`: a pass ends as old would have ended it or as new would have, in every register, flag and
//! stack byte. Both are found by running old and new alone, on KVM, from the same entry.

use crate::property::{Property, Violation};
use crate::x86::cpu::{Cpu, Regs, reg};

/// True if a pass that ends so has the outcome of one that ends like `other`.
pub fn same(end: &Cpu, other: &Cpu) -> bool {
    // Whether NMIs are open is not the site's outcome: a trap inside an NMI handler re-opens them, and what
    // that can do is `nmi-frame`.
    let regs = Regs { nmi_masked: other.regs.nmi_masked, ..end.regs };
    regs == other.regs && end.private == other.private
}

/// At the end of a pass that has the outcome of no combination of versions.
pub fn at_pass_end(end: &Cpu, old: Option<&Cpu>, new: Option<&Cpu>) -> Violation {
    let differs = |other: Option<&Cpu>| {
        let Some(other) = other else { return "it has no outcome".to_owned() };
        let mut names = Vec::new();
        for (index, name) in NAMES.iter().enumerate() {
            if end.regs.gpr[index] != other.regs.gpr[index] {
                names.push(format!("{name} is {:#x}, not {:#x}", end.regs.gpr[index], other.regs.gpr[index]));
            }
        }
        if end.regs.rflags != other.regs.rflags {
            names.push(format!("RFLAGS is {:#x}, not {:#x}", end.regs.rflags, other.regs.rflags));
        }
        if end.private != other.private {
            names.push("stack bytes differ".into());
        }
        names.join(", ")
    };
    Violation::new(
        Property::WrongResume,
        format!("against old: {}; against new: {}", differs(old), differs(new)),
    )
}

/// Before a step of the site or of a landing pad, `rise` bytes of which come off the stack: the bytes that were there
/// when the pass began at `entry` belongs to the caller. Executed all the same, a RET would take its address
/// from a foreign frame, or from beyond the stack, where no byte belongs to a state.
pub fn at_stack(rsp: u64, rise: i32, entry: &Cpu) -> Option<Violation> {
    (rise > 0 && rsp.wrapping_add_signed(rise.into()) > entry.regs.gpr[reg::RSP]).then(|| {
        Violation::new(Property::WrongResume, "the pass takes more from the stack than it has put there")
    })
}

/// At a fault, or at a jump to where there is no code, that the site led to.
pub fn at_fault(what: &str, rip: u64) -> Violation {
    Violation::new(Property::WrongResume, format!("{what} at RIP {rip:#x}: neither old nor new leads there"))
}

const NAMES: [&str; 16] = [
    "RAX", "RCX", "RDX", "RBX", "RSP", "RBP", "RSI", "RDI", "R8", "R9", "R10", "R11", "R12", "R13", "R14",
    "R15",
];

const _: () = assert!(reg::RSP == 4);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pass_may_take_its_return_address_and_no_more() {
        let entry = Cpu::at(0x10_0000, 0, 1, false);
        let top = entry.regs.gpr[reg::RSP];
        assert_eq!(at_stack(top - 8, 8, &entry), None, "RET");
        assert_eq!(at_stack(top, -8, &entry), None, "PUSH");
        assert_eq!(at_stack(top, 0, &entry), None);
        assert!(at_stack(top, 8, &entry).is_some());
        assert!(at_stack(top - 8, 16, &entry).is_some(), "RET 8");
    }
}
