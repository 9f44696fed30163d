//! `nmi-frame`: no NMI is delivered while the frame of another is still needed. The NMI stack is fixed: the
//! second frame goes where the first one is.
//!
//! A handler that may be nested copies its frame away first; then the copy is what must stay.

use crossmod_abi::{private, va, vector};

use crate::property::{Property, Violation};
use crate::state::ghost::{Context, GhostState};
use crate::x86::cpu::FRAME;

/// Where the CPU puts the frame of an NMI.
const PLACE: u64 = va::PRIVATE + private::NMI_STACK + private::STACK - FRAME;

/// An NMI that is delivered to the stack on which another one's frame is still in use.
pub fn at_delivery(ghost: &GhostState) -> Option<Violation> {
    let needed = |context: &Context| context.vector == vector::NMI && context.frame == PLACE;
    ghost.contexts.iter().any(needed).then(|| {
        Violation::new(
            Property::NmiFrame,
            "an NMI is delivered inside the NMI handler (a trap's IRET re-opened NMIs) and overwrites its frame",
        )
    })
}

/// An NMI handler has copied its frame over that of another.
pub fn at_copy() -> Violation {
    Violation::new(
        Property::NmiFrame,
        "a nested NMI takes itself for the first, and copies its frame over that of the one it interrupted",
    )
}
