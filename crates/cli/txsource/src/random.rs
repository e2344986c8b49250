//! Random choices that follow from a seed. Pure.

use base_crypto::ed25519::SecretKey;
use base_prims::Hash;

/// A stream of hashes of seed and counter: the same seed makes the same choices.
pub(crate) struct Random {
    seed: Hash,
    counter: u64,
}

impl Random {
    pub(crate) fn new(seed: &str, workload: &str) -> Self {
        let seed = Hash::of(&[b"transaction source", seed.as_bytes(), b"|", workload.as_bytes()]);
        Self { seed, counter: 0 }
    }

    /// 32 bytes.
    pub(crate) fn block(&mut self) -> [u8; 32] {
        self.counter = self.counter.wrapping_add(1);
        *Hash::of(&[self.seed.as_bytes(), &self.counter.to_le_bytes()]).as_bytes()
    }

    pub(crate) fn number(&mut self) -> u64 {
        let block = self.block();
        block.iter().take(8).fold(0, |n, byte| (n << 8) | u64::from(*byte))
    }

    /// Less than `bound`, which counts as 1 if it is 0. The bias of at most `bound / 2^64` does not matter here.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.number() % bound.max(1)
    }

    /// Place in a list of that length; 0 for an empty one.
    pub(crate) fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.below(u64::try_from(len).unwrap_or(u64::MAX))).unwrap_or(0)
    }

    /// True in so many of a hundred cases.
    pub(crate) fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    pub(crate) fn coin(&mut self) -> bool {
        self.below(2) == 0
    }

    pub(crate) fn bytes(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(len + 32);
        while bytes.len() < len {
            bytes.extend_from_slice(&self.block());
        }
        bytes.truncate(len);
        bytes
    }

    pub(crate) fn key(&mut self) -> SecretKey {
        SecretKey::from_seed(&self.block())
    }

    /// The numbers below `len` in random order.
    pub(crate) fn order(&mut self, len: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..len).collect();
        for last in (1..len).rev() {
            let other = self.index(last + 1);
            order.swap(last, other);
        }
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_follow_from_the_seed() {
        let draw = |seed: &str, name: &str| {
            let mut random = Random::new(seed, name);
            (random.number(), random.bytes(40), random.order(10), random.key().public())
        };
        assert_eq!(draw("a", "transfer"), draw("a", "transfer"));
        assert_ne!(draw("a", "transfer"), draw("b", "transfer"));
        assert_ne!(draw("a", "transfer"), draw("a", "queries"));
        let mut random = Random::new("", "");
        let mut order = random.order(10);
        order.sort_unstable();
        assert_eq!(order, (0..10).collect::<Vec<_>>());
        assert!((0..1000).all(|_| random.below(7) < 7));
        assert_eq!((random.below(0), random.index(0), random.bytes(0).len()), (0, 0, 0));
        let heads = (0..1000).filter(|_| random.coin()).count();
        assert!((400..600).contains(&heads), "{heads}");
    }
}
