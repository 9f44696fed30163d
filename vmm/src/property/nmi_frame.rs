//! `nmi-frame`: no NMI is delivered while the frame of another is still needed. The NMI stack is fixed: the
//! second frame goes where the first one stands.

use crossmod_abi::vector;

use super::{Property, Violation};
use crate::explore::monitor::Monitor;

pub(crate) fn at_delivery(monitor: &Monitor) -> Option<Violation> {
    monitor.inside(vector::NMI).then(|| {
        Violation::new(
            Property::NmiFrame,
            "an NMI is delivered inside the NMI handler (a trap's IRET re-opened NMIs) and overwrites its frame",
        )
    })
}
