//! Numbers for values: equal values have equal numbers, and each value's content hash is computed once.

use std::hash::{BuildHasher, Hash, Hasher};
use std::ops::Index;

use crossmod_model::state::Id;
use hashbrown::HashTable;
use rustc_hash::FxBuildHasher;

/// A table of distinct values.
#[derive(Debug)]
pub struct Interner<T> {
    values: Vec<T>,
    digests: Vec<u128>,
    table: HashTable<u32>,
}

impl<T> Default for Interner<T> {
    fn default() -> Self {
        Interner { values: Vec::new(), digests: Vec::new(), table: HashTable::new() }
    }
}

impl<T: Hash + Eq> Interner<T> {
    /// The number of a value. `digest` hashes its content when the value is new.
    pub fn intern(&mut self, value: T, digest: impl FnOnce(&T) -> u128) -> Id<T> {
        let hash = FxBuildHasher.hash_one(&value);
        let values = &self.values;
        if let Some(&found) = self.table.find(hash, |&index| values[index as usize] == value) {
            return Id::new(found);
        }
        let index = self.values.len() as u32;
        self.digests.push(digest(&value));
        self.values.push(value);
        let values = &self.values;
        self.table.insert_unique(hash, index, |&index| FxBuildHasher.hash_one(&values[index as usize]));
        Id::new(index)
    }

    /// All values, by number.
    pub fn values(&self) -> &[T] {
        &self.values
    }

    /// The content hashes of all values, by number.
    pub fn digests(&self) -> &[u128] {
        &self.digests
    }
}

impl<T> Index<Id<T>> for Interner<T> {
    type Output = T;

    fn index(&self, id: Id<T>) -> &T {
        &self.values[id.index()]
    }
}

/// What may enter a content hash: integers, and sequences and tuples of them.
///
/// An [`Id`] may not, because it depends on the order in which values were met. Whoever hashes a structure takes it
/// apart into a tuple, without `..`, so that the compiler finds a new field and refuses a number in it.
pub trait Content: Hash {}

macro_rules! content {
    ($($number:ident)* $(($($part:ident),*))*) => {
        $(impl Content for $number {})*
        $(impl<$($part: Content),*> Content for ($($part,)*) {})*
    };
}

content! {
    bool u8 u16 u32 u64 u128
    (A, B) (A, B, C) (A, B, C, D) (A, B, C, D, E) (A, B, C, D, E, F) (A, B, C, D, E, F, G)
}

impl<T: Content> Content for [T] {}
impl<T: Content, const N: usize> Content for [T; N] {}
impl<T: Content> Content for Vec<T> {}
impl<T: Content + ?Sized> Content for &T {}

/// XXH3 (128 bits) as a [`Hasher`]. Content hashes are stable over runs, hosts and versions, because everything is
/// written field by field in little-endian order.
#[derive(Default)]
struct ContentHasher(xxhash_rust::xxh3::Xxh3);

impl Hasher for ContentHasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        self.0.digest()
    }
}

/// The content hash of a value.
pub fn content_digest(value: &impl Content) -> u128 {
    let mut hasher = ContentHasher::default();
    value.hash(&mut hasher);
    hasher.0.digest128()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_values_have_one_number_and_the_digest_is_taken_once() {
        let mut interner = Interner::default();
        let mut digests = 0;
        for value in [3u64, 5, 3, 5, 3] {
            interner.intern(value, |value| {
                digests += 1;
                content_digest(value)
            });
        }
        assert_eq!((interner.values().len(), digests), (2, 2));
        assert_eq!(interner[Id::new(1)], 5);
        assert_eq!(interner.digests()[0], content_digest(&3u64));
    }

    /// Fails to compile if an [`Id`] becomes [`Content`]: two implementations then apply.
    #[test]
    fn a_number_may_not_enter_a_content_hash() {
        trait Refused<A> {
            fn refused() -> bool {
                true
            }
        }
        impl<T> Refused<()> for T {}
        impl<T: Content> Refused<u8> for T {}
        assert!(<Id<u64> as Refused<_>>::refused());
        assert!(<Vec<Id<u64>> as Refused<_>>::refused());
        assert!(<(Id<u64>, u64) as Refused<_>>::refused());
    }
}
