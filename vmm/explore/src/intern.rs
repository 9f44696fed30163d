//! Numbers for values: equal values have equal numbers, and each value's content hash is computed once.

use std::hash::{BuildHasher, Hash, Hasher};

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
    /// The number of a value; `digest` gives the hash of its content the first time.
    pub fn intern(&mut self, value: T, digest: impl FnOnce(&T) -> u128) -> u32 {
        let hash = FxBuildHasher.hash_one(&value);
        let values = &self.values;
        if let Some(&found) = self.table.find(hash, |&index| values[index as usize] == value) {
            return found;
        }
        let index = self.values.len() as u32;
        self.digests.push(digest(&value));
        self.values.push(value);
        let values = &self.values;
        self.table.insert_unique(hash, index, |&index| FxBuildHasher.hash_one(&values[index as usize]));
        index
    }

    /// The value with a number.
    pub fn get(&self, index: u32) -> &T {
        &self.values[index as usize]
    }

    /// All values, by number.
    pub fn values(&self) -> &[T] {
        &self.values
    }

    /// The content hash of the value with a number.
    pub fn digest(&self, index: u32) -> u128 {
        self.digests[index as usize]
    }

    /// The content hashes of all values, by number.
    pub fn digests(&self) -> &[u128] {
        &self.digests
    }

    /// How many distinct values there are.
    pub fn len(&self) -> usize {
        self.values.len()
    }
}

/// XXH3 (128 bits) as a [`Hasher`], for content hashes: stable over runs, hosts and versions, because what is
/// hashed is written field by field in little-endian order.
#[derive(Default)]
pub struct ContentHasher(xxhash_rust::xxh3::Xxh3);

impl ContentHasher {
    /// The 128-bit result.
    pub fn digest(&self) -> u128 {
        self.0.digest128()
    }
}

impl Hasher for ContentHasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        self.0.digest()
    }
}

/// Content hash of anything that derives `Hash` from integers, arrays and vectors of them.
pub fn content_digest(value: &impl Hash) -> u128 {
    let mut hasher = ContentHasher::default();
    value.hash(&mut hasher);
    hasher.digest()
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
        assert_eq!((interner.len(), digests), (2, 2));
        assert_eq!(*interner.get(1), 5);
        assert_eq!(interner.digest(0), content_digest(&3u64));
    }
}
