//! The store buffer of a vCPU: what it has stored and others do not find yet, oldest first.

use crate::layout::Shared;

/// A store on its way to memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Pending {
    /// To the shared page.
    Shared {
        /// Offset in the page.
        offset: u8,
        /// Bytes.
        len: u8,
        /// What is stored, little-endian.
        value: u64,
    },
    /// To the site.
    Text {
        /// Index among the stores of the plan's programs.
        store: u8,
    },
    /// To a word of the vCPU's own page that the patcher reads. The page of the vCPU holds the new value already.
    Own {
        /// Offset in the private page.
        offset: u8,
        /// What the patcher finds there until the store has left the buffer.
        before: u32,
    },
}

/// The buffer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct StoreBuffer(pub Vec<Pending>);

impl StoreBuffer {
    /// Nothing is on its way.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The shared page as the vCPU itself finds it.
    pub fn over(&self, shared: &Shared) -> Shared {
        let mut page = *shared;
        for pending in &self.0 {
            pending.store(&mut page);
        }
        page
    }

    /// True if a load of these bytes of the shared page can be satisfied. One that needs only a part of its bytes from
    /// the newest store that it meets waits until that store is in memory.
    pub fn satisfies(&self, start: u64, end: u64) -> bool {
        let newest = self.0.iter().rev().find_map(|pending| match *pending {
            Pending::Shared { offset, len, .. } => {
                let (from, to) = (u64::from(offset), u64::from(offset) + u64::from(len));
                (from < end && start < to).then_some((from, to))
            }
            _ => None,
        });
        newest.is_none_or(|(from, to)| from <= start && end <= to)
    }

    /// The stores to the site, oldest first.
    pub fn texts(&self) -> impl DoubleEndedIterator<Item = usize> + '_ {
        self.0.iter().filter_map(|pending| match pending {
            Pending::Text { store } => Some(usize::from(*store)),
            _ => None,
        })
    }

    /// What the patcher finds in a word of the vCPU's own page, where that is not what the page holds.
    pub fn before(&self, word: u64) -> Option<u32> {
        self.0.iter().find_map(|pending| match pending {
            Pending::Own { offset, before } if u64::from(*offset) == word => Some(*before),
            _ => None,
        })
    }

    /// The same, to be changed by the patcher.
    pub fn before_mut(&mut self, word: u64) -> Option<&mut u32> {
        self.0.iter_mut().find_map(|pending| match pending {
            Pending::Own { offset, before } if u64::from(*offset) == word => Some(before),
            _ => None,
        })
    }
}

impl Pending {
    /// Stores it, if it belongs to the shared page.
    pub fn store(&self, page: &mut Shared) {
        if let Pending::Shared { offset, len, value } = *self {
            let (at, len) = (usize::from(offset), usize::from(len));
            page[at..at + len].copy_from_slice(&value.to_le_bytes()[..len]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::SHARED_LEN;

    fn shared(offset: u8, len: u8, value: u64) -> Pending {
        Pending::Shared { offset, len, value }
    }

    #[test]
    fn a_vcpu_finds_its_newest_store() {
        let buffer = StoreBuffer(vec![shared(0, 4, 0x1122_3344), shared(1, 1, 0x55), shared(8, 4, 9)]);
        let page = buffer.over(&[0; SHARED_LEN]);
        assert_eq!((&page[..5], page[8]), (&[0x44, 0x55, 0x22, 0x11, 0][..], 9));
    }

    #[test]
    fn a_load_that_needs_more_than_the_newest_store_waits() {
        let buffer = StoreBuffer(vec![shared(0, 4, 1), shared(1, 1, 2)]);
        assert!(buffer.satisfies(1, 2) && buffer.satisfies(4, 8));
        assert!(!buffer.satisfies(0, 4), "one byte of it is in a newer store");
        assert!(buffer.satisfies(2, 4), "inside the older one");
    }

    #[test]
    fn the_patcher_finds_what_was_before_the_oldest_store() {
        let own = |offset, before| Pending::Own { offset, before };
        let mut buffer = StoreBuffer(vec![own(0x20, 7), own(0x20, 1), own(0x24, 3)]);
        assert_eq!((buffer.before(0x20), buffer.before(0x28)), (Some(7), None));
        *buffer.before_mut(0x20).expect("a store") = 5;
        assert_eq!(buffer.before(0x20), Some(5));
    }
}
