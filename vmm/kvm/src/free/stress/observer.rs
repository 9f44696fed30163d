//! What an executor shows, and who decides what becomes of its traps.

use crate::free::Pass;

/// The host's decision about a trap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trap {
    /// Continue at this address.
    Resume(u64),
    /// Push a return address, and continue at the target.
    Call {
        /// Where to continue.
        target: u64,
        /// What to push.
        return_to: u64,
    },
    /// The pass ends here.
    Abandon,
}

/// Observes one executor, on its thread.
pub trait Observer: Send {
    /// The passes of a batch, in order.
    fn passes(&mut self, passes: &[Pass]);
    /// A #BP, raised by an INT3 at this address.
    fn trap(&mut self, at: u64) -> Trap;
    /// A fault of the site, an exit, or an endless loop. The pass is abandoned.
    fn fault(&mut self, what: &str, rip: u64);
    /// A handler is about to run the site.
    fn handler_begins(&mut self) {}
    /// The end of a pass on behalf of an NMI (or else a device interrupt): the value that it left in RAX, unless it was
    /// abandoned.
    fn handler_ends(&mut self, _nmi: bool, _value: Option<u64>) {}
}
