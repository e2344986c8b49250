//! Transactions seen before, and when each was last published: a cache that forgets what was touched longest ago.

use std::collections::{BTreeMap, HashMap};

use base_prims::Hash;

use crate::Moment;

/// The cache.
#[derive(Debug)]
pub struct Seen {
    capacity: usize,
    next: u64,
    entries: HashMap<Hash, (u64, Option<Moment>)>,
    order: BTreeMap<u64, Hash>,
}

impl Seen {
    /// An empty cache for so many transactions.
    pub fn new(capacity: usize) -> Self {
        Self { capacity, next: 0, entries: HashMap::new(), order: BTreeMap::new() }
    }

    /// Remembers a transaction and when it was published, if it was.
    pub fn put(&mut self, hash: Hash, published: Option<Moment>) {
        if let Some((at, _)) = self.entries.insert(hash, (self.next, published)) {
            self.order.remove(&at);
        }
        self.order.insert(self.next, hash);
        self.next += 1;
        while self.entries.len() > self.capacity {
            let Some((_, oldest)) = self.order.pop_first() else { break };
            self.entries.remove(&oldest);
        }
    }

    /// Whether it was seen.
    pub fn contains(&self, hash: &Hash) -> bool {
        self.entries.contains_key(hash)
    }

    /// When it was last published, if it is known to have been.
    pub fn published(&self, hash: &Hash) -> Option<Moment> {
        self.entries.get(hash).and_then(|(_, published)| *published)
    }

    /// Forgets a transaction.
    pub fn remove(&mut self, hash: &Hash) {
        if let Some((at, _)) = self.entries.remove(hash) {
            self.order.remove(&at);
        }
    }

    /// Number of transactions.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn forgets_what_was_touched_longest_ago() {
        let hash = |n: u8| Hash::new([n; 32]);
        let mut seen = Seen::new(2);
        seen.put(hash(1), None);
        seen.put(hash(2), Some(Duration::from_secs(2)));
        seen.put(hash(1), Some(Duration::from_secs(3)));
        seen.put(hash(3), None);
        assert!(seen.contains(&hash(1)) && !seen.contains(&hash(2)) && seen.contains(&hash(3)));
        assert_eq!((seen.published(&hash(1)), seen.published(&hash(3))), (Some(Duration::from_secs(3)), None));
        seen.remove(&hash(1));
        seen.remove(&hash(9));
        assert!(!seen.contains(&hash(1)) && seen.len() == 1 && seen.order.len() == 1);
    }
}
