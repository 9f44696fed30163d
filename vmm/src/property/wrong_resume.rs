//! `wrong-resume`: a pass ends as old would have ended it or as new would have, in every register, flag and
//! stack byte. Both are found by running old and new alone, on KVM, from the same entry.

use super::{Property, Violation};
use crate::cpu::{Cpu, Regs, reg};

/// At the end of a pass. True: this is old's outcome, or new's.
pub(crate) fn at_pass_end(end: &Cpu, old: &Cpu, new: &Cpu) -> (bool, bool, Option<Violation>) {
    // Whether NMIs are open is not the site's outcome: a trap inside an NMI handler re-opens them, and what
    // that can do is `nmi-frame`.
    let same = |other: &Cpu| {
        let regs = Regs { nmi_masked: other.regs.nmi_masked, ..end.regs };
        regs == other.regs && end.private == other.private
    };
    let (is_old, is_new) = (same(old), same(new));
    let violation = (!is_old && !is_new).then(|| {
        let differs = |other: &Cpu| {
            let mut names = Vec::new();
            for (index, name) in NAMES.iter().enumerate() {
                if end.regs.gpr[index] != other.regs.gpr[index] {
                    names.push(format!(
                        "{name} is {:#x}, not {:#x}",
                        end.regs.gpr[index], other.regs.gpr[index]
                    ));
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
    });
    (is_old, is_new, violation)
}

/// At a fault, or at a jump to where no code is, that the site led to.
pub(crate) fn at_fault(what: &str, rip: u64) -> Violation {
    Violation::new(Property::WrongResume, format!("{what} at RIP {rip:#x}: neither old nor new leads there"))
}

const NAMES: [&str; 16] = [
    "RAX", "RCX", "RDX", "RBX", "RSP", "RBP", "RSI", "RDI", "R8", "R9", "R10", "R11", "R12", "R13", "R14",
    "R15",
];

const _: () = assert!(reg::RSP == 4);
