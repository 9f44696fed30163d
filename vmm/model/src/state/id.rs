//! Numbers of interned values.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;

/// The number that an interner gave to a value of type `T`. Equal values have equal numbers.
///
/// A number depends on the order in which values were met. It must not enter anything that is compared between
/// runs.
pub struct Id<T> {
    number: u32,
    of: PhantomData<fn() -> T>,
}

impl<T> Id<T> {
    /// The value with this number. For interners, and for tables that store plain numbers.
    pub const fn new(number: u32) -> Id<T> {
        Id { number, of: PhantomData }
    }

    /// The number.
    pub const fn number(self) -> u32 {
        self.number
    }

    /// The number, as an index.
    pub const fn index(self) -> usize {
        self.number as usize
    }
}

// Derived implementations would ask the same of `T`.

impl<T> Clone for Id<T> {
    fn clone(&self) -> Id<T> {
        *self
    }
}

impl<T> Copy for Id<T> {}

impl<T> PartialEq for Id<T> {
    fn eq(&self, other: &Id<T>) -> bool {
        self.number == other.number
    }
}

impl<T> Eq for Id<T> {}

impl<T> Hash for Id<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.number.hash(state);
    }
}

impl<T> fmt::Debug for Id<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.number)
    }
}
