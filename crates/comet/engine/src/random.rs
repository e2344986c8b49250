//! Choosing at random what to send first; nothing secret depends on it.

/// A small generator (xorshift64*), seeded by the system.
#[derive(Debug, Clone)]
pub(crate) struct Random(u64);

impl Random {
    /// One seeded by the system's randomness, or by `salt` alone if that fails.
    pub(crate) fn new(salt: u64) -> Self {
        let mut seed = [0; 8];
        let seed = getrandom::fill(&mut seed).map_or(salt, |()| u64::from_le_bytes(seed));
        Self(seed | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// One of the items, each as likely as another.
    pub(crate) fn choose(&mut self, items: impl Iterator<Item = usize>) -> Option<usize> {
        let mut chosen = None;
        for (seen, item) in (1u64..).zip(items) {
            if self.next().is_multiple_of(seen) {
                chosen = Some(item);
            }
        }
        chosen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_item_is_chosen_now_and_then() {
        let mut random = Random::new(7);
        let mut seen = [0; 5];
        for _ in 0..1000 {
            seen[random.choose(0..5).unwrap()] += 1;
        }
        assert!(seen.iter().all(|&count| count > 100), "{seen:?}");
        assert_eq!(random.choose(0..0), None);
    }
}
