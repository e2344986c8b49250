//! The last few blocks cut into parts.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use wire_cometbft::part_set::PartSet;

/// Most blocks held.
pub const CACHED_BLOCKS: usize = 16;
/// Most bytes held, but for the block used last, which is always held.
pub const CACHED_BYTES: usize = 32 << 20;

/// Blocks in parts, the one used last at the end.
#[derive(Debug, Default)]
pub(super) struct PartCache(Mutex<VecDeque<(i64, Arc<PartSet>)>>);

impl PartCache {
    pub(super) fn get(&self, height: i64) -> Option<Arc<PartSet>> {
        let mut held = self.0.lock();
        let at = held.iter().position(|(other, _)| *other == height)?;
        let found = held.remove(at)?;
        let parts = Arc::clone(&found.1);
        held.push_back(found);
        Some(parts)
    }

    pub(super) fn put(&self, height: i64, parts: Arc<PartSet>) {
        let mut held = self.0.lock();
        held.retain(|(other, _)| *other != height);
        held.push_back((height, parts));
        let bytes =
            |held: &VecDeque<(i64, Arc<PartSet>)>| held.iter().map(|(_, parts)| parts.byte_size()).sum::<usize>();
        while held.len() > CACHED_BLOCKS || held.len() > 1 && bytes(&held) > CACHED_BYTES {
            held.pop_front();
        }
    }

    pub(super) fn drop_below(&self, base: i64) {
        self.0.lock().retain(|(height, _)| *height >= base);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_few_blocks_and_always_the_last() {
        let cache = PartCache::default();
        for height in 0..100 {
            cache.put(height, Arc::new(PartSet::from_bytes(&[1; 100], 65_536)));
        }
        assert_eq!(cache.0.lock().len(), CACHED_BLOCKS);
        assert!(cache.get(0).is_none() && cache.get(99).is_some());
        let large = Arc::new(PartSet::from_bytes(&vec![1; CACHED_BYTES + 1], 65_536));
        cache.put(200, Arc::clone(&large));
        assert_eq!(cache.0.lock().len(), 1);
        cache.put(201, large);
        assert!(cache.get(200).is_none() && cache.get(201).is_some());
        cache.drop_below(202);
        assert!(cache.get(201).is_none());
    }
}
