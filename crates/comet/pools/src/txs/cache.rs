//! Hashes of transactions seen lately, so that each is checked once.
//!
//! Reference: `cometbft:mempool/cache.go`.

use std::collections::{BTreeMap, HashMap};

use wire_cometbft::merkle::Hash;

/// At most so many hashes; the one that was not pushed for the longest time goes first.
#[derive(Debug, Default)]
pub(crate) struct SeenCache {
    capacity: usize,
    /// When each hash was pushed last.
    stamps: HashMap<Hash, u64>,
    by_stamp: BTreeMap<u64, Hash>,
    next: u64,
}

impl SeenCache {
    /// A cache of so many hashes; 0: it remembers nothing.
    pub(crate) fn new(capacity: usize) -> Self {
        Self { capacity, ..Self::default() }
    }

    /// Remembers a hash as the newest; says whether it was not there before.
    pub(crate) fn push(&mut self, hash: Hash) -> bool {
        if self.capacity == 0 {
            return true;
        }
        let stamp = self.next;
        self.next = self.next.wrapping_add(1);
        let before = self.stamps.insert(hash, stamp);
        if let Some(before) = before {
            self.by_stamp.remove(&before);
        } else if self.stamps.len() > self.capacity
            && let Some((_, oldest)) = self.by_stamp.pop_first()
        {
            self.stamps.remove(&oldest);
        }
        self.by_stamp.insert(stamp, hash);
        before.is_none()
    }

    /// Forgets a hash.
    pub(crate) fn remove(&mut self, hash: &Hash) {
        if let Some(stamp) = self.stamps.remove(hash) {
            self.by_stamp.remove(&stamp);
        }
    }

    /// Whether a hash is remembered; does not make it newer.
    pub(crate) fn has(&self, hash: &Hash) -> bool {
        self.stamps.contains_key(hash)
    }

    /// Number of hashes.
    pub(crate) fn len(&self) -> usize {
        self.stamps.len()
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        self.stamps.clear();
        self.by_stamp.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn oldest_goes_first_and_a_push_makes_newer() {
        let mut cache = SeenCache::new(3);
        for n in 0..3 {
            assert!(cache.push([n; 32]));
        }
        assert!(!cache.push([0; 32]), "0 is now the newest");
        assert!(cache.push([3; 32]));
        assert_eq!((0..4).map(|n| cache.has(&[n; 32])).collect::<Vec<_>>(), [true, false, true, true]);
        cache.remove(&[2; 32]);
        cache.remove(&[9; 32]);
        assert_eq!(cache.len(), 2);
        assert!(cache.push([2; 32]));
        for n in 10..200 {
            cache.push([n; 32]);
            assert_eq!((cache.len(), cache.by_stamp.len()), (3, 3));
        }
        cache.clear();
        assert_eq!((cache.len(), cache.by_stamp.len()), (0, 0));
    }

    #[test]
    fn without_capacity_everything_is_new() {
        let mut cache = SeenCache::new(0);
        assert!(cache.push([1; 32]));
        assert!(cache.push([1; 32]));
        assert!(!cache.has(&[1; 32]));
    }
}
