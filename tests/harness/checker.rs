//! Checkers that tests share: making a machine, and giving it back, takes longer than many a search.

use std::cell::Cell;
use std::ops::{Deref, DerefMut};

use crossmod::Checker;

thread_local! {
    /// The one that no test uses. It stays with its thread: so do the vCPUs of its machines.
    static IDLE: Cell<Option<Checker>> = const { Cell::new(None) };
}

/// A checker that earlier tests of this thread may have used, and later ones will.
pub struct Shared(Option<Checker>);

/// Takes the checker of this thread, or makes one.
pub fn checker() -> Shared {
    Shared(Some(IDLE.take().unwrap_or_else(|| Checker::new().unwrap())))
}

impl Deref for Shared {
    type Target = Checker;

    fn deref(&self) -> &Checker {
        self.0.as_ref().unwrap()
    }
}

impl DerefMut for Shared {
    fn deref_mut(&mut self) -> &mut Checker {
        self.0.as_mut().unwrap()
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // After a failure nobody knows what state its machines are in.
        if !std::thread::panicking() {
            IDLE.set(self.0.take());
        }
    }
}
