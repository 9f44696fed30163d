//! The states met, packed and spread over shards.
//!
//! A packed state is the number of its global, followed by the numbers of its executors: plain words, which only the
//! tables interpret. Their count is a constant of the search, so that states are compared and copied without a loop.
//! The hash of a state chooses its shard: two workers never insert into the same shard, and the part of a shard's
//! table that one batch touches stays in a cache.

use hashbrown::HashTable;

/// Shards; a power of two, fixed, so that the numbers of states do not depend on how many workers there are.
pub(super) const SHARDS: usize = 64;
/// Bits of a state's number that are its place in its shard.
const LOCAL_BITS: u32 = 26;
/// States that fit into one shard.
pub(super) const SHARD_LIMIT: usize = 1 << LOCAL_BITS;
const FOLD: u64 = 0x9e37_79b9_7f4a_7c15;

/// A state of *N* - 1 executors.
pub(super) type Packed<const N: usize> = [u32; N];

/// Hash of a packed state: each pair of words is folded in by a wide multiplication.
#[inline]
pub(super) fn hash<const N: usize>(words: &Packed<N>) -> u64 {
    let mut hash = FOLD;
    for pair in words.chunks(2) {
        let high = pair.get(1).copied().unwrap_or_default();
        let word = u64::from(pair[0]) | u64::from(high) << 32;
        let wide = u128::from(hash ^ word) * u128::from(FOLD ^ 0x5851_f42d_4c95_7f2d);
        hash = wide as u64 ^ (wide >> 64) as u64;
    }
    hash
}

/// The shard of a hash. Neither the table's bucket nor its tag is made of these bits.
pub(super) fn shard_of(hash: u64) -> usize {
    (hash >> 48) as usize % SHARDS
}

/// Number of a state from its shard and its place there.
pub(super) fn number(shard: usize, local: usize) -> u32 {
    (shard as u32) << LOCAL_BITS | local as u32
}

/// Shard and place of a state.
pub(super) fn place(number: u32) -> (usize, usize) {
    ((number >> LOCAL_BITS) as usize, number as usize & (SHARD_LIMIT - 1))
}

/// One shard.
pub(super) struct Shard<const N: usize> {
    states: Vec<Packed<N>>,
    parents: Vec<u32>,
    table: HashTable<u32>,
}

impl<const N: usize> Shard<N> {
    /// The place of a packed state, and whether it is new.
    #[inline]
    pub(super) fn insert(&mut self, hash: u64, state: &Packed<N>, parent: u32) -> (usize, bool) {
        let states = &self.states;
        if let Some(&local) = self.table.find(hash, |&local| states[local as usize] == *state) {
            return (local as usize, false);
        }
        let local = states.len();
        self.states.push(*state);
        self.parents.push(parent);
        let states = &self.states;
        self.table.insert_unique(hash, local as u32, |&local| self::hash(&states[local as usize]));
        (local, true)
    }

    pub(super) fn len(&self) -> usize {
        self.parents.len()
    }

    fn bytes(&self) -> usize {
        4 * (N * self.states.capacity() + self.parents.capacity()) + self.table.capacity() * 5
    }
}

/// All states met.
pub(super) struct Visited<const N: usize> {
    pub(super) shards: Vec<Shard<N>>,
}

impl<const N: usize> Visited<N> {
    /// None yet.
    pub(super) fn new() -> Visited<N> {
        let shard = || Shard { states: Vec::new(), parents: Vec::new(), table: HashTable::new() };
        Visited { shards: (0..SHARDS).map(|_| shard()).collect() }
    }

    /// Inserts the first state, which is its own parent.
    pub(super) fn begin(&mut self, state: &Packed<N>) -> u32 {
        let hash = hash(state);
        let shard = shard_of(hash);
        let root = number(shard, 0);
        self.shards[shard].insert(hash, state, root);
        root
    }

    /// The packed state with a number.
    pub(super) fn get(&self, number: u32) -> &Packed<N> {
        let (shard, local) = place(number);
        &self.shards[shard].states[local]
    }

    /// The state that a state was first reached from; the first state is its own parent.
    pub(super) fn parent(&self, number: u32) -> u32 {
        let (shard, local) = place(number);
        self.shards[shard].parents[local]
    }

    /// States met.
    pub(super) fn len(&self) -> usize {
        self.shards.iter().map(Shard::len).sum()
    }

    /// True if some shard has no room for `batch` more states.
    pub(super) fn full(&self, batch: usize) -> bool {
        self.shards.iter().any(|shard| shard.len() + batch > SHARD_LIMIT)
    }

    /// Memory in use, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.shards.iter().map(Shard::bytes).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_states_have_one_number_and_keep_their_first_parent() {
        let mut visited = Visited::<3>::new();
        let mut numbers = Vec::new();
        for word in [1u32, 2, 3, 1, 2, 3] {
            let state = [word, 7, word];
            let hash = hash(&state);
            let shard = shard_of(hash);
            let (local, new) = visited.shards[shard].insert(hash, &state, numbers.len() as u32);
            assert_eq!(new, numbers.len() < 3);
            numbers.push(number(shard, local));
        }
        assert_eq!(numbers[..3], numbers[3..]);
        assert_eq!(visited.len(), 3);
        assert_eq!(visited.get(numbers[1]), &[2, 7, 2]);
        assert_eq!(visited.parent(numbers[2]), 2);
        assert_eq!(place(number(63, SHARD_LIMIT - 1)), (63, SHARD_LIMIT - 1));
    }

    #[test]
    fn hashes_spread_over_shards() {
        let mut counts = [0; SHARDS];
        for first in 0..64u32 {
            for second in 0..64u32 {
                counts[shard_of(hash(&[first, second]))] += 1;
            }
        }
        assert!(counts.iter().all(|count| (32..128).contains(count)), "{counts:?}");
    }
}
