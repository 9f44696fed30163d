//! The canonical form of a packed state: the executors of an orbit in the order of their numbers.
//!
//! Exchanging two executors of an orbit leads to the same future with the two exchanged, and no property asks which
//! of them it was. States that differ by such an exchange are therefore explored as one.

use super::visited::Packed;

/// The orbits of a search.
pub(super) struct Symmetry {
    /// For each slot the slots of its orbit, ascending.
    orbits: Vec<Vec<usize>>,
}

impl Symmetry {
    /// The orbits with these numbers, by slot. If not `enabled`, each slot is an orbit of its own.
    pub(super) fn new(numbers: &[u8], enabled: bool) -> Symmetry {
        let slots = 0..numbers.len();
        let same = |one: usize, other: usize| one == other || (enabled && numbers[one] == numbers[other]);
        let orbit = |slot: usize| slots.clone().filter(|&other| same(slot, other)).collect();
        Symmetry { orbits: slots.clone().map(orbit).collect() }
    }

    /// The slots of a slot's orbit that come before it.
    #[inline]
    pub(super) fn before(&self, slot: usize) -> impl Iterator<Item = usize> {
        self.orbits[slot].iter().copied().take_while(move |&peer| peer < slot)
    }

    /// Canonicalizes a state in which every orbit is in order except for the executor in `slot`.
    #[inline]
    pub(super) fn canonicalize_slot<const N: usize>(&self, words: &mut Packed<N>, slot: usize) {
        let orbit = &self.orbits[slot];
        if orbit.len() == 1 {
            return;
        }
        let Some(mut at) = orbit.iter().position(|&peer| peer == slot) else { return };
        let number = words[1 + slot];
        while at > 0 && words[1 + orbit[at - 1]] > number {
            words[1 + orbit[at]] = words[1 + orbit[at - 1]];
            at -= 1;
        }
        while at + 1 < orbit.len() && words[1 + orbit[at + 1]] < number {
            words[1 + orbit[at]] = words[1 + orbit[at + 1]];
            at += 1;
        }
        words[1 + orbit[at]] = number;
    }

    /// Canonicalizes any state.
    pub(super) fn canonicalize<const N: usize>(&self, words: &mut Packed<N>) {
        for (slot, orbit) in self.orbits.iter().enumerate() {
            // Insertion sort: the slots of the orbit before this one are in order.
            let mut at = orbit.iter().take_while(|&&peer| peer < slot).count();
            let number = words[1 + slot];
            while at > 0 && words[1 + orbit[at - 1]] > number {
                words[1 + orbit[at]] = words[1 + orbit[at - 1]];
                at -= 1;
            }
            words[1 + orbit[at]] = number;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn executors_are_ordered_within_their_orbit_only() {
        let canonical = |enabled, mut words: Packed<4>| {
            Symmetry::new(&[0, 1, 0], enabled).canonicalize(&mut words);
            words
        };
        assert_eq!(canonical(true, [9, 7, 1, 5]), [9, 5, 1, 7]);
        assert_eq!(canonical(false, [9, 7, 1, 5]), [9, 7, 1, 5]);
    }

    #[test]
    fn one_slot_out_of_order_is_enough_to_look_at() {
        let symmetry = Symmetry::new(&[0, 0, 0], true);
        for words in [[0, 9, 2, 3], [0, 1, 0, 3], [0, 1, 9, 3], [0, 1, 2, 0], [0, 1, 2, 3]] {
            for slot in 0..3 {
                let mut others: Vec<u32> = words[1..].to_vec();
                others.remove(slot);
                if others.is_sorted() {
                    let (mut one, mut all) = (words, words);
                    symmetry.canonicalize_slot(&mut one, slot);
                    symmetry.canonicalize(&mut all);
                    assert_eq!(one, all, "{words:?}, slot {slot}");
                }
            }
        }
    }
}
