//! Seeded random streams: the same seed gives the same numbers on every machine.

/// One stream of random numbers (SplitMix64).
#[derive(Debug, Clone)]
pub struct Rng(u64);

/// Mixes a number into a running digest.
pub fn mix(digest: u64, value: u64) -> u64 {
    let mut rng = Rng(digest ^ value.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    rng.draw()
}

impl Rng {
    /// The stream of a seed and a purpose; streams of other purposes do not depend on how much of this one is used.
    pub fn new(seed: u64, purpose: &str) -> Self {
        Self(purpose.bytes().fold(mix(0, seed), |digest, byte| mix(digest, u64::from(byte))))
    }

    /// The next number.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`; 0 if `bound` is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        if bound == 0 { 0 } else { self.draw() % bound }
    }

    /// A number from `from` to `to`, both included.
    pub fn range(&mut self, from: u64, to: u64) -> u64 {
        from + self.below(to - from + 1)
    }

    /// True so many times in a thousand.
    pub fn per_mille(&mut self, chance: u64) -> bool {
        self.below(1000) < chance
    }
}
