//! One step of a vCPU: what is executed, and where it may end.

/// What to do in one step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stimulus {
    /// Execute the instruction at RIP, which a single-step ends after.
    Instruction,
    /// Execute the instruction at RIP, which single-steps run over; it is followed by the one at this address.
    InstructionTo(u64),
    /// Execute the INT3 at RIP.
    Breakpoint,
    /// Deliver an NMI.
    Nmi,
    /// Deliver a maskable interrupt with this vector.
    Interrupt(u8),
    /// Raise a system-management interrupt and come back from it.
    Smi,
    /// Raise a machine check.
    MachineCheck,
}

/// Where a step ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Landing {
    /// At an instruction boundary.
    Boundary,
    /// In the handler of this vector, behind its doorbell.
    Handler(u8),
}
